"""medseg: medical image segmentation from the command line, in one direction from scan to report.

source → volume → preprocess → augment → train → predict → restore → evaluate → report
"""

__version__ = "0.1.0"

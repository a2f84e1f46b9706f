"""The fault corpus: scans and datasets, each made wrong in one way, and the code that tells it.

Faults are made from synthetic scans, small and awkward ones. Sound scans that look odd stand among them: a check that
cries wolf has to fail as one that sleeps does.
"""

from faults.datasets import DATASETS, DatasetFault
from faults.dicom import DICOM
from faults.fault import Fault
from faults.itk import ITK
from faults.nifti import NIFTI
from faults.values import VALUES
from faults.zips import ZIPS

SCANS: list[Fault] = [*NIFTI, *VALUES, *ITK, *DICOM, *ZIPS]

__all__ = ["DATASETS", "SCANS", "DatasetFault", "Fault"]

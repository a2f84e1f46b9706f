"""Say whether a file that was written earlier opens."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom


def opens(path: Path) -> bool:
    """Say whether a file's header opens: NIfTI with a shape and an affine, DICOM with the class of what it holds.

    Other files, such as pictures, have no header to look at, and count when they are there.
    """
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            image = nib.load(path)
            return len(image.shape) >= 3 and bool(np.isfinite(image.affine).all())
        if name.endswith(".dcm"):
            return "SOPClassUID" in pydicom.dcmread(path, stop_before_pixels=True)
        return path.is_file()
    except Exception:  # nibabel, zlib and pydicom raise a dozen kinds for bytes that are no such file
        return False

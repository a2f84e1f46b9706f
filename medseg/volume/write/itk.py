"""Write NRRD and MHA files through SimpleITK."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.labels import LabelSet
from medseg.volume.geometry import LPS_TO_RAS, Geometry


def save_itk(array: NDArray[Any], geometry: Geometry, path: Path, labels: LabelSet | None = None) -> None:
    """Write channels, shape (C, I, J, K), as one 3D image; more than one channel makes vector voxels.

    Names and colours of labels go into a NRRD file as 3D Slicer writes its segments; MHA has no place for them.

    Raises:
        OSError: SimpleITK could not write.
    """
    import SimpleITK as sitk  # its 50 ms are spared where no scan needs it

    lps = LPS_TO_RAS @ geometry.affine
    spatial = np.ascontiguousarray(array.transpose(3, 2, 1, 0))
    image = sitk.GetImageFromArray(spatial[..., 0] if len(array) == 1 else spatial, isVector=len(array) > 1)
    image.SetSpacing(geometry.spacing_mm)
    image.SetDirection((lps[:3, :3] / np.array(geometry.spacing_mm)).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    for number, label in enumerate(labels or () if path.name.lower().endswith(".nrrd") else ()):
        image.SetMetaData(f"Segment{number}_ID", f"Segment_{label.id}")
        image.SetMetaData(f"Segment{number}_Name", label.name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(label.id))
        image.SetMetaData(f"Segment{number}_Layer", "0")
        image.SetMetaData(f"Segment{number}_Color", " ".join(f"{part / 255:.6g}" for part in label.colour))
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error

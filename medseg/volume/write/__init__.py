"""Write volumes and label maps; the suffix chooses the format, and each file appears whole or not at all."""

from pathlib import Path

from medseg.atomic import whole
from medseg.errors import OptionError
from medseg.labels import LabelSet
from medseg.volume.label_map import LabelMap
from medseg.volume.source import SUFFIXES
from medseg.volume.volume import Volume
from medseg.volume.write.itk import save_itk
from medseg.volume.write.nifti import save_nifti

__all__ = ["write_image"]


def write_image(image: Volume | LabelMap, path: Path, labels: LabelSet | None = None) -> None:
    """Write an image on its own grid as .nii, .nii.gz, .nrrd or .mha.

    Args:
        image: a scan or a label map.
        path: the file.
        labels: of a label map: their names and colours travel in the header of .nii, .nii.gz and .nrrd.

    Raises:
        OptionError: another suffix.
        UnwritableError: no permission or no space; nothing is left behind.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES) or name.endswith(".mhd"):
        raise OptionError(
            f"writing {path}", found="its suffix names no format", remedy="end the name in .nii.gz, .nrrd or .mha"
        )
    array = image.array[None] if isinstance(image, LabelMap) else image.array
    save = save_nifti if name.endswith((".nii", ".nii.gz")) else save_itk
    with whole(path) as temporary:
        save(array, image.geometry, temporary, labels)

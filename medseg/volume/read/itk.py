"""Read NRRD, MHA and MHD files through SimpleITK, and turn its LPS images into volumes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from isal import igzip, isal_zlib

from medseg.errors import CorruptFileError, DimensionError, NoAffineError, SingularAffineError
from medseg.volume.geometry import LPS_TO_RAS, Geometry
from medseg.volume.plausible import check_size, leaning_remarks
from medseg.volume.read.detached import is_nrrd, read_header
from medseg.volume.volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

# What a header needs to place its voxels; MetaImage has several names for one thing.
NRRD_PLACE = (("space",), ("space directions",), ("space origin",))
META_PLACE = (
    ("transformmatrix", "rotation", "orientation"),
    ("offset", "origin", "position"),
    ("elementspacing", "elementsize"),
)
# NRRD's other spaces are the scanner's, or nobody's.
PATIENT_SPACES = {"right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "ras", "las", "lps"}


def read_itk(path: Path) -> Volume:
    """Read any file that SimpleITK reads; a fourth axis or a vector voxel becomes the channels.

    Raises:
        CorruptFileError: SimpleITK cannot read it, it is shorter than its header says, or its checksum does not hold.
        NoAffineError: the header lacks directions, origin or spacing, or means another space than the patient's.
        SingularAffineError: the directions squeeze space flat.
        SizeError: the scan is larger than any body.
        DimensionError: fewer than three axes, or more than four.
    """
    import SimpleITK as sitk  # its 50 ms are spared where no scan needs it

    _check_file(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if is_nrrd(path) else "MetaImageIO")  # by content, whatever the suffix
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        if "Bad direction" in str(error):
            raise SingularAffineError(
                f"placing {path} in the patient",
                found="the directions in its header squeeze space flat",
                remedy="repair the header, or convert the scan from its DICOM again",
            ) from error
        raise CorruptFileError(
            f"reading {path}", found=last_line(error), remedy="copy it again from its source"
        ) from error
    return volume_of(image)


def _check_file(path: Path) -> None:
    """Check what SimpleITK passes over in silence.

    Without directions it takes the patient for upright; and it ignores the checksums of compressed voxels, so that a
    damaged file would read as noise.
    """
    nrrd = is_nrrd(path)
    with path.open("rb") as file:
        header = read_header(file, path, nrrd)
        needed = NRRD_PLACE if nrrd else META_PLACE
        missing = [names[0] for names in needed if not set(names) & header.keys()]
        if missing:
            raise NoAffineError(
                f"placing {path} in the patient",
                found=f"its header lacks {' and '.join(missing)}",
                remedy="set them once you know the scan's orientation, or convert from DICOM again",
            )
        space = header.get("space", "").strip().lower()
        if nrrd and space.removesuffix("-time").removesuffix("t") not in PATIENT_SPACES:
            raise NoAffineError(
                f"placing {path} in the patient",
                found=f"its header says where it lies in {space!r}, which is no space of the patient",
                remedy="set it once you know the scan's orientation, or convert from DICOM again",
            )
        try:
            if nrrd and header.get("encoding") in ("gzip", "gz") and "data file" not in header:
                igzip.decompress(file.read())
            elif header.get("compresseddata") == "True":
                place = header["elementdatafile"]
                isal_zlib.decompress(file.read() if place == "LOCAL" else (path.parent / place).read_bytes())
        except (EOFError, OSError, isal_zlib.error) as error:  # type: ignore[misc]  # isal's stub is wrong
            raise CorruptFileError(
                f"unzipping {path}", found=f"the voxels are damaged ({error})", remedy="copy it again from its source"
            ) from error


def last_line(error: Exception) -> str:
    """Return the part of an ITK message that says what happened: its last line, but for a guess at the reason."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    return lines[-1].rpartition("): ")[2].strip() if lines else type(error).__name__


def volume_of(image: "sitk.Image") -> Volume:
    """Return an ITK image, 3D or 4D, as a volume.

    ITK's arrays are (z, y, x) with voxel components last; its directions and origin are LPS.
    """
    if image.GetDimension() not in (3, 4):
        raise DimensionError(
            "reading an image",
            found=f"it has {image.GetDimension()} dimensions",
            remedy="give a 3D volume, or a 4D one whose last axis counts channels",
        )
    import SimpleITK as sitk

    array = sitk.GetArrayFromImage(image)
    components = image.GetNumberOfComponentsPerPixel() > 1
    spatial = array if components else array[..., None]
    if image.GetDimension() == 4:
        spatial = np.moveaxis(spatial, 0, -2).reshape(*array.shape[1:4], -1)
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    lps = np.eye(4)
    lps[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    lps[:3, 3] = image.GetOrigin()[:3]
    channels = spatial.transpose(3, 2, 1, 0)
    if channels.dtype == np.float64:
        with np.errstate(over="ignore"):  # becomes infinite, which is an error of its own
            channels = channels.astype(np.float32)
    _, i, j, k = channels.shape
    geometry = Geometry((i, j, k), LPS_TO_RAS @ lps)
    check_size(geometry)
    return Volume(channels, geometry, leaning_remarks(geometry))

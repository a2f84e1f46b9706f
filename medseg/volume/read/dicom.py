"""Read a DICOM series: the slices of one acquisition, in a folder of its own or beside others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medseg.errors import CorruptFileError, NoAffineError, SliceSpacingError
from medseg.volume.geometry import Geometry
from medseg.volume.read.itk import LPS_TO_RAS, volume_of
from medseg.volume.source import is_dicom
from medseg.volume.volume import Volume

# How far the step from one slice to the next may differ from the others; scanners round positions to about 0.01 mm.
UNEVEN_TOLERANCE_MM = 0.1
POSITION_KEY = "0020|0032"  # Image Position (Patient): the centre of the first voxel, LPS


def series_files(folder: Path) -> list[list[Path]]:
    """Return the files of each series in a folder, slices in order along the slice normal.

    GDCM passes over slices that it cannot parse. They are put at the end of every series, so that reading it fails
    instead of giving a scan with a slice less.
    """
    marked = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and is_dicom(file))
    reader = sitk.ImageSeriesReader()
    try:
        with _quiet():
            uids = reader.GetGDCMSeriesIDs(str(folder))
            series = [[Path(name) for name in reader.GetGDCMSeriesFileNames(str(folder), uid)] for uid in sorted(uids)]
    except RuntimeError:
        return [marked]
    listed = {file.name for files in series for file in files}
    kinds = {_sop_class(files[0]) for files in series} | {None}
    damaged = [file for file in marked if file.name not in listed and _sop_class(file) in kinds]
    return [files + damaged for files in series]


def _sop_class(path: Path) -> bytes | None:
    """Return a file's Media Storage SOP Class UID (PS3.10, section 7.1), or None when it ends before that."""
    with path.open("rb") as file:
        _, _, rest = file.read(1024).partition(b"\x02\x00\x02\x00UI")
    size = int.from_bytes(rest[:2], "little")
    return rest[2 : 2 + size] if len(rest) >= 2 + size > 2 else None


def read_series(files: Sequence[Path]) -> Volume:
    """Read the slices of one series into a volume; rescale slope and intercept are applied.

    The step from slice to slice comes from their positions, so that a tilted gantry's sheared grid is kept.

    Raises:
        CorruptFileError: a slice cannot be decoded, or slices differ in size.
        NoAffineError: a slice does not say where it lies.
        SliceSpacingError: slices are missing or unevenly spaced.
    """
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    reader.MetaDataDictionaryArrayUpdateOn()
    folder = files[0].parent
    try:
        with _quiet():
            image = reader.Execute()
    except RuntimeError as error:
        raise CorruptFileError(
            f"reading the DICOM series in {folder}",
            found=_complaint(files),
            remedy="export the series again from its archive",
        ) from error
    volume = volume_of(image)
    if len(files) == 1:
        return volume
    affine = np.array(volume.geometry.affine)
    affine[:3, 2] = LPS_TO_RAS[:3, :3] @ _slice_step(_positions(reader, files), folder)
    return Volume(volume.array, Geometry(volume.geometry.shape, affine))


def _complaint(files: Sequence[Path]) -> str:
    """Return why a series cannot be read, naming the first slice to blame; ITK's message names none."""
    for file in files:
        try:
            sitk.ReadImage(str(file))
        except RuntimeError:
            return f"its slice {file.name} is damaged"
    return "its slices differ in size"


def _positions(reader: sitk.ImageSeriesReader, files: Sequence[Path]) -> NDArray[np.float64]:
    """Return where each slice's first voxel lies, LPS, shape (slices, 3)."""
    positions = np.empty((len(files), 3))
    for number, file in enumerate(files):
        text = reader.GetMetaData(number, POSITION_KEY) if reader.HasMetaDataKey(number, POSITION_KEY) else ""
        try:
            positions[number] = [float(part) for part in text.split("\\")]
        except ValueError as error:
            raise NoAffineError(
                f"placing {file} in the patient",
                found=f"its Image Position (Patient) is {text!r} instead of three numbers",
                remedy="remove it from the series, or export the series again from its archive",
            ) from error
    return positions


def _slice_step(positions: NDArray[np.float64], folder: Path) -> NDArray[np.float64]:
    """Return the step from one slice to the next in mm, LPS, or raise SliceSpacingError where it changes."""
    steps = np.diff(positions, axis=0)
    usual = np.median(steps, axis=0)
    worst = int(np.linalg.norm(steps - usual, axis=1).argmax())
    if np.linalg.norm(steps[worst] - usual) > UNEVEN_TOLERANCE_MM:
        gap_mm, usual_mm = np.linalg.norm(steps[worst]), np.linalg.norm(usual)
        raise SliceSpacingError(
            f"reading the DICOM series in {folder}",
            found=f"slices {worst + 1} and {worst + 2} lie {gap_mm:.2f} mm apart where {usual_mm:.2f} mm is usual: "
            "slices are missing, doubled or uneven",
            remedy="export the complete series again from its archive",
        )
    return np.asarray(steps.mean(axis=0))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's warnings off the terminal; what matters in them is raised as an error."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)

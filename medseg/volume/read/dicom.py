"""Read a DICOM series: its slices, decoded by GDCM, at the places their headers give them."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import get_expected_length

from medseg.errors import CorruptFileError
from medseg.processor import cores
from medseg.volume.dicom.series import Layout, Series
from medseg.volume.dicom.slices import Slice
from medseg.volume.dicom.stored import StoredFile, on_disk
from medseg.volume.volume import Volume

# Decoding a compressed slice takes 10 to 20 ms, and GDCM runs beside other threads.
MOST_DECODERS = 8
FRAME_RESCALING = "PixelValueTransformationSequence"


def read_series(series: Series, *, allow_gaps: bool = False) -> Volume:
    """Read the slices of a series into a volume; rescale slope and intercept are applied to each slice by its own.

    The step from slice to slice comes from their positions, so that a tilted gantry's leaning grid is kept.

    Args:
        series: from `sort_files`.
        allow_gaps: fill missing slices between their neighbours, instead of failing.

    Raises:
        CorruptFileError: a slice cannot be decoded.
        NoAffineError, MissingSliceError, DoubleSliceError, SliceSpacingError: from `Series.layout`.
    """
    layout = series.layout(allow_gaps=allow_gaps)
    decoded = _decode(series)
    planes = [_plane(slice_, decoded[slice_.file]) for slice_ in series.slices]
    stack = np.empty((layout.geometry.shape[2], *series.slices[0].shape), np.result_type(*planes))
    for k, plane in zip(layout.planes, planes, strict=True):
        stack[k] = plane
    _fill_gaps(stack, layout)
    array = stack.astype(np.float32) if stack.dtype == np.float64 else stack
    return Volume(array.transpose(2, 1, 0)[None], layout.geometry, layout.remarks)


def _decode(series: Series) -> dict[StoredFile, NDArray[Any]]:
    """Return the stored planes of each file, shape (frames, rows, columns)."""
    special = {slice_.file: slice_.frame is not None or slice_.negative for slice_ in series.slices}
    with _quiet(), on_disk(list(special)) as paths, ThreadPoolExecutor(min(MOST_DECODERS, cores())) as pool:
        arrays = pool.map(_decode_file, special, paths, special.values(), [series.slices[0].shape] * len(special))
        return dict(zip(special, arrays, strict=True))


def _decode_file(file: StoredFile, path: Path, special: bool, shape: tuple[int, int]) -> NDArray[Any]:
    try:
        array = _voxels_of_copy(path) if special else _voxels(path)
        return array.reshape(-1, *shape)
    except (RuntimeError, ValueError, EOFError, AttributeError) as error:
        raise CorruptFileError(
            f"reading the slice {file}",
            found=f"its slice {file.name} is damaged ({_reason(error)})",
            remedy="export the series again from its archive",
        ) from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("): ")[2][:120] if lines else type(error).__name__


def _voxels(path: Path) -> NDArray[Any]:
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO")))


def _voxels_of_copy(path: Path) -> NDArray[Any]:
    """Return the voxels of a multi-frame file as they are stored, or of a file that is shown as a negative.

    GDCM applies the first frame's slope and intercept to all of them, and turns the values of a negative (MONOCHROME1)
    around, so it is given a copy that says neither; and it takes what lies in memory for frames that a plain file
    lacks, so they are counted.
    """
    with pydicom.config.disable_value_validation(), tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        dataset = pydicom.dcmread(path, force=True)
        if not dataset.file_meta.TransferSyntaxUID.is_compressed:
            promised = get_expected_length(dataset)
            if len(dataset.PixelData) < promised:
                raise EOFError(f"it holds {len(dataset.PixelData)} bytes of voxels where {promised} are promised")
        for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            for group in dataset.get(name, ()):
                if FRAME_RESCALING in group:
                    delattr(group, FRAME_RESCALING)
        dataset.PhotometricInterpretation = "MONOCHROME2"
        copy = Path(folder, "copy.dcm")
        dataset.save_as(copy)
        return _voxels(copy)


def _plane(slice_: Slice, frames: NDArray[Any]) -> NDArray[Any]:
    """Return one slice's values, shape (rows, columns)."""
    if slice_.frame is None or slice_.rescale is None:
        return np.asarray(frames[0])
    plane = frames[slice_.frame]
    slope, intercept = slice_.rescale
    if slope == 1 and intercept == int(intercept):
        return np.asarray(plane.astype(np.int32) + int(intercept)) if intercept else np.asarray(plane)
    return np.asarray(plane * np.float64(slope) + intercept)


def _fill_gaps(stack: NDArray[Any], layout: Layout) -> None:
    """Fill the planes that no slice has, linearly between their neighbours."""
    for low, high in pairwise(layout.planes):
        for k in range(low + 1, high):
            share = (k - low) / (high - low)
            between = stack[low] * (1 - share) + stack[high] * share
            stack[k] = np.rint(between) if stack.dtype.kind in "iu" else between


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's warnings off the terminal; what matters in them is raised as an error."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)

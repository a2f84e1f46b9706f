"""Prepare a scan: choose the prepared grid, read the scan there, scale its intensities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.preprocess.body import body_box
from medseg.recipe import Preprocess
from medseg.volume import Geometry, Volume, resample

# A channel that varies by less than this part of its mean is constant: resampling leaves float32's rounding on it.
CONSTANT = 1e-6
# Values that are normalised at a time (float64: 8 MB, and twice that on the way).
BLOCK_VALUES = 2**20


def prepare(volume: Volume, settings: Preprocess) -> Volume:
    """Return the scan on the prepared grid, with the intensities the network expects.

    The way home needs no record: it is `resample` from the returned geometry to the scan's own.

    Args:
        volume: a scan on its own grid.
        settings: the recipe's section.

    Returns:
        float32; 0 to 1 for a window in HU, otherwise mean 0 and standard deviation 1 for each channel (all 0 where a
        channel is constant).
    """
    geometry = prepared_geometry(volume, settings)
    # Straightening slices that lean leaves corners that no slice covers; they get a channel's lowest value, air.
    fill = volume.array.min(axis=(1, 2, 3), keepdims=True)
    array = resample(volume.array, source=volume.geometry, target=geometry, fill=fill, low_pass=settings.low_pass)
    return Volume(scale_intensities(array, settings.window_hu), geometry)


def prepared_geometry(volume: Volume, settings: Preprocess) -> Geometry:
    """Return the grid a scan is prepared on: cropped, at right angles, reoriented, respaced."""
    geometry, array = volume.geometry, volume.array
    if settings.crop == "body" and settings.window_hu is not None:
        start, stop = body_box(array, geometry)
        array = array[(slice(None), *map(slice, start, stop))]
        geometry = geometry.crop(start, stop)
    if settings.crop != "none":
        low = None if settings.window_hu is None else settings.window_hu[0]
        geometry = geometry.crop(*foreground_box(array, low))
    geometry = geometry.upright().reorient(settings.orientation)
    return geometry if settings.spacing_mm is None else geometry.with_spacing(settings.spacing_mm)


def foreground_box(array: NDArray[Any], low: float | None) -> tuple[list[int], list[int]]:
    """Return start and stop of the box that holds every voxel above `low` in any channel of (C, I, J, K).

    Without a `low` it holds every voxel that is not 0, for tissue may be negative. Where there is none, the box is the
    whole grid.
    """
    above = np.any(array != 0 if low is None else array > low, axis=0)
    start, stop = [0, 0, 0], list(above.shape)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hits = np.flatnonzero(above.any(axis=others))
        if hits.size:
            start[axis], stop[axis] = int(hits[0]), int(hits[-1]) + 1
    return start, stop


def scale_intensities(array: NDArray[np.float32], window_hu: tuple[float, float] | None) -> NDArray[np.float32]:
    """Return intensities, shape (C, ...), as the network expects them.

    With a window: clip((x − low) / (high − low), 0, 1). Without: (x − mean) / standard deviation, for each channel.
    """
    if window_hu is not None:
        low, high = window_hu
        windowed: NDArray[np.float32] = ((array - np.float32(low)) / np.float32(high - low)).clip(0, 1)
        return windowed
    normalised = np.empty(array.shape, np.float32)
    for values, out in zip(array.reshape(len(array), -1), normalised.reshape(len(array), -1), strict=True):
        _normalise(values, out)
    return normalised


def _normalise(values: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write values with mean 0 and standard deviation 1; 0 where they are constant. In float64, some at a time."""
    mean = float(values.mean(dtype=np.float64))
    parts = [slice(start, start + BLOCK_VALUES) for start in range(0, len(values), BLOCK_VALUES)]
    squares = (np.square(values[part].astype(np.float64) - mean).sum() for part in parts)
    std = float(np.sqrt(sum(squares) / len(values)))
    scale = 1 / std if std > CONSTANT * abs(mean) else 0.0
    for part in parts:
        out[part] = (values[part].astype(np.float64) - mean) * scale

"""Read voxels at another grid's centres.

Two grids that share their axes, permuted or flipped, differ along each axis alone, and resampling an axis is a matrix:
a row per target voxel, holding the weights of the source voxels it reads. Everything else (order, edges, low-pass)
lives in the weights. Grids at an angle to each other go through scipy, block by block.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.volume.geometry import Geometry

# Grids whose axes drift apart by less than this over their whole length count as parallel, in source voxels.
PARALLEL_TOLERANCE_VOXELS = 1e-2
# Rounding in headers must not push a grid's own edge outside of it.
EDGE_TOLERANCE_VOXELS = 1e-2
BLOCK_POINTS = 2_000_000


def resample(
    array: NDArray[Any],
    *,
    source: Geometry,
    target: Geometry,
    order: int = 1,
    fill: float = 0.0,
    low_pass: bool = True,
) -> NDArray[Any]:
    """Return the values of `array` at the voxel centres of another grid.

    Args:
        array: shape (..., I, J, K) on the source grid.
        source: the grid the array lies on.
        target: the grid to read it at.
        order: 0 nearest neighbour, the only one for label maps; 1 linear; 3 cubic B-spline.
        fill: the value outside the source's voxels. A voxel reaches half its size beyond its centre, and its value with
            it.
        low_pass: average before shrinking, so that fine detail does not alias. Nearest neighbour never averages.

    Returns:
        Shape (..., *target.shape): the array's own dtype for order 0, otherwise float32.
    """
    to_source = np.linalg.inv(source.affine) @ target.affine
    if source.shape == target.shape and np.abs(to_source - np.eye(4)).max() * max(source.shape) < 1e-6:
        return array.copy() if order == 0 else array.astype(np.float32)
    pairing = _paired_axes(to_source, target.shape)
    if pairing is None or order > 1:
        return _resample_oblique(array, to_source, target, order=order, fill=fill, low_pass=low_pass)
    positions = [
        to_source[axis, partner] * np.arange(target.shape[partner]) + to_source[axis, 3]
        for axis, partner in enumerate(pairing)
    ]
    if order == 0:
        values = _take_nearest(array, positions)
    else:
        steps = [abs(float(to_source[axis, partner])) for axis, partner in enumerate(pairing)]
        values = _interpolate(array, positions, [max(1.0, step) if low_pass else 1.0 for step in steps])
    lead = array.ndim - 3
    for axis, at in enumerate(positions):
        outside = _outside(at, source.shape[axis])
        if outside.any():
            values[(slice(None),) * (lead + axis) + (outside,)] = fill
    moved = [lead + pairing.index(axis) for axis in range(3)]
    return np.ascontiguousarray(values.transpose(*range(lead), *moved))


def _paired_axes(to_source: NDArray[np.float64], shape: tuple[int, int, int]) -> list[int] | None:
    """Return for each source axis the target axis parallel to it, or None for grids at an angle."""
    reach = np.abs(to_source[:3, :3]) * (np.array(shape) - 1).clip(1)
    pairing = [int(axis) for axis in np.abs(to_source[:3, :3]).argmax(axis=1)]
    if sorted(pairing) != [0, 1, 2]:
        return None
    for axis, partner in enumerate(pairing):
        reach[axis, partner] = 0
    return pairing if reach.max() < PARALLEL_TOLERANCE_VOXELS else None


def _outside(at: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """Return which positions along an axis no source voxel covers."""
    reach = 0.5 + EDGE_TOLERANCE_VOXELS
    return np.asarray((at < -reach) | (at > size - 1 + reach))


def _take_nearest(array: NDArray[Any], positions: list[NDArray[np.float64]]) -> NDArray[Any]:
    for axis, at in enumerate(positions, start=array.ndim - 3):
        nearest = np.floor(at + 0.5).astype(np.intp).clip(0, array.shape[axis] - 1)
        array = np.take(array, nearest, axis=axis)
    return array


def _interpolate(array: NDArray[Any], positions: list[NDArray[np.float64]], widths: list[float]) -> NDArray[np.float32]:
    """Apply one matrix per axis, the ones that shrink most first, so that the rest has less to do."""
    lead = array.ndim - 3
    values = array
    for axis in sorted(range(3), key=lambda a: len(positions[a]) / array.shape[lead + a]):
        size = array.shape[lead + axis]
        first, weights = axis_weights(positions[axis], size, widths[axis])
        values = values[(slice(None),) * (lead + axis) + (slice(first, first + weights.shape[1]),)]
        values = _apply(weights, values.astype(np.float32, copy=False), axis)
    return values


def axis_weights(at: NDArray[np.float64], size: int, width: float) -> tuple[int, NDArray[np.float32]]:
    """Return the matrix that reads an axis of `size` voxels at the given positions.

    The kernel is a triangle that reaches `width` voxels to each side: 1 is linear interpolation, and the step between
    positions, where it is larger, a low pass.

    Returns:
        The first source voxel that is read, and weights of shape (positions, voxels read from there on); rows sum to 1.
    """
    inner = at.clip(0, size - 1)
    first = int(np.floor(inner.min() - width).clip(0))
    last = int(np.ceil(inner.max() + width).clip(0, size - 1))
    voxels = np.arange(first, last + 1)
    weights = (1.0 - np.abs(inner[:, None] - voxels[None, :]) / width).clip(0)
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _apply(weights: NDArray[np.float32], values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Multiply one of the last three axes by a matrix, without moving the others."""
    if axis == 2:
        return np.asarray(values @ weights.T)
    if axis == 1:
        return np.asarray(weights @ values)
    *lead, size, j, k = values.shape
    flat = np.ascontiguousarray(values).reshape(*lead, size, j * k)
    return np.asarray(weights @ flat).reshape(*lead, len(weights), j, k)


def _resample_oblique(
    array: NDArray[Any],
    to_source: NDArray[np.float64],
    target: Geometry,
    *,
    order: int,
    fill: float,
    low_pass: bool,
) -> NDArray[Any]:
    """Resample between grids at an angle, or with splines, a block of target planes at a time."""
    *lead, ni, nj, nk = array.shape
    channels = array.reshape(-1, ni, nj, nk)
    if order > 0:
        channels = channels.astype(np.float32)
        if low_pass:
            channels = _smooth(channels, to_source)
    values = np.full((len(channels), *target.shape), fill, channels.dtype)
    planes = max(1, BLOCK_POINTS // (target.shape[1] * target.shape[2]))
    for start in range(0, target.shape[0], planes):
        stop = min(start + planes, target.shape[0])
        block = target.crop((start, 0, 0), (stop, *target.shape[1:])).shape
        index = np.indices(block, np.float64).reshape(3, -1)
        index[0] += start
        at = (to_source[:3, :3] @ index + to_source[:3, 3:]).reshape(3, *block)
        outside = np.any([_outside(at[axis], size) for axis, size in enumerate((ni, nj, nk))], axis=0)
        for channel, out in zip(channels, values, strict=True):
            read = ndimage.map_coordinates(channel, at, order=order, mode="nearest")
            out[start:stop] = np.where(outside, np.asarray(fill, out.dtype), read)
    return values.reshape(*lead, *target.shape)


def _smooth(channels: NDArray[np.float32], to_source: NDArray[np.float64]) -> NDArray[np.float32]:
    """Blur each source axis as much as the target's larger voxels would.

    A voxel's aperture is taken as a Gaussian whose full width at half maximum is its size, so shrinking by a factor f
    wants σ = √(f² − 1) / 2.355 source voxels (Cardoso et al., MICCAI 2015, "Scale factor point spread function
    matching").
    """
    step = np.abs(to_source[:3, :3]).max(axis=1)
    sigma = np.sqrt((step**2 - 1).clip(0)) / 2.355
    if not sigma.any():
        return channels
    return np.asarray(ndimage.gaussian_filter(channels, (0, *sigma), mode="nearest"))

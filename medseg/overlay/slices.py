"""Which slices to show: where the labels are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.labels import Label


def count_ids(ids: NDArray[Any]) -> NDArray[np.int64]:
    """Count the voxels of every id in every slice.

    Args:
        ids: label ids, shape (columns, rows, slices).

    Returns:
        Voxels, shape (slices, highest id + 1). Counted slice by slice, so that a large scan is never copied.
    """
    width = int(ids.max(initial=0)) + 1
    counts = [np.bincount(ids[:, :, index].ravel(), minlength=width) for index in range(ids.shape[2])]
    return np.array(counts, np.int64).reshape(ids.shape[2], width)


def count_label(counts: NDArray[np.int64], label: Label) -> NDArray[np.int64]:
    """Return a label's voxels in every slice, shape (slices,), from what `count_ids` returned."""
    parts = [part for part in label.parts if part < counts.shape[1]]
    return np.asarray(counts[:, parts].sum(axis=1))


def choose_slices(areas: NDArray[np.int64], most: int) -> list[int]:
    """Return up to `most` slices, evenly over the labelled ones, the one with the largest area among them.

    Args:
        areas: labelled voxels of each slice, shape (slices,). With nothing labelled, slices come from the whole scan.
        most: at least 1.

    Returns:
        Increasing indices. Each stands in the middle of its share, so that the labels' thin ends take no tiles.
    """
    candidates = np.flatnonzero(areas) if areas.any() else np.arange(len(areas))
    shares = np.linspace(0, len(candidates), min(most, len(candidates)) + 1)
    chosen = candidates[((shares[:-1] + shares[1:] - 1) / 2).round().astype(int)]
    if areas.any():
        largest = int(areas.argmax())
        chosen[np.abs(chosen - largest).argmin()] = largest
    return [int(index) for index in chosen]


def span_slices(areas: NDArray[np.int64], *, margin: int, most: int) -> list[int]:
    """Return the labelled slices and `margin` more at either end, thinned evenly to `most`; all if none is labelled."""
    labelled = np.flatnonzero(areas) if areas.any() else np.arange(len(areas))
    first, last = int(labelled[0]), int(labelled[-1])
    first, last = max(first - margin, 0), min(last + margin, len(areas) - 1)
    count = min(most, last - first + 1)
    return [int(index) for index in np.linspace(first, last, count).round()]

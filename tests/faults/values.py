"""Scans whose intensities are wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from phantoms import save_nifti

from faults.fault import fault
from faults.nifti import INTERCEPT, SLOPE, Make, patched, scan
from medseg.volume import Volume

Values = NDArray[np.int16]


def valued(change: Callable[[Values], NDArray[np.generic]]) -> Make:
    """Return what writes a scan with other values; it is given int16 HU from −1000 to 1000."""

    def make(folder: Path, volume: Volume) -> None:
        save_nifti(scan(folder, ".nii.gz"), change(volume.array[0]), volume.geometry.affine)

    return make


def holding(value: float, dtype: type = np.float32) -> Make:
    """Return what writes a scan in which one voxel has this value."""

    def change(values: Values) -> NDArray[np.generic]:
        changed = values.astype(dtype)
        changed[3, 2, 1] = value
        return changed

    return valued(change)


def standardised(values: Values) -> NDArray[np.float32]:
    """Return values of mean 0 and standard deviation 1."""
    return ((values - values.mean()) / values.std()).astype(np.float32)


def padded(values: Values) -> Values:
    """Return a scan whose corners lie outside the scanner's circle."""
    changed = values.copy()
    changed[:2, :2] = changed[-2:, -2:] = -3024
    return changed


VALUES = [
    fault("nan", holding(np.nan), "E_NOT_FINITE"),
    fault("infinity", holding(np.inf), "E_NOT_FINITE"),
    fault("infinity below", holding(-np.inf), "E_NOT_FINITE"),
    fault("beyond what floats hold", holding(1e300, np.float64), "E_NOT_FINITE"),
    fault("nan everywhere", valued(lambda values: np.full(values.shape, np.nan, np.float32)), "E_NOT_FINITE"),
    fault("one value", valued(lambda values: np.full_like(values, -1024)), "W_CONSTANT"),
    fault("one slice", valued(lambda values: values[:, :, :1]), "W_SINGLE_SLICE"),
    fault("slope below zero", patched(SLOPE, "<f", -1), "W_SLOPE"),
    fault("slope that is no number", patched(SLOPE, "<f", np.nan), "W_SLOPE"),
    fault("slope without end", patched(SLOPE, "<f", np.inf), "W_SLOPE"),
    fault("slope of zero, which is none", patched(SLOPE, "<f", 0)),
    fault("intercept that is no number", patched(INTERCEPT, "<f", np.nan), "E_CORRUPT"),
    fault("stored with its slope and intercept", patched(SLOPE, "<2f", 0.5, 12)),
    # a CT in other units
    fault("grey values of 8 bits", valued(lambda values: ((values + 1000) / 8).astype(np.uint8)), "W_NOT_HU"),
    fault("normalised to 0 and 1", valued(lambda v: ((v + 1000) / 2000).astype(np.float32)), "W_NOT_HU"),
    fault("normalised to -1 and 1", valued(lambda values: (values / 1000).astype(np.float32)), "W_NOT_HU"),
    fault("standardised", valued(standardised), "W_NOT_HU"),
    fault("without its intercept", valued(lambda values: (values + 1024).astype(np.uint16)), "W_NOT_HU"),
    fault("without its intercept, padded", valued(lambda v: padded(v + 1024)), "W_NOT_HU"),
    fault("with its intercept twice", valued(lambda values: (values.clip(max=900) - 1024).astype(np.int16)),
          "W_NOT_HU"),
    fault("padded outside the circle", valued(padded)),
    fault("cut to a window", valued(lambda values: values.clip(-160, 240))),
    fault("floats in HU", valued(lambda values: (values + 0.25).astype(np.float32))),
    fault("metal", holding(30000, np.int16)),
]  # fmt: skip

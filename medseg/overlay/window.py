"""Window: the intensities a picture spreads over its greys."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import OptionError

# The abdomen's window on a CT console: width 400, centre 40.
SOFT_TISSUE_HU = (-160.0, 240.0)
# A scan is in Hounsfield units when at least one voxel in a hundred is air and few are denser than bone.
AIR_HU, DENSE_HU = -500.0, 3500.0
PERCENTILES = (1.0, 99.0)
SAMPLE_VOXELS = 1_000_000


@dataclass(frozen=True)
class Window:
    """The range of intensities that is shown, black at `low` and white at `high`.

    Attributes:
        low: in the scan's own unit.
        high: above `low`.
        unit: "HU", or empty where the intensities have none.
    """

    low: float
    high: float
    unit: str

    def __str__(self) -> str:
        return f"window {_number(self.low)} to {_number(self.high)} {self.unit}".rstrip()

    def grey(self, intensities: NDArray[Any]) -> NDArray[np.uint8]:
        """Return greys, 0 to 255, of any shape; voxels that are no number are black."""
        share = (np.asarray(intensities, np.float64) - self.low) / (self.high - self.low)
        return np.asarray(np.rint(np.nan_to_num(share).clip(0, 1) * 255).astype(np.uint8))


def find_window(intensities: NDArray[Any], asked: tuple[float, float] | None) -> Window:
    """Return the window asked for, or one that suits the scan.

    Args:
        intensities: the scan, shape (I, J, K); percentiles are taken from about a million of its voxels.
        asked: low and high; None takes the soft-tissue window for a scan in Hounsfield units, and otherwise the 1st and
            99th percentiles, which a few bright vessels or a damaged voxel do not move.

    Raises:
        OptionError: low is not below high.
    """
    step = max(1, int(np.ceil((intensities.size / SAMPLE_VOXELS) ** (1 / 3))))
    sample = intensities[::step, ::step, ::step]
    sample = sample[np.isfinite(sample)]
    low, high = (float(p) for p in np.percentile(sample, PERCENTILES)) if sample.size else (0.0, 0.0)
    unit = "HU" if low <= AIR_HU and high <= DENSE_HU else ""
    if asked is not None:
        _check(asked)
        return Window(float(asked[0]), float(asked[1]), unit)
    if unit:
        return Window(*SOFT_TISSUE_HU, unit)
    if low == high:
        low, high = _range(intensities)
    return Window(low, high if high > low else low + 1, unit)


def _check(asked: tuple[float, float]) -> None:
    low, high = asked
    if not (np.isfinite(asked).all() and low < high):
        raise OptionError(
            f"window {low:g},{high:g}",
            found="its low end is not below its high end",
            remedy="give the darkest and the brightest value to show, such as -160,240",
        )


def _range(intensities: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest finite value, or zeros: for a scan that is empty but for a few voxels."""
    finite = intensities[np.isfinite(intensities)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

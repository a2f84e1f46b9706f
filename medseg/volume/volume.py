"""Volume: an image with its geometry."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import DimensionError, NotFiniteError
from medseg.remarks import Remark
from medseg.volume.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and the grid they lie on.

    Attributes:
        array: intensities, shape (C, I, J, K), one channel for CT. Integers as they were stored, or float32.
        geometry: the grid; its shape is (I, J, K).
        remarks: what its reader noticed that is worth knowing, although the scan can be used.
    """

    array: NDArray[Any]
    geometry: Geometry
    remarks: tuple[Remark, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[1:] != self.geometry.shape:
            raise DimensionError(
                "making a volume",
                found=f"an array of shape {self.array.shape} for a grid of {self.geometry.shape}",
                remedy="give the array as (channels, I, J, K)",
            )

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return int(self.array.shape[0])

    def check_finite(self) -> None:
        """Raise NotFiniteError when a voxel is NaN or infinite; integers always pass."""
        if not np.issubdtype(self.array.dtype, np.floating):
            return
        bad = int(self.array.size - np.count_nonzero(np.isfinite(self.array)))
        if bad:
            raise NotFiniteError(
                "looking at the voxels",
                found=f"{bad} of {self.array.size} are NaN or infinite",
                remedy="replace them by the value of the surroundings (air is −1024 in CT, 0 in MR) and try again",
            )

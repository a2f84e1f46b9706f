"""Volume: voxels that fit their grid."""

import numpy as np
import pytest
from phantoms import house_geometry, house_volume

from medseg.errors import DimensionError, NotFiniteError
from medseg.volume import Volume


def test_a_volume_counts_its_channels():
    assert house_volume(channels=3).channels == 3


@pytest.mark.parametrize("shape", [(11, 8, 6), (1, 8, 11, 6), (1, 1, 11, 8, 6), (1, 11, 8)])
def test_voxels_that_do_not_fit_their_grid_are_refused(shape):
    with pytest.raises(DimensionError, match="channels, I, J, K"):
        Volume(np.zeros(shape), house_geometry())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_no_number_is_counted(value):
    volume = house_volume(dtype=np.float32)
    volume.check_finite()
    volume.array[0, 3, 2, 1] = value
    with pytest.raises(NotFiniteError, match="1 of 528"):
        volume.check_finite()


def test_integers_are_always_finite():
    house_volume(dtype=np.int16).check_finite()

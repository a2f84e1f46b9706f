"""Facts about the body's box: the patient is in it, and the table is not."""

import numpy as np
import pytest
from phantoms import all_orientations

from medseg.preprocess import prepare
from medseg.preprocess.body import body_box
from medseg.recipe import Preprocess
from medseg.volume import Geometry, Volume

AIR, WATER = -1000, 0


def patient(*, table: bool = True) -> Volume:
    """Return a scan of 400 × 300 × 80 mm: an ellipse of a body, lungs in it, on a thin table."""
    geometry = Geometry((200, 150, 20), np.diag([-2.0, -2.0, 4.0, 1.0]))
    i, j, _ = np.indices(geometry.shape)
    across = ((i - 90) / 70.0) ** 2 + ((j - 60) / 45.0) ** 2
    array = np.where(across < 1, WATER, AIR)
    array[(across < 0.3) & (i < 90)] = -850  # a lung
    if table:
        array[5:195, 120:123] = 200
        array[3:8, 110:123] = 200
    return Volume(array.astype(np.int16)[None], geometry)


def test_the_whole_body_is_in_the_box_and_neither_table_nor_much_air() -> None:
    scan = patient()
    start, stop = body_box(scan.array, scan.geometry)
    body = np.argwhere((scan.array[0] > -900) & (np.indices(scan.geometry.shape)[1] < 108))
    body = body[(body[:, 0] >= 20) & (body[:, 0] <= 160)]
    assert (start <= body.min(axis=0)).all()
    assert (stop > body.max(axis=0)).all()
    assert stop[0] - start[0] < 141 + 4 * 8
    assert stop[1] < 120
    assert (start[2], stop[2]) == (0, 20)


@pytest.mark.parametrize("orientation", all_orientations()[::7])
def test_the_box_is_the_same_however_the_scan_is_stored(orientation: str) -> None:
    scan = patient()
    turned = scan.geometry.reorient(orientation)
    order = [int(np.abs(np.linalg.inv(turned.affine) @ scan.geometry.affine)[axis, :3].argmax()) for axis in range(3)]
    flips = [
        axis + 1 for axis in range(3) if (np.linalg.inv(turned.affine) @ scan.geometry.affine)[axis, order[axis]] < 0
    ]
    array = np.flip(scan.array.transpose(0, *(axis + 1 for axis in order)), flips)
    settings = Preprocess(window_hu=(-100, 100), crop="body")
    sizes = [prepare(volume, settings).geometry.shape for volume in (scan, Volume(array, turned))]
    assert np.abs(np.subtract(*sizes)).max() <= 4


def test_where_nobody_is_the_box_is_everything() -> None:
    empty = Volume(np.full((1, 9, 8, 7), AIR, np.int16), Geometry((9, 8, 7), np.eye(4)))
    assert body_box(empty.array, empty.geometry) == ([0, 0, 0], [9, 8, 7])


def test_without_a_window_the_body_is_all_that_is_not_zero() -> None:
    array = np.zeros((1, 9, 8, 7), np.float32)
    array[:, 2:5, 3:7, 1:4] = 5
    prepared = prepare(Volume(array, Geometry((9, 8, 7), np.eye(4))), Preprocess(crop="body"))
    assert prepared.geometry.shape == (3, 4, 3)

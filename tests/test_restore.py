"""Facts about coming home: logits on a prepared grid become labels on the scan's own, whatever lies between."""

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from phantoms import all_orientations, geometries, house_geometry, house_label_map
from scipy import ndimage

from medseg.errors import NotFiniteError
from medseg.labels import Label, LabelSet
from medseg.pointwise import Pointwise
from medseg.preprocess.prepare import prepared_geometry
from medseg.recipe import Head, Preprocess
from medseg.restore import Restorer, on_gpu, restore
from medseg.restore import on_cpu as restore_module
from medseg.volume import Geometry, LabelMap, Volume, resample

CONSTANTS = ("BLOCK_VOXELS", "SLANTED_VOXELS", "BLURRED_VALUES", "BORDER_VALUES", "CLASS_VOXELS")
LABELS = LabelSet.from_names({0: "background", 1: "spleen", 2: "kidney", 5: "liver"})


def one_hot(ids: NDArray[np.unsignedinteger], labels: LabelSet = LABELS, head: Head = "softmax") -> NDArray[np.float32]:
    """Return logits of 5 where a label is and −5 elsewhere, background first for a softmax head."""
    masks = [labels.mask(ids, label) for label in labels]
    if head == "softmax":
        masks.insert(0, ~np.any(masks, axis=0))
    return np.where(np.stack(masks), 5, -5).astype(np.float32)


def there_and_back(label_map: LabelMap, asked: Preprocess, head: Head = "softmax") -> LabelMap:
    """Take a label map to its prepared grid and, as logits, home again."""
    scan = Volume(np.zeros((1, *label_map.geometry.shape), np.uint8), label_map.geometry)
    prepared = prepared_geometry(scan, asked)
    ids = resample(label_map.array, source=label_map.geometry, target=prepared, order=0)
    return restore(one_hot(ids, head=head), source=prepared, target=label_map.geometry, labels=LABELS, head=head)


def blob(geometry: Geometry) -> LabelMap:
    """Return a smooth ellipsoid that fills much of a grid."""
    place = np.indices(geometry.shape).reshape(3, -1).T
    offset = (place - (np.array(geometry.shape) - 1) * 0.45) / (np.array(geometry.shape) * 0.33)
    return LabelMap(((offset**2).sum(axis=1) <= 1).reshape(geometry.shape).astype(np.uint8), geometry)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(one & other) / max(1, np.count_nonzero(one) + np.count_nonzero(other)))


# Exactly home


@pytest.mark.parametrize("tilt_degrees", [(0.0, 0.0, 0.0), (8.0, -12.0, 17.0)], ids=["straight", "tilted"])
@pytest.mark.parametrize("orientation", all_orientations())
def test_from_every_orientation_labels_come_home_to_the_voxel(
    orientation: str, tilt_degrees: tuple[float, float, float]
) -> None:
    label_map = house_label_map(geometry=house_geometry(orientation=orientation, tilt_degrees=tilt_degrees))
    assert label_map.ids() == {0, 1, 2, 5}
    for head in ("softmax", "sigmoid"):
        restored = there_and_back(label_map, Preprocess(), head)
        assert restored.geometry is label_map.geometry
        np.testing.assert_array_equal(restored.array, label_map.array)


@given(geometry=geometries())
@settings(deadline=None, max_examples=60)
def test_any_grid_gets_its_labels_back_where_voxel_centres_are_shared(geometry: Geometry) -> None:
    label_map = house_label_map(geometry=geometry)
    restored = there_and_back(label_map, Preprocess(orientation="SLA"))
    np.testing.assert_array_equal(restored.array, label_map.array)
    np.testing.assert_array_equal(restored.geometry.affine, geometry.affine)


@given(geometry=geometries(smallest=12, largest=16))
@settings(deadline=None, max_examples=25)
def test_over_another_spacing_labels_come_home_to_about_a_voxel(geometry: Geometry) -> None:
    label_map = blob(geometry)
    finer = np.array(prepared_geometry(Volume(label_map.array[None], geometry), Preprocess()).spacing_mm) * 0.7
    restored = there_and_back(label_map, Preprocess(spacing_mm=tuple(finer)))
    assert restored.array.shape == geometry.shape
    np.testing.assert_array_equal(restored.geometry.affine, geometry.affine)
    assert dice(restored.array == 1, label_map.array == 1) > 0.9


def test_a_crop_comes_home_to_its_place_with_background_around() -> None:
    label_map = house_label_map(ids=(1,))
    box = label_map.geometry.crop((4, 2, 2), (9, 7, 6))
    logits = one_hot(label_map.array[4:9, 2:7, 2:6])
    restored = restore(logits, source=box, target=label_map.geometry, labels=LABELS, head="softmax")
    expected = np.zeros_like(label_map.array)
    expected[4:9, 2:7, 2:6] = label_map.array[4:9, 2:7, 2:6]
    np.testing.assert_array_equal(restored.array, expected)
    assert np.count_nonzero(expected) > 20


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("tilt_degrees", [(0.0, 0.0, 0.0), (8.0, -12.0, 17.0)], ids=["straight", "tilted"])
def test_outside_the_prepared_field_of_view_is_background(head: Head, tilt_degrees: tuple[float, float, float]) -> None:
    target = house_geometry()
    source = house_geometry(shape=(5, 9, 4), orientation="RAS", spacing_mm=(2, 1, 3), tilt_degrees=tilt_degrees)
    logits = np.full((4 if head == "softmax" else 3, *source.shape), -9, np.float32)
    logits[-1] = 9
    restored = restore(logits, source=source, target=target, labels=LABELS, head=head).array
    at = source.to_voxel(target.to_world(np.moveaxis(np.indices(target.shape), 0, -1)))
    # A voxel of the scan belongs to it that lies in one of the prepared voxels, or holds the centre of one.
    reach = np.abs((np.linalg.inv(source.affine) @ target.affine)[:3, :3]).max(axis=1).clip(1) / 2
    beyond = np.maximum(-at, at - np.array(source.shape) + 1)
    outside = (beyond > reach + 0.05).any(axis=-1)
    inside = (beyond < reach - 0.05).all(axis=-1)
    assert outside.any()
    assert inside.any()
    assert not restored[outside].any()
    assert (restored[inside] == 5).all()


def test_a_scan_wholly_elsewhere_is_all_background() -> None:
    source = house_geometry(centre_mm=(500, 0, 0))
    logits = one_hot(house_label_map().array)
    assert not restore(logits, source=source, target=house_geometry(), labels=LABELS, head="softmax").array.any()


# Deciding


def test_between_voxels_logits_are_interpolated_and_never_labels() -> None:
    source = Geometry((2, 1, 1), np.diag([3.0, 1.0, 1.0, 1.0]))
    target = Geometry((4, 1, 1), np.eye(4))
    logits = np.array([[0, 0], [9, -9], [-9, -9], [-9, 9]], np.float32).reshape(4, 2, 1, 1)
    labels = restore(logits, source=source, target=target, labels=LABELS, head="softmax")
    assert labels.array.ravel().tolist() == [1, 1, 5, 5]  # 2, the id in between, does not appear


def test_where_channels_are_equal_the_voxel_is_background() -> None:
    grid = house_geometry()
    logits = np.ones((4, *grid.shape), np.float32)
    assert not restore(logits, source=grid, target=grid, labels=LABELS, head="softmax").array.any()
    assert not restore(logits[1:] * 0, source=grid, target=grid, labels=LABELS, head="sigmoid").array.any()


def test_regions_are_painted_in_their_order() -> None:
    grid = Geometry((4, 1, 1), np.eye(4))
    labels = LabelSet((Label(7, "whole", (7, 2), (0, 0, 0)), Label(2, "core", (2,), (0, 0, 0))), frozenset({0, 2, 7}))
    logits = np.array([[-1, 1, 1, -1], [-1, -1, 0.1, 9]], np.float32).reshape(2, 4, 1, 1)
    restored = restore(logits, source=grid, target=grid, labels=labels, head="sigmoid")
    assert restored.array.ravel().tolist() == [0, 7, 2, 2]


@pytest.mark.parametrize(("highest", "kind"), [(255, np.uint8), (256, np.uint16), (60_000, np.uint16)])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_ids_come_in_the_smallest_type_that_holds_them(highest: int, kind: type, head: Head) -> None:
    labels = LabelSet.from_names({0: "background", 3: "low", highest: "high"})
    label_map = house_label_map(ids=(highest, 3))
    logits = one_hot(label_map.array, labels, head)
    restored = restore(logits, source=label_map.geometry, target=label_map.geometry, labels=labels, head=head)
    assert restored.array.dtype == kind
    np.testing.assert_array_equal(restored.array, label_map.array)


# The same as interpolating everything


def plainly(
    logits: NDArray[np.float32], *, source: Geometry, target: Geometry, labels: LabelSet, head: Head
) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """Return the labels taken from logits interpolated everywhere, and where rounding cannot change them."""
    ids = np.array([0, *(label.id for label in labels)])
    everywhere = resample(logits, source=source, target=target, fill=-np.inf)
    outside = np.isinf(everywhere[0])
    everywhere[:, outside] = 0
    if head == "softmax":
        second, first = np.sort(everywhere, axis=0)[-2:]
        return ids[everywhere.argmax(axis=0)], outside | (first - second > 1e-4)
    painted = [np.where(channel > 0, number, 0) for number, channel in enumerate(everywhere, start=1)]
    return ids[np.max(painted, axis=0)], outside | (np.abs(everywhere) > 1e-4).all(axis=0)


def waves(channels: int, shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.float32]:
    """Return smooth noise about 0, so that classes have regions of several voxels and ragged borders."""
    noise = np.random.default_rng(seed).normal(size=(channels, *shape))
    return ndimage.gaussian_filter(noise, (0, 1, 1, 1)).astype(np.float32)


def centred(grid: Geometry, other: Geometry, shift_voxel: float) -> Geometry:
    """Return a grid moved so that its middle lies some of its own voxels from another's."""
    affine = np.array(grid.affine)
    middle = [(np.array(g.shape) - 1) / 2 for g in (other, grid)]
    affine[:3, 3] += other.to_world(middle[0]) - grid.to_world(middle[1] + shift_voxel)
    return Geometry(grid.shape, affine)


@given(
    source=geometries(largest=12),
    target=geometries(largest=12),
    parallel=st.booleans(),
    lean=st.floats(-0.4, 0.4),
    shift_voxel=st.floats(-3, 3),
    head=st.sampled_from(["softmax", "sigmoid"]),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=100)
def test_on_any_grids_labels_are_those_of_logits_interpolated_everywhere(
    source: Geometry, target: Geometry, parallel: bool, lean: float, shift_voxel: float, head: Head, seed: int
) -> None:
    if parallel:
        target = source.reorient(target.orientation).with_spacing(target.spacing_mm)
        assume(np.prod(target.shape) < 20_000)
    else:
        leaning = np.eye(4)
        leaning[1, 2] = lean
        target = Geometry(target.shape, target.affine @ leaning)
    target = centred(target, source, shift_voxel)
    logits = waves(4 if head == "softmax" else 3, source.shape, seed)
    restored = restore(logits, source=source, target=target, labels=LABELS, head=head).array
    expected, clear = plainly(logits, source=source, target=target, labels=LABELS, head=head)
    np.testing.assert_array_equal(restored[clear], expected[clear])


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("factor", [0.37, 1.0, 2.6])
@pytest.mark.parametrize("orientation", all_orientations()[::5])
def test_from_every_orientation_and_spacing_labels_are_those_of_logits_interpolated_everywhere(
    orientation: str, factor: float, head: Head
) -> None:
    source = house_geometry(shape=(17, 12, 14))
    target = source.pad((1, 0, 2), (0, 2, 1)).reorient(orientation)
    target = target.with_spacing(np.array(target.spacing_mm) * factor)
    logits = waves(4 if head == "softmax" else 3, source.shape)
    restored = restore(logits, source=source, target=target, labels=LABELS, head=head).array
    expected, clear = plainly(logits, source=source, target=target, labels=LABELS, head=head)
    np.testing.assert_array_equal(restored[clear], expected[clear])
    assert len(np.unique(restored)) == 4
    assert clear.mean() > 0.99


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_values_of_any_float_type_and_layout_give_the_same_labels(kind: type) -> None:
    source, target = house_geometry(), house_geometry().with_spacing((0.7, 0.7, 0.7))
    logits = waves(4, source.shape).astype(np.float16)
    expected = restore(logits.astype(np.float32), source=source, target=target, labels=LABELS, head="softmax").array
    for values in (logits.astype(kind), np.asfortranarray(logits.astype(kind))):
        restored = restore(values, source=source, target=target, labels=LABELS, head="softmax").array
        np.testing.assert_array_equal(restored, expected)


def test_three_hundred_classes_are_told_apart() -> None:
    source = house_geometry()
    labels = LabelSet.from_ids(range(1, 300))
    logits = waves(300, source.shape)
    target = source.with_spacing((0.8, 0.8, 0.8))
    restored = restore(logits, source=source, target=target, labels=labels, head="softmax").array
    expected, clear = plainly(logits, source=source, target=target, labels=labels, head="softmax")
    np.testing.assert_array_equal(restored[clear], expected[clear])
    assert restored.max() > 255


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("tilt_degrees", [(0.0, 0.0, 0.0), (8.0, -12.0, 17.0)], ids=["straight", "tilted"])
def test_features_give_the_labels_of_the_logits_they_stand_for(
    tilt_degrees: tuple[float, float, float], head: Head
) -> None:
    source = house_geometry(shape=(9, 12, 10), tilt_degrees=(0, 0, 0))
    target = house_geometry(shape=(14, 13, 9), tilt_degrees=tilt_degrees, spacing_mm=(0.8, 1.2, 2.9))
    draw = np.random.default_rng(0).normal
    outputs = 4 if head == "softmax" else 3
    pointwise = Pointwise(draw(size=(outputs, 5)).astype(np.float32), 0.1 * draw(size=outputs).astype(np.float32))
    features = waves(5, source.shape)
    logits = pointwise.apply(features)
    restored = restore(features, source=source, target=target, labels=LABELS, head=head, pointwise=pointwise).array
    expected, clear = plainly(logits, source=source, target=target, labels=LABELS, head=head)
    np.testing.assert_array_equal(restored[clear], expected[clear])
    assert len(np.unique(restored)) == 4


# Block by block


@pytest.mark.parametrize("voxels", [1, 40, 1000])
@pytest.mark.parametrize("spacing_mm", [None, (1.4, 1.4, 1.4), (0.5, 3.0, 2.0)])
@pytest.mark.parametrize("turned", [False, True], ids=["along the axes", "at an angle"])
def test_block_by_block_is_the_same_as_at_once(
    voxels: int, spacing_mm: tuple[float, float, float] | None, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = house_geometry(shape=(9, 13, 7))
    upright = house_geometry(shape=(9, 13, 7), orientation="RAS", tilt_degrees=(0, 0, 0))
    source = (upright if turned else target.reorient("RAS")).with_spacing(spacing_mm or (1, 1, 1))
    logits = np.random.default_rng(0).normal(size=(4, *source.shape)).astype(np.float32)
    whole = restore(logits, source=source, target=target, labels=LABELS, head="softmax").array
    for constant in CONSTANTS:
        monkeypatch.setattr(restore_module, constant, voxels)
    blocks = restore(logits, source=source, target=target, labels=LABELS, head="softmax").array
    np.testing.assert_array_equal(blocks, whole)
    assert len(np.unique(whole)) == 4


# Slab by slab


@given(
    geometry=geometries(largest=9),
    orientation=st.sampled_from(all_orientations()),
    tilt_degrees=st.sampled_from([0.0, 0.0, 9.0]),
    spacing_mm=st.tuples(*[st.floats(0.5, 4)] * 3),
    axis=st.integers(0, 2),
    cuts=st.lists(st.integers(1, 40), max_size=4, unique=True),
    kind=st.sampled_from(["numpy", "torch"]),
    head=st.sampled_from(["softmax", "sigmoid"]),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=150)
def test_slab_by_slab_is_the_same_as_at_once(
    geometry: Geometry,
    orientation: str,
    tilt_degrees: float,
    spacing_mm: tuple[float, float, float],
    axis: int,
    cuts: list[int],
    kind: str,
    head: Head,
    seed: int,
) -> None:
    target = geometry.reorient(orientation)
    source = geometry.with_spacing(spacing_mm)
    if tilt_degrees:
        source = centred(house_geometry(shape=source.shape, tilt_degrees=(tilt_degrees, 0, 0)), target, 0.2)
    assume(np.prod(source.shape) < 20_000)
    logits = waves(4 if head == "softmax" else 3, source.shape, seed)
    whole = restore(logits, source=source, target=target, labels=LABELS, head=head).array
    restorer = Restorer(source=source, target=target, labels=LABELS, head=head)
    values = torch.from_numpy(logits) if kind == "torch" else logits
    size = source.shape[axis]
    starts = [0, *sorted(cut for cut in cuts if cut < size)]
    for start, stop in itertools.pairwise([*starts, size]):
        restorer.add(values[(slice(None),) * (axis + 1) + (slice(start, stop),)], axis=axis, first=start)
    expected, clear = plainly(logits, source=source, target=target, labels=LABELS, head=head)
    found = restorer.label_map().array
    np.testing.assert_array_equal(found[clear], expected[clear])
    if kind == "numpy":
        np.testing.assert_array_equal(found, whole)


def test_on_a_device_features_become_logits_there() -> None:
    source = house_geometry(shape=(9, 12, 10))
    target = source.with_spacing((0.8, 1.2, 2.9))
    draw = np.random.default_rng(0).normal
    pointwise = Pointwise(draw(size=(4, 3)).astype(np.float32), draw(size=4).astype(np.float32))
    features = waves(3, source.shape)
    labels = restore(
        torch.from_numpy(features), source=source, target=target, labels=LABELS, head="softmax", pointwise=pointwise
    )
    expected, clear = plainly(pointwise.apply(features), source=source, target=target, labels=LABELS, head="softmax")
    np.testing.assert_array_equal(labels.array[clear], expected[clear])


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_values_come_home_on_the_cpu_where_a_device_has_no_room_for_it(
    head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(numbers: torch.Tensor, decide: object) -> torch.Tensor:
        if full_after.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 512.00 MiB.")
        return class_numbers(numbers, decide)

    source = house_geometry(shape=(9, 12, 10))
    target = source.with_spacing((0.8, 1.2, 2.9))
    logits = waves(4 if head == "softmax" else 3, source.shape)
    class_numbers, full_after = on_gpu._numbers, [False, True]
    monkeypatch.setattr(on_gpu, "BLOCK_VALUES", 1)
    monkeypatch.setattr(on_gpu, "_numbers", full)
    found = restore(torch.from_numpy(logits), source=source, target=target, labels=LABELS, head=head)
    expected = restore(logits, source=source, target=target, labels=LABELS, head=head)
    np.testing.assert_array_equal(found.array, expected.array)
    assert not full_after


def test_any_other_error_of_a_device_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(on_gpu, "_numbers", broken)
    grid = house_geometry(shape=(4, 5, 6))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        restore(torch.from_numpy(waves(4, grid.shape)), source=grid, target=grid, labels=LABELS, head="softmax")


@pytest.mark.parametrize("channels", [2, 40])
@pytest.mark.parametrize("tilt_degrees", [0.0, 9.0], ids=["along the axes", "at an angle"])
@pytest.mark.parametrize("spacing_mm", [1.0, 4.0], ids=["finer", "coarser"])
def test_memory_grows_neither_with_the_scan_nor_with_the_classes(
    channels: int, tilt_degrees: float, spacing_mm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant in CONSTANTS:
        monkeypatch.setattr(restore_module, constant, getattr(restore_module, constant) // 64)
    monkeypatch.setattr(restore_module, "MOST_THREADS", 1)
    source = house_geometry(shape=(24, 32, 20), tilt_degrees=(0, 0, 0), orientation="RAS", spacing_mm=(2, 2, 2))
    target = house_geometry(shape=(48, 64, 40), tilt_degrees=(tilt_degrees, 0, 0), spacing_mm=(1, 1, 1))
    target = target.with_spacing((spacing_mm,) * 3)
    coarse = np.random.default_rng(0).normal(size=(channels, 6, 8, 5)).astype(np.float32)
    logits = np.kron(coarse, np.ones((1, 4, 4, 4), np.float32))
    labels = LabelSet.from_ids(range(1, channels))
    tracemalloc.start()
    restored = restore(logits, source=source, target=target, labels=labels, head="softmax")
    peak = tracemalloc.get_traced_memory()[1] - restored.array.nbytes
    tracemalloc.stop()
    assert peak < 150e6 / 64


@pytest.mark.parametrize("orientation", ["RAS", "SAL"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float16, "tensor"], ids=str)
def test_what_is_no_number_is_no_label(kind: Any, wrong: float, orientation: str) -> None:
    grid = house_geometry(shape=(6, 5, 4), orientation=orientation)
    logits = one_hot(np.zeros(grid.shape, np.uint8))
    logits[2, 3, 2, 1] = wrong
    values = torch.from_numpy(logits) if kind == "tensor" else logits.astype(kind)
    with pytest.raises(NotFiniteError, match="no number"):
        restore(values, source=grid, target=grid, labels=LABELS, head="softmax")

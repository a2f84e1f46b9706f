"""Facts about the whole way of a scan: what a network finds comes out where it is, on the scan's own grid."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from phantoms import all_orientations, house_geometry
from torch import Tensor, nn

from medseg.engine.torch import TorchEngine
from medseg.labels import LabelSet
from medseg.models import build_network, pack, weights_of
from medseg.package import ModelPackage
from medseg.recipe import Recipe, parse_recipe
from medseg.segment import Segmenter
from medseg.stopwatch import Stopwatch
from medseg.volume import Geometry, Volume

SPLEEN = LabelSet.from_names({0: "background", 3: "spleen"})
CPU = torch.device("cpu")
TILTS = {"straight": (0.0, 0.0, 0.0), "tilted": (9.0, -11.0, 14.0)}
CENTRE_MM = (31.5, -42.25, 77.125)
# A box about the scan's centre, in mm along its own right, anterior and superior; no two ends are alike.
ORGAN_MM = np.array([(-13.0, 4.0), (-6.0, 11.0), (-9.0, 16.0)])
SIZE, SPACING_MM = (26, 22, 18), (1.5, 1.7, 2.6)


class Threshold(nn.Module):
    """A network that calls bright what is brighter than one half."""

    def forward(self, patch: Tensor) -> Tensor:
        return torch.cat([0.5 - patch, patch - 0.5], dim=1)


class Halves(nn.Module):
    """A network that calls the first half of an array axis its label, whatever is there."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis + 2

    def forward(self, patch: Tensor) -> Tensor:
        shape = [1] * 5
        shape[self.axis] = patch.shape[self.axis]
        place = torch.arange(patch.shape[self.axis]).reshape(shape) - (patch.shape[self.axis] - 1) / 2
        return torch.cat([place.expand(patch.shape), -place.expand(patch.shape)], dim=1)


def recipe_of(**sections: dict[str, object]) -> Recipe:
    """Return a recipe that keeps the scan's spacing and brings 0 to 100 HU to 0 to 1."""
    value = {
        "preprocess": {"window_hu": [0, 100]},
        "training": {"patch": [10, 8, 9], "precision": "fp32"},
        "prediction": {"overlap": 0.25},
    }
    return parse_recipe(value | {name: value.get(name, {}) | section for name, section in sections.items()}, name="r")


def grid(orientation: str, tilt_degrees: tuple[float, float, float]) -> Geometry:
    """Return a grid of SIZE voxels of SPACING_MM along the scan's right, anterior and superior, stored in any order."""
    world = ["RL".find, "AP".find, "SI".find]
    axes = [next(axis for axis, find in enumerate(world) if find(letter) >= 0) for letter in orientation]
    i, j, k = (SIZE[axis] for axis in axes)
    spacing_mm = [SPACING_MM[axis] for axis in axes]
    return house_geometry(
        shape=(i, j, k), spacing_mm=spacing_mm, orientation=orientation, tilt_degrees=tilt_degrees, centre_mm=CENTRE_MM
    )


def along_the_scan(geometry: Geometry, tilt_degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return each voxel's place in mm from the scan's centre along its right, anterior and superior."""
    upright = house_geometry(
        shape=(1, 1, 1), spacing_mm=(1, 1, 1), orientation="RAS", tilt_degrees=tilt_degrees, centre_mm=CENTRE_MM
    )
    return upright.to_voxel(geometry.to_world(np.moveaxis(np.indices(geometry.shape), 0, -1)))


def organ(geometry: Geometry, tilt_degrees: tuple[float, float, float]) -> NDArray[np.bool_]:
    place = along_the_scan(geometry, tilt_degrees)
    return np.asarray(((place > ORGAN_MM[:, 0]) & (place < ORGAN_MM[:, 1])).all(axis=-1))


def scan_of(geometry: Geometry, mask: NDArray[np.bool_]) -> Volume:
    noise = np.random.default_rng(0).integers(-30, 30, geometry.shape)
    return Volume((np.where(mask, 90, 10) + noise).astype(np.int16)[None], geometry)


def segmenter(network: nn.Module, recipe: Recipe) -> Segmenter:
    return Segmenter(TorchEngine(network, CPU, precision=recipe.training.precision), recipe, SPLEEN)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("orientation", all_orientations())
def test_in_every_orientation_an_organ_is_found_to_the_voxel_where_it_is(orientation: str, tilt: str) -> None:
    geometry = grid(orientation, TILTS[tilt])
    mask = organ(geometry, TILTS[tilt])
    assert 200 < np.count_nonzero(mask) < geometry.shape[0] * geometry.shape[1] * geometry.shape[2] / 4
    found = segmenter(Threshold(), recipe_of(training={"patch": [26, 22, 18]})).segment(scan_of(geometry, mask))
    assert found.array.shape == geometry.shape
    np.testing.assert_array_equal(found.geometry.affine, geometry.affine)
    np.testing.assert_array_equal(found.array, np.where(mask, 3, 0))


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSL", "IRA"])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.9, 1.2, 2.1)])
def test_over_another_spacing_it_is_found_to_a_part_of_a_voxel(
    orientation: str, tilt: str, spacing_mm: tuple[float, float, float]
) -> None:
    geometry = grid(orientation, TILTS[tilt])
    mask = organ(geometry, TILTS[tilt])
    recipe = recipe_of(preprocess={"window_hu": [0, 100], "spacing_mm": spacing_mm})
    smooth = Volume(np.where(mask, 90, 10).astype(np.int16)[None], geometry)
    found = segmenter(Threshold(), recipe).segment(smooth)
    assert found.geometry is geometry
    assert found.ids() == {0, 3}
    assert dice(found.array == 3, mask) > 0.95


@pytest.mark.parametrize("orientation", all_orientations())
def test_the_network_sees_every_scan_the_same_way_round(orientation: str) -> None:
    geometry = grid(orientation, TILTS["tilted"])
    scan = Volume(np.zeros((1, *geometry.shape), np.int16), geometry)
    place = along_the_scan(geometry, TILTS["tilted"])
    for axis in range(3):
        recipe = recipe_of(training={"patch": list(SIZE)})
        found = segmenter(Halves(axis), recipe).segment(scan)
        np.testing.assert_array_equal(found.array == 3, place[..., axis] < -1e-6)


@pytest.mark.parametrize("patch", [(10, 8, 9), (40, 40, 40), (1, 22, 18), (16, 1, 16), (16, 16, 1)], ids=str)
@pytest.mark.parametrize("flips", [[], ["I", "K"]], ids=["plain", "flips"])
def test_neither_patch_nor_flips_change_what_a_plain_network_finds(
    patch: tuple[int, int, int], flips: list[str]
) -> None:
    geometry = grid("PSL", TILTS["tilted"])
    mask = organ(geometry, TILTS["tilted"])
    recipe = recipe_of(training={"patch": patch}, prediction={"flips": flips, "overlap": 0.5})
    found = segmenter(Threshold(), recipe).segment(scan_of(geometry, mask))
    np.testing.assert_array_equal(found.array == 3, mask)


def test_flips_cancel_what_a_network_says_by_place_and_may_be_left_out() -> None:
    recipe = recipe_of(training={"patch": [4, 4, 4]}, prediction={"flips": ["J"]})
    prepared = np.zeros((1, 4, 4, 4), np.float32)
    assert not segmenter(Halves(1), recipe).logits(prepared).any()
    assert segmenter(Halves(0), recipe).logits(prepared).any()
    assert segmenter(Halves(1), recipe).logits(prepared, averaged=False).any()


def test_a_cropped_scan_comes_home_whole() -> None:
    geometry = grid("LSA", TILTS["straight"])
    mask = organ(geometry, TILTS["straight"])
    scan = Volume(np.where(mask, 90, -1000).astype(np.int16)[None], geometry)
    recipe = recipe_of(preprocess={"window_hu": [0, 100], "crop": "foreground"})
    found = segmenter(Threshold(), recipe).segment(scan)
    np.testing.assert_array_equal(found.array, np.where(mask, 3, 0))


def test_a_scan_of_a_single_plane_is_segmented() -> None:
    geometry = Geometry((12, 9, 1), np.diag([1.0, 2.0, 5.0, 1.0]))
    mask = np.zeros(geometry.shape, bool)
    mask[3:9, 2:6] = True
    found = segmenter(Threshold(), recipe_of()).segment(scan_of(geometry, mask))
    np.testing.assert_array_equal(found.array == 3, mask)


def test_the_time_of_each_stage_is_taken() -> None:
    watch = Stopwatch()
    geometry = grid("RAS", TILTS["straight"])
    segmenter(Threshold(), recipe_of()).segment(scan_of(geometry, organ(geometry, TILTS["straight"])), stopwatch=watch)
    assert list(watch.seconds) == ["preprocess", "infer", "restore"]
    assert all(seconds > 0 for seconds in watch.seconds.values())


def test_a_stage_that_fails_is_timed_too_and_stages_add_up() -> None:
    watch = Stopwatch({"read": 5.0})
    with pytest.raises(ZeroDivisionError), watch.stage("read"):
        1 / 0  # noqa: B018
    assert watch.seconds["read"] > 5


def test_a_package_segments_as_its_network_does() -> None:
    recipe = recipe_of(model={"name": "unet", "options": {"channels": [4, 8]}}, training={"patch": [8, 8, 8]})
    torch.manual_seed(0)
    network = build_network(recipe, channels=1, labels=1)
    geometry = grid("PSL", TILTS["tilted"])
    scan = scan_of(geometry, organ(geometry, TILTS["tilted"]))
    package = ModelPackage(recipe, SPLEEN, 1, pack(weights_of(network)), {})
    found = Segmenter.of(package, device="cpu").segment(scan)
    network.train()  # the segmenter sees to the mode itself
    np.testing.assert_array_equal(found.array, segmenter(network, recipe).segment(scan).array)
    assert found.ids() == {0, 3}


def test_a_network_in_bfloat16_gives_float32_logits() -> None:
    recipe = recipe_of(
        model={"name": "unet", "options": {"channels": [4, 8]}}, training={"patch": [8, 8, 8], "precision": "bf16"}
    )
    torch.manual_seed(0)
    network = build_network(recipe, channels=1, labels=1)
    prepared = np.random.default_rng(0).random((1, 11, 8, 6), np.float32)
    half = segmenter(network, recipe).logits(prepared)
    assert half.dtype == np.float32
    full = recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": "fp32"})})
    exact = segmenter(network, full).logits(prepared)
    assert not np.array_equal(half, exact)
    np.testing.assert_allclose(half, exact, atol=0.05)


def test_a_slab_that_is_home_is_let_go_of_before_the_next_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("medseg.patches.slab_sums"), "LEAST_PLANES", 1)
    made: list[ref[Any]] = []

    class Watching(TorchEngine):
        def zeros(self, shape: Sequence[int]) -> Any:
            sums = super().zeros(shape)
            made.append(ref(sums))
            return sums

        def run(self, patches: Any) -> Any:
            assert not any(sums() is not None for sums in made)
            return super().run(patches)

    geometry = Geometry((24, 11, 9), np.diag([1.5, 1.7, 2.6, 1.0]))
    mask = np.zeros(geometry.shape, bool)
    mask[5:19, 3:8, 2:7] = True
    engine = Watching(Threshold(), CPU, precision="fp32")
    engine.batch_voxels = 1
    recipe = recipe_of(training={"patch": [4, 11, 9]}, prediction={"overlap": 0.0})
    found = Segmenter(engine, recipe, SPLEEN).segment(scan_of(geometry, mask))
    np.testing.assert_array_equal(found.array == 3, mask)
    assert len(made) == 6


class OnDevice(TorchEngine):
    """An engine that keeps its arrays as tensors, as on a GPU, and has room for so many slabs."""

    def __init__(self, network: nn.Module, *, slabs: int) -> None:
        super().__init__(network, CPU, precision="fp32")
        self.on_host, self.slabs, self.batch_voxels = False, slabs, 3 * 10 * 8 * 9

    def zeros(self, shape: Sequence[int]) -> Any:
        self.slabs -= 1
        return super().zeros(shape) if self.slabs >= 0 else np.zeros(shape, np.float32)


@pytest.mark.parametrize("slabs", [100, 2, 0], ids=["room for all", "room for some", "room for none"])
@pytest.mark.parametrize("orientation", ["RAS", "PSL"])
@pytest.mark.parametrize("flips", [[], ["J", "K"]], ids=["plain", "flips"])
def test_a_device_that_keeps_everything_or_what_it_can_finds_the_same(
    orientation: str, flips: list[str], slabs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("medseg.patches.slab_sums"), "LEAST_PLANES", 1)
    geometry = grid(orientation, TILTS["tilted"])
    mask = organ(geometry, TILTS["tilted"])
    recipe = recipe_of(preprocess={"window_hu": [0, 100], "spacing_mm": [1.9, 1.2, 2.1]}, prediction={"flips": flips})
    expected = segmenter(Threshold(), recipe).segment(scan_of(geometry, mask))
    found = Segmenter(OnDevice(Threshold(), slabs=slabs), recipe, SPLEEN).segment(scan_of(geometry, mask))
    assert np.count_nonzero(found.array != expected.array) <= 3  # a voxel whose channels are equal up to rounding
    assert found.ids() == {0, 3}

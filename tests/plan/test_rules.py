"""The rules: for whatever a dataset may be like, a recipe that trains, within its memory, for reasons in the data."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.axes import Sides
from medseg.models import build_network, parameter_count
from medseg.models.networks import pooling
from medseg.plan.augmentation import flip_axes
from medseg.plan.budget import Budget
from medseg.plan.choice import as_recipe
from medseg.plan.coarse import looked_at
from medseg.plan.facts import CaseFacts, Facts, Intensities, LabelFacts, Point
from medseg.plan.fit import Fit, fit, scaled_patch, windows_of
from medseg.plan.grid import crops, flat_axis, full_spacing, window
from medseg.plan.layout import order
from medseg.plan.measure import Speed
from medseg.plan.memory import training_bytes, weight_count
from medseg.plan.prediction import margin_of, passes_of
from medseg.plan.rules import design
from medseg.plan.schedule import schedule
from medseg.recipe import Prediction, Recipe, parse_recipe

GB = 10**9
MIDDLE = (0.0, 0.0, 0.0)
PLENTY = Budget(minutes=1e6, memory_bytes=200 * GB, workers=8, voxels_per_second=1e8, bf16=True)
SHORT = replace(PLENTY, minutes=30, memory_bytes=12 * GB, workers=0, voxels_per_second=4e5, bf16=False)


def case(
    shape: tuple[int, int, int] = (200, 180, 90),
    spacing: tuple[float, float, float] = (1.0, 1.1, 2.0),
    *,
    hounsfield: bool = True,
    names: tuple[str, ...] = ("liver",),
    thickness: float = 20.0,
    centre: Point = MIDDLE,
    labelled: Sides | None = None,
) -> CaseFacts:
    label = LabelFacts(math.prod(shape) // 50, volume_ml=9.0, components=1, thickness_mm=thickness, centre_mm=centre)
    found = dict.fromkeys(names, label)
    return CaseFacts("a", shape, shape, labelled or shape, spacing, MIDDLE, hounsfield, found)


def facts(*cases: CaseFacts, modality: str = "CT", low: float = -43, high: float = 187, count: int = 1) -> Facts:
    several = (cases or (case(),)) * count
    names = tuple(several[0].labels)
    inside = (Intensities(low, (low + high) / 2, high),)
    return Facts("data", None, (modality,), names, several, inside, partial=False, masked=False, fold=0, held_out=1,
                 left_out={}, seconds=3.0)  # fmt: skip


def fitted(what: Facts, budget: Budget) -> Fit:
    return fit(what, budget, cropped=True, flat=flat_axis(what))


shapes = st.tuples(*[st.integers(1, 700)] * 3)
spacings = st.tuples(*[st.floats(0.2, 12)] * 3)
budgets = st.builds(
    Budget,
    minutes=st.floats(0.1, 1e5),
    memory_bytes=st.integers(GB // 2, 100 * GB),
    workers=st.integers(0, 8),
    voxels_per_second=st.floats(1e3, 1e9),
    bf16=st.booleans(),
)


@st.composite
def datasets(draw: st.DrawFn) -> Facts:
    names = draw(st.sampled_from([("liver",), ("kidney_left", "kidney_right"), ("Left.upper lobe", "tumour", "edema")]))
    thickness = draw(st.floats(0.1, 80))
    pairs = draw(st.lists(st.tuples(shapes, spacings), min_size=1, max_size=5))
    cases = [case(shape, spacing, names=names, thickness=thickness) for shape, spacing in pairs]
    low = draw(st.floats(-1024, 500))
    modality = draw(st.sampled_from(["CT", "MRI", "PET"]))
    high = low + draw(st.floats(0, 2000))
    return facts(*cases, modality=modality, low=low, high=high, count=draw(st.integers(1, 60)))


@settings(max_examples=60, deadline=None)
@given(datasets(), budgets)
def test_any_dataset_gets_a_recipe_that_its_network_and_memory_allow(what: Facts, budget: Budget) -> None:
    designed = design(what, budget)
    speed = Speed(step=1.0, draw=0.1, workers=budget.workers)
    chosen = as_recipe(designed.choices)
    timed = schedule(what, designed.fit, speed, minutes=budget.minutes, recipe=chosen)
    recipe = as_recipe((*designed.choices, *timed.choices))
    patch, filters = recipe.training.patch, recipe.model.options["filters"]
    assert recipe.training.batch >= 2
    assert len(pooling(tuple(side for side in patch if side > 1), levels=len(filters))) == len(filters) >= 3
    assert recipe.preprocess.spacing_mm is not None
    assert min(recipe.preprocess.spacing_mm) > 0
    smallest = scaled_patch(designed.fit.shape, 0.0, designed.fit.flat)
    assert designed.fit.bytes <= budget.memory_bytes or patch == smallest
    assert all(axis in "IJK" and patch["IJK".index(axis)] > 1 for axis in recipe.prediction.flips)
    window_hu = recipe.preprocess.window_hu
    assert (window_hu is None) == (what.modalities != ("CT",))
    assert window_hu is None or window_hu[1] - window_hu[0] >= 200


@settings(max_examples=40, deadline=None)
@given(datasets(), budgets)
def test_less_time_never_asks_for_a_finer_grid(what: Facts, budget: Budget) -> None:
    full, _ = full_spacing(what)
    found = fitted(what, budget)
    assert all(side >= least for side, least in zip(found.spacing_mm, full, strict=True))
    slower = fitted(what, replace(budget, minutes=budget.minutes / 4))
    assert math.prod(slower.spacing_mm) >= 0.99 * math.prod(found.spacing_mm) or found.wide != slower.wide


@pytest.mark.parametrize("patch", [(40, 56, 40), (64, 64, 12), (96, 128, 1)])
def test_weights_are_counted_as_the_network_has_them(patch: tuple[int, int, int]) -> None:
    filters = [4, 8, 16]
    recipe = parse_recipe(
        {"model": {"name": "dynunet", "options": {"filters": filters}}, "training": {"patch": patch}}, name="a test"
    )
    network = build_network(recipe, channels=2, labels=3, try_patch=False)
    sides = [side for side in patch if side > 1]
    assert weight_count(sides, filters, channels=2, labels=3) == parameter_count(network)


def test_memory_grows_with_what_is_held_and_halves_in_bf16() -> None:
    def size(batch: int = 2, labels: int = 2, *, bf16: bool = False) -> int:
        return training_bytes((96, 96, 96), batch, (16, 32, 64), channels=1, labels=labels, bf16=bf16)

    none = size(0)
    assert size(4) - none == pytest.approx(2 * (size(2) - none))
    assert size(labels=100) > 2 * size()
    assert 0.5 * (size() - none) < size(bf16=True) - none < 0.7 * (size() - none)


# --- the grid


def test_the_spacing_is_the_median_of_each_axis() -> None:
    cases = [case(spacing=(side, 1.2 * side, 2.0)) for side in (0.7, 0.8, 1.1)]
    assert full_spacing(facts(*cases))[0] == (0.8, 0.96, 2.0)


def test_thin_slices_among_thick_ones_are_kept() -> None:
    thick = [case((300, 300, 40), (0.8, 0.8, side)) for side in (1.0, 5.0, 5.0, 6.0, 7.0)]
    spacing, reason = full_spacing(facts(*thick))
    assert spacing == (0.8, 0.8, pytest.approx(2.6))
    assert "from 1 to 7 mm" in reason
    assert "10th percentile" in reason


def test_scans_too_large_for_the_time_are_seen_in_coarser_voxels_the_finest_axes_first() -> None:
    large = facts(case((512, 512, 200), (0.8, 0.8, 3.0)), count=100)
    assert fitted(large, PLENTY).spacing_mm == (0.8, 0.8, 3.0)
    found = fitted(large, SHORT)
    assert 0.8 < found.spacing_mm[0] == found.spacing_mm[1] <= found.spacing_mm[2]
    assert "30 minutes" in found.spacing_reason
    assert found.covered > 0.1


def test_no_voxel_is_coarser_than_the_thinnest_label_allows() -> None:
    nerve = case((512, 512, 200), (0.5, 0.5, 0.5), thickness=1.2)
    found = fitted(facts(nerve, count=100), SHORT)
    assert found.spacing_mm == (0.8, 0.8, 0.8)
    assert "liver is 1.2 mm thick" in found.spacing_reason


@pytest.mark.parametrize(
    ("shape", "spacing", "flat"),
    [
        ((512, 512, 11), (0.6, 0.6, 5.0), 2),
        ((512, 10, 512), (0.6, 8.0, 0.6), 1),
        ((320, 320, 20), (0.6, 0.6, 3.6), None),
        ((40, 50, 11), (1.0, 1.0, 1.0), None),
        ((256, 256, 1), (1.0, 1.0, 1.0), 2),
    ],
)
def test_slices_are_segmented_one_by_one_where_they_are_few_and_far_apart(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], flat: int | None
) -> None:
    what = facts(case(shape, spacing))
    found = fitted(what, SHORT)
    assert flat_axis(what) == found.flat == flat
    assert flat is None or found.spacing_mm[flat] == spacing[flat]


# --- intensities


def test_a_window_holds_what_is_inside_the_labels_and_margins_go() -> None:
    assert window(facts(low=-43, high=187)).value == [-50, 190]
    assert window(facts(low=40, high=80)).value == [-40, 160]
    assert crops([-50, 190])
    assert crops(None)
    assert not crops([-990, 300])


def test_what_is_not_in_hounsfield_units_has_no_window() -> None:
    assert window(facts(modality="MRI")).value is None
    strange = case(hounsfield=False)
    assert window(facts(strange, strange, case())).value is None
    assert "1 of 3" in window(facts(strange, case(), case())).reason


# --- patch, batch, network


def test_small_crops_are_seen_whole_as_nnu_net_sees_the_hippocampus() -> None:
    crop = case((36, 50, 35), (1.0, 1.0, 1.0), names=("anterior", "posterior"), thickness=6.0)
    found = fitted(facts(crop, modality="MRI", count=230), SHORT)
    assert found.patch == (40, 56, 40)
    assert found.filters == (8, 32, 64, 128)
    assert found.batch == 2
    assert found.covered == 1
    longer = fitted(facts(crop, modality="MRI", count=230), replace(SHORT, minutes=150))
    assert (longer.patch, longer.batch) == ((40, 56, 40), 6)  # so many that 5000 steps remain
    slow = fitted(facts(crop, modality="MRI", count=230), replace(SHORT, minutes=0.1))
    assert slow.spacing_mm == (1.0, 1.0, 1.0)
    assert (slow.patch, slow.batch) == ((40, 56, 40), 2)


def test_time_buys_a_wider_network() -> None:
    what = facts(count=50)
    assert [fitted(what, budget).wide for budget in (SHORT, PLENTY)] == [False, True]
    assert fitted(what, PLENTY).filters[-1] == 320
    crop = facts(case((36, 50, 35), (1.0, 1.0, 1.0)), modality="MRI", count=230)
    enough = (10_100 * 5 * 2 * 40 * 56 * 40) / (60 * 0.85 * SHORT.voxels_per_second)
    just = fitted(crop, replace(SHORT, minutes=enough))
    assert just.wide
    assert just.batch == 2  # a larger batch would not leave 10,000 steps
    assert not fitted(crop, replace(SHORT, minutes=0.95 * enough)).wide


def test_less_memory_means_a_smaller_patch_and_in_the_end_the_smallest() -> None:
    what = facts(count=50)
    patches = [fitted(what, replace(PLENTY, memory_bytes=size * GB)).patch for size in (40, 8, 2)]
    assert [math.prod(patch) for patch in patches] == sorted((math.prod(patch) for patch in patches), reverse=True)
    assert patches[0] != patches[2]
    tiny = fitted(what, replace(SHORT, memory_bytes=1))
    assert tiny.patch == (32, 32, 32)
    assert tiny.batch == 2


# --- what is varied


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("spleen",), ("I", "J", "K")),
        (("kidney_left", "kidney_right"), ("J", "K")),
        (("left_atrium",), ("J", "K")),
        (("leftover",), ("I", "J", "K")),
        (("lobe-right.upper",), ("J", "K")),
        (("parotid_l", "parotid_r"), ("J", "K")),
        (("vertebrae_l1", "label_r2"), ("I", "J", "K")),
    ],
)
def test_left_and_right_are_not_mirrored_where_labels_have_sides(names: tuple[str, ...], axes: tuple[str, ...]) -> None:
    what = facts(case(names=names))
    assert flip_axes(what, fitted(what, SHORT))[0] == axes


def test_an_axis_is_not_mirrored_where_nearly_all_patients_are_alike_along_it() -> None:
    ahead, behind = case(centre=(0.0, 5.0, 5.0)), case(centre=(-2.0, -5.0, -5.0))
    one_in_twenty = replace(facts(), cases=(ahead,) * 19 + (behind,))
    axes, reason = flip_axes(one_in_twenty, fitted(one_in_twenty, SHORT))
    assert axes == ("I",)
    assert reason == (
        "not J, for liver lies in front of the scan's middle in 19 of 20 cases; "
        "not K, for liver lies above the scan's middle in 19 of 20 cases"
    )
    more = replace(facts(), cases=(ahead,) * 18 + (behind,) * 2)
    assert flip_axes(more, fitted(more, SHORT))[0] == ("I", "J", "K")


def test_the_order_of_two_labels_counts_and_cases_that_show_one_do_not() -> None:
    def with_labels(**x: float) -> CaseFacts:
        some = case()
        label = some.labels["liver"]
        return replace(some, labels={name: replace(label, centre_mm=(at, 0.0, 0.0)) for name, at in x.items()})

    cases = (with_labels(head=-3.0, tail=-9.0), with_labels(head=8.0, tail=1.0), with_labels(head=-7.0))
    what = replace(facts(), labels=("head", "tail"), cases=cases)
    assert order(what, 0) == "head lies to the right of tail in 2 of 2 cases"
    assert order(what, 1) is None


def test_a_label_that_hardly_any_case_shows_says_nothing_of_the_axes() -> None:
    label = case().labels["liver"]
    both = replace(case(), labels={"liver": label, "cyst": replace(label, centre_mm=(5.0, 5.0, 5.0))})
    one, twenty = (replace(facts(), labels=("liver", "cyst"), cases=(case(),) * 19 + (both,) * n) for n in (1, 20))
    assert flip_axes(one, fitted(one, SHORT))[0] == ("I", "J", "K")
    assert flip_axes(twenty, fitted(twenty, SHORT))[0] == ()


def recipe_of(what: Facts, budget: Budget) -> Recipe:
    return as_recipe(design(what, budget).choices)


def test_only_mr_moves_and_has_bias_fields() -> None:
    assert recipe_of(facts(modality="MRI"), SHORT).augment.bias_field > 0
    assert recipe_of(facts(modality="CT"), SHORT).augment.bias_field == 0


def test_costly_transforms_are_left_out_where_the_network_would_wait_for_them() -> None:
    fast = replace(SHORT, voxels_per_second=1e7)
    assert recipe_of(facts(count=50), SHORT).augment.elastic > 0
    assert recipe_of(facts(count=50), fast).augment.elastic == 0
    assert recipe_of(facts(count=50), fast).augment.gamma > 0


def test_scans_of_all_lengths_are_cut_short_and_slices_of_all_thicknesses_made_thicker() -> None:
    uneven = facts(*[case((200, 180, slices), (1.0, 1.1, 300 / slices)) for slices in (60, 100, 250)], count=10)
    assert recipe_of(uneven, SHORT).augment.low_resolution == 0.2
    assert recipe_of(uneven, SHORT).augment.cut_short == 0
    slabs = facts(*[case((200, 180, slices), (1.0, 1.1, 2.0)) for slices in (60, 100, 250)], count=10)
    assert recipe_of(slabs, SHORT).augment.cut_short > 0


def test_labels_that_no_case_shows_are_not_asked_for() -> None:
    what = replace(facts(case(names=("liver", "spleen"))), labels=("liver", "heart", "spleen"))
    assert recipe_of(what, SHORT).labels == {"liver": ["liver"], "spleen": ["spleen"]}
    assert recipe_of(facts(), SHORT).labels is None


# --- a coarse network first

LARGE = case((400, 400, 300), (0.9, 0.9, 1.5), labelled=(80, 60, 40), thickness=40.0)


def test_a_coarse_network_looks_first_where_little_of_a_large_scan_is_labelled() -> None:
    what = facts(LARGE, count=20)
    designed = design(what, replace(SHORT, minutes=120))
    chosen = as_recipe(designed.choices)
    assert chosen.coarse is not None
    assert min(chosen.coarse.spacing_mm) >= 1.5 * max(designed.fit.spacing_mm)
    assert max(chosen.coarse.patch) <= 64
    seen = zip(chosen.coarse.patch, chosen.coarse.spacing_mm, what.median_extent_mm(cropped=True), strict=True)
    assert all(patch * side >= length for patch, side, length in seen)
    assert looked_at(what) == pytest.approx((80 + 40 / 0.9) * (60 + 40 / 0.9) * (40 + 40 / 1.5) / (400 * 400 * 300))
    assert chosen.coarse.model is not None
    small, patch = chosen.coarse_recipe(["liver"]), chosen.coarse.patch
    assert small.model.options["filters"][-1] <= chosen.model.options["filters"][-1]
    assert build_network(small, channels=1, labels=1)
    speed = Speed(step=1.0, draw=0.1, workers=0)
    timed = schedule(what, designed.fit, speed, minutes=120, recipe=chosen)
    recipe = as_recipe((*designed.choices, *timed.choices))
    assert recipe.coarse is not None
    step = 1.1 * math.prod(patch) / math.prod(recipe.training.patch)
    assert recipe.coarse.epochs * recipe.training.steps_per_epoch * step == pytest.approx(720, rel=0.2)
    alone = schedule(what, designed.fit, speed, minutes=120, recipe=replaced(chosen, coarse=None))
    assert (
        math.prod(choice.value for choice in alone.choices[:2])
        > recipe.training.epochs * recipe.training.steps_per_epoch
    )


@pytest.mark.parametrize(
    ("what", "minutes", "reason"),
    [
        (facts(replace(LARGE, labelled=(380, 300, 280)), count=20), 120, "too much for a coarse network"),
        (replace(facts(LARGE, count=20), partial=True), 120, "cases lack labels"),
        (facts(LARGE, count=20), 20, "too short"),
        (
            facts(case((400, 400, 300), (0.9, 0.9, 1.5), labelled=(80, 60, 40), thickness=3.0), count=20),
            1e4,
            "hardly coarser",
        ),
    ],
)
def test_why_there_is_no_coarse_network_is_told(what: Facts, minutes: float, reason: str) -> None:
    choices = {choice.key: choice for choice in design(what, replace(SHORT, minutes=minutes)).choices}
    assert choices["coarse"].value is None
    assert reason in choices["coarse"].reason
    assert as_recipe(choices.values()).coarse is None


def test_of_what_a_patch_or_two_show_nothing_is_said() -> None:
    keys = {choice.key for choice in design(facts(case((35, 50, 36), (1, 1, 1))), SHORT).choices}
    assert not any(key.startswith("coarse") for key in keys)


def replaced(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update=changes)


# --- time


def test_the_steps_fill_the_minutes_with_validation_and_scores() -> None:
    what = replace(facts(count=50), held_out=10)
    found = fitted(what, SHORT)
    speed = Speed(step=0.5, draw=0.1, workers=0)
    choices = schedule(what, found, speed, minutes=60, recipe=Recipe()).choices
    chosen = {choice.key: choice for choice in choices}
    epochs, steps = chosen["training.epochs"].value, chosen["training.steps_per_epoch"].value
    assert 40 * 60 < epochs * steps * speed.seconds < 60 * 60
    assert epochs * 50 < epochs * steps * speed.seconds < epochs * 70
    assert "0.6 s" in chosen["training.epochs"].reason
    assert "with 10 case(s) scored" in chosen["training.epochs"].reason


def test_what_is_averaged_in_the_scores_leaves_fewer_steps() -> None:
    what, speed = facts(count=200), Speed(step=2.0, draw=0.1, workers=0)
    counts = ("training.epochs", "training.steps_per_epoch")

    def steps(held_out: int = 40, **prediction: Any) -> int:
        recipe = Recipe(prediction=Prediction(**prediction))
        scored = replace(what, held_out=held_out)
        chosen = schedule(scored, fitted(what, SHORT), speed, minutes=200, recipe=recipe)
        return math.prod(choice.value for choice in chosen.choices if choice.key in counts)

    assert steps(flips=("I",), margin=4) < steps(margin=4) < steps() < steps(held_out=10)


def test_a_case_that_fits_the_patch_is_seen_from_several_places_of_it() -> None:
    def chosen(shape: Sides, patch: Sides) -> int:
        return margin_of(replace(fitted(facts(), SHORT), shape=shape, patch=patch))

    assert chosen((35, 50, 36), (40, 56, 40)) > 0
    assert chosen((35, 57, 36), (40, 56, 40)) == 0
    assert chosen((35, 50, 90), (40, 56, 1)) > 0  # slice by slice
    one = replace(fitted(facts(), SHORT), shape=(35, 50, 36), patch=(40, 56, 40))
    assert (windows_of(one), windows_of(one, margin=4)) == (1, 8)
    assert windows_of(replace(one, patch=(40, 56, 1)), margin=4) == 36 * 4


# --- the cases that are scored at the end take their part of the minutes

LIKE_BRATS = facts(case((150, 180, 140), (1.0, 1.0, 1.0), hounsfield=False), modality="MRI", count=484)
LIKE_LIVERS = facts(case((400, 350, 450), (0.8, 0.8, 1.0), thickness=60.0), count=131)


def timed(what: Facts, budget: Budget) -> tuple[Recipe, Fit, float]:
    """Return the recipe planned, what fits, and the minutes that it takes where the machine is as fast as it was."""
    designed = design(what, budget)
    chosen = as_recipe(designed.choices)
    seconds = designed.fit.step_voxels / budget.voxels_per_second * (5 if designed.fit.wide else 1)
    scheduled = schedule(what, designed.fit, Speed(seconds, draw=0, workers=0), minutes=budget.minutes, recipe=chosen)
    return as_recipe((*designed.choices, *scheduled.choices)), designed.fit, scheduled.minutes


@pytest.mark.parametrize(("what", "held_out"), [(LIKE_BRATS, 97), (LIKE_LIVERS, 26)], ids=["brain", "liver"])
@pytest.mark.parametrize("minutes", [10, 30, 600])
def test_the_minutes_given_are_kept_however_many_cases_are_scored(what: Facts, held_out: int, minutes: float) -> None:
    recipe, found, needed = timed(replace(what, held_out=held_out), replace(SHORT, minutes=minutes))
    assert needed <= 1.15 * minutes
    steps = recipe.training.epochs * recipe.training.steps_per_epoch
    assert steps * found.step_voxels / SHORT.voxels_per_second * (5 if found.wide else 1) >= 0.4 * 60 * minutes


def test_averaging_goes_before_voxels_are_made_larger() -> None:
    few, many = (timed(replace(LIKE_BRATS, held_out=count), replace(SHORT, minutes=300)) for count in (1, 60))
    assert few[0].prediction.flips
    assert not many[0].prediction.flips
    assert passes_of(many[1], many[0].prediction) < passes_of(few[1], few[0].prediction)
    assert many[1].spacing_mm == few[1].spacing_mm


def test_where_a_thin_label_keeps_voxels_small_training_gets_its_part_and_the_overrun_is_told() -> None:
    what = replace(facts(case((512, 512, 600), (0.7, 0.7, 0.7), thickness=1.2), count=50), held_out=10)
    recipe, found, needed = timed(what, SHORT)
    seconds = recipe.training.epochs * recipe.training.steps_per_epoch * found.step_voxels / SHORT.voxels_per_second
    assert seconds > 0.15 * 60 * SHORT.minutes
    assert needed > 1.15 * SHORT.minutes


@pytest.mark.parametrize("sides", [(320, 320, 20), (512, 512, 1)], ids=["prostate", "pictures"])
def test_twice_the_filters_cost_neither_resolution_nor_sight(sides: Sides) -> None:
    what = facts(case(sides, (0.6, 0.6, 3.6)), modality="MRI", count=40)
    little = replace(SHORT, memory_bytes=GB, minutes=120)
    chosen, plenty = fitted(what, little), fitted(what, replace(little, memory_bytes=100 * GB))
    assert math.prod(chosen.spacing_mm) <= 1.5 * math.prod(plenty.spacing_mm)


def test_the_coarse_network_fits_the_memory_too() -> None:
    budget = replace(SHORT, minutes=120, memory_bytes=GB)
    designed = design(facts(LARGE, count=20), budget)
    coarse = as_recipe(designed.choices).coarse
    assert coarse is not None
    assert coarse.model is not None
    options = {"channels": 1, "labels": 1, "bf16": False}
    assert training_bytes(coarse.patch, designed.fit.batch, coarse.model.options["filters"], **options) <= GB


def test_what_is_unknown_takes_memory_to_leave_out() -> None:
    sizes = [training_bytes((64,) * 3, 2, (16, 32), channels=1, labels=60, masked=m, bf16=False) for m in (False, True)]
    assert sizes[0] < sizes[1] < 2 * sizes[0]


def test_too_little_time_is_told() -> None:
    what = facts(count=50)
    speed = Speed(step=5.0, draw=0, workers=0)
    choices = schedule(what, fitted(what, SHORT), speed, minutes=1, recipe=Recipe()).choices
    assert choices[0].value >= 1
    assert "give more minutes" in choices[0].reason


def test_worker_processes_draw_while_the_network_trains() -> None:
    assert Speed(step=1.0, draw=1.6, workers=0).seconds == 2.6
    assert Speed(step=1.0, draw=1.6, workers=4).seconds == 1.0
    assert Speed(step=1.0, draw=8.0, workers=4).seconds == 2.0

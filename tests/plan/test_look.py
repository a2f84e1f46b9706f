"""Looking at a dataset finds its grids, sizes, labels and intensities, and tells of cases that cannot be read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from phantoms import save_nifti

from medseg.dataset import open_dataset
from medseg.errors import ManifestError, NoCasesError
from medseg.labels import LabelSet
from medseg.plan.look import centre, label_facts, look_at, look_at_case, surface_mm2
from medseg.progress import Progress
from medseg.volume import Geometry

# Columns of the affine: array axes to the left, the head and the front, so that nothing is in RAS order.
TURNED = np.array([[-2.0, 0, 0, 9], [0, 0, 1.5, 4], [0, 3.0, 0, -7], [0, 0, 0, 1]])


def write_dataset(folder: Path, *, modality: str = "CT", ids: int = 1, cases: int = 2) -> Path:
    """Write cases of 12 × 8 × 10 voxels with zeros (or air) around a body that has one label of 4 × 2 × 3 voxels."""
    air = -1000 if modality == "CT" else 0
    folder.mkdir(exist_ok=True)
    for number in range(cases):
        image = np.full((12, 8, 10), air, np.int16)
        image[2:11, 1:7, 1:9] = 30
        image[4:8, 3:5, 4:7] = 100 + 10 * number
        label = np.zeros(image.shape, np.uint8)
        label[4:8, 3:5, 4:7] = ids
        save_nifti(folder / f"image_{number}.nii.gz", image, TURNED)
        save_nifti(folder / f"label_{number}.nii.gz", label, TURNED)
    training = [{"image": f"image_{number}.nii.gz", "label": f"label_{number}.nii.gz"} for number in range(cases)]
    labels = {0: "background", 1: "Small Organ", 2: "other"}
    listing = {"name": "turned", "modality": {0: modality}, "labels": labels, "training": training}
    (folder / "dataset.json").write_text(json.dumps(listing))
    return folder


@pytest.mark.parametrize("modality", ["CT", "MRI"])
def test_sides_and_spacing_are_told_in_ras_with_and_without_margins(tmp_path: Path, modality: str) -> None:
    facts = look_at(open_dataset(write_dataset(tmp_path, modality=modality)))
    case = facts.cases[0]
    assert case.shape == (12, 10, 8)
    assert case.inside == (9, 8, 6)
    assert case.spacing_mm == pytest.approx((2.0, 1.5, 3.0))
    assert case.labelled == (4, 3, 2)
    assert facts.tomograms == case.hounsfield == (modality == "CT")


def test_labels_are_measured_in_millimetres(tmp_path: Path) -> None:
    facts = look_at(open_dataset(write_dataset(tmp_path)))
    label = facts.cases[0].labels["small_organ"]
    assert label.voxels == 24
    assert label.volume_ml == pytest.approx(24 * 9 / 1000)
    assert label.components == 1
    assert facts.found == ("small_organ",)
    assert facts.labels == ("small_organ", "other")
    assert facts.labelled_share() == pytest.approx(24 / (9 * 8 * 6))


def test_intensities_are_those_inside_the_labels(tmp_path: Path) -> None:
    (channel,) = look_at(open_dataset(write_dataset(tmp_path))).intensities
    assert (channel.low, channel.median, channel.high) == (100, 105, 110)


def test_scans_that_are_not_in_hounsfield_units_have_no_say_in_the_window(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, cases=3)
    image = nib.load(data / "image_2.nii.gz")
    save_nifti(data / "image_2.nii.gz", np.asarray(image.dataobj) + 1024, TURNED)
    facts = look_at(open_dataset(data))
    assert [case.hounsfield for case in facts.cases] == [True, True, False]
    assert (facts.intensities[0].low, facts.intensities[0].high) == (100, 110)
    for number in range(2):  # the only label left is in that one
        save_nifti(data / f"label_{number}.nii.gz", np.zeros((12, 8, 10), np.uint8), TURNED)
    assert look_at(open_dataset(data)).intensities[0].low == 1144


def test_a_label_that_no_case_was_drawn_for_is_no_reason_to_refuse_a_dataset(tmp_path: Path) -> None:
    data = write_dataset(tmp_path)
    listing = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    listing["training"] = [case | {"labels_present": ["small_organ"]} for case in listing["training"]]
    (data / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    facts = look_at(open_dataset(data))
    assert facts.found == ("small_organ",)
    assert facts.partial


def test_facts_are_json(tmp_path: Path) -> None:
    facts = look_at(open_dataset(write_dataset(tmp_path)))
    assert json.loads(json.dumps(facts.as_json()))["cases"][1]["inside"] == [9, 8, 6]


def test_a_long_cylinder_is_about_as_thick_as_it_is_wide() -> None:
    i, j = np.ogrid[:30, :30]
    ids = np.repeat((((i - 14.5) ** 2 + (j - 14.5) ** 2) < 100)[..., None], 200, axis=2).astype(np.uint8)
    found = label_facts(ids, LabelSet.from_ids([1, 4]), Geometry(ids.shape, np.diag([0.5, 0.5, 1.0, 1.0])))
    assert list(found) == ["label_1"]
    assert 0.7 * 10 < found["label_1"].thickness_mm < 10


def test_components_touch_at_faces_and_the_surface_of_nothing_is_0() -> None:
    ids = np.zeros((4, 4, 4), np.uint8)
    ids[0, 0, 0] = ids[1, 1, 1] = ids[3, 3, 2:] = 1
    assert label_facts(ids, LabelSet.from_ids([1]), Geometry(ids.shape, np.eye(4)))["label_1"].components == 3
    assert surface_mm2(ids == 2, (1, 2, 3), within=(4, 4, 4)) == 0
    assert surface_mm2(ids[3:, 3:, 3:] == 1, (1, 2, 3), within=(4, 4, 4)) == 2 * (2 * 3 + 1 * 3 + 1 * 2)
    assert surface_mm2(ids[3:, 3:, 3:] == 1, (1, 2, 3), within=(4, 4, 1)) == 2 * (2 * 3 + 1 * 3)
    assert surface_mm2(ids[3:, 3:, 3:] == 1, (1, 2, 3), within=(1, 1, 1)) == 2 * (2 * 3 + 1 * 3 + 1 * 2)


def test_a_disc_in_a_single_slice_is_as_thick_as_it_is_wide() -> None:
    i, j = np.ogrid[:60, :60]
    ids = (((i - 30) ** 2 + (j - 30) ** 2) < 20**2)[..., None].astype(np.uint8)
    found = label_facts(ids, LabelSet.from_ids([1]), Geometry(ids.shape, np.eye(4)))["label_1"]
    assert found.thickness_mm == pytest.approx(np.pi / 4 * 40, rel=0.05)


def test_a_label_lies_where_the_world_has_it() -> None:
    ids = np.zeros((6, 5, 4), np.uint8)
    ids[2:4, 1, 3] = 1
    affine = np.array([[0, -2, 0, 10], [3, 0, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]])  # I to the front, J to the left
    found = label_facts(ids, LabelSet.from_ids([1]), Geometry(ids.shape, affine))
    assert found["label_1"].centre_mm == (8.0, 27.5, 42.0)


def test_a_case_that_cannot_be_read_is_told_of_and_left_out(tmp_path: Path, dataset: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "data"))
    broken = min((copy / "imagesTr").iterdir())
    broken.write_bytes(broken.read_bytes()[:-50])
    told: list[Progress] = []
    facts = look_at(open_dataset(copy), notify=told.append)
    assert len(facts.cases) == 4
    (left_out,) = facts.left_out.values()
    assert left_out.startswith("E_CORRUPT")
    assert sum("is left out: E_CORRUPT" in progress.message for progress in told) == 1
    for path in (copy / "imagesTr").iterdir():
        path.write_bytes(b"")
    with pytest.raises(NoCasesError, match="none of 5 case"):
        look_at(open_dataset(copy))


def test_a_dataset_without_a_single_labelled_voxel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="none of 2 label map"):
        look_at(open_dataset(write_dataset(tmp_path, ids=0)))


def relisted(folder: Path, change: Callable[[list[dict[str, object]]], None]) -> Path:
    """Change the cases in a dataset's listing."""
    listing = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for number, entry in enumerate(listing["training"]):
        entry["fold"] = number
    change(listing["training"])
    (folder / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    return folder


def label_in_one(entries: list[dict[str, object]]) -> None:
    """Have the label drawn in the case of fold 0 only; the others' label maps show nothing else, and are left out."""
    for entry in entries[1:]:
        entry["labels_present"] = ["other"]


def test_the_fold_held_out_leaves_every_label_to_learn_from(tmp_path: Path) -> None:
    facts = look_at(open_dataset(relisted(write_dataset(tmp_path, cases=5), label_in_one)))
    assert facts.found == ("small_organ",)
    assert (facts.fold, facts.held_out) == (None, 1)
    assert facts.masked

    def two(entries: list[dict[str, object]]) -> None:
        label_in_one(entries)
        del entries[3]["labels_present"]

    shown = look_at(open_dataset(relisted(write_dataset(tmp_path / "two", cases=5), two)))
    assert (shown.fold, shown.held_out) == (0, 1)


@pytest.mark.parametrize(("cases", "unreadable", "expected"), [(5, 0, (1, 1)), (2, 1, (None, 1)), (5, 4, (0, 1))])
def test_a_fold_of_which_no_case_can_be_read_is_not_held_out(
    tmp_path: Path, cases: int, unreadable: int, expected: tuple[int | None, int]
) -> None:
    folder = relisted(write_dataset(tmp_path, cases=cases), lambda _: None)
    (folder / f"image_{unreadable}.nii.gz").write_bytes(b"nothing of use")
    facts = look_at(open_dataset(folder))
    assert (facts.fold, facts.held_out) == expected


def test_the_centre_of_a_mask_is_the_mean_of_its_voxels() -> None:
    mask = np.random.default_rng(0).random((5, 6, 7)) > 0.7
    np.testing.assert_allclose(centre(mask), np.argwhere(mask).mean(axis=0))


def test_samples_of_many_labels_and_cases_stay_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.plan.look.MOST_SAMPLES", 1)
    dataset = open_dataset(write_dataset(tmp_path))
    few = look_at_case(dataset, dataset.cases[0], samples_per_label=7)[1]
    assert few.shape == (1, 7)
    assert look_at(dataset).intensities[0].median == pytest.approx(105, abs=5)

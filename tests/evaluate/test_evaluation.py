"""Predictions are matched with references by case id, scored, and counted honestly."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotations import on_series, save_slices
from phantoms import house_geometry, house_label_map

from medseg.cli import main
from medseg.labels import LabelSet
from medseg.metrics import read_metrics
from medseg.volume import Geometry, LabelMap, write_image, write_rtstruct, write_seg

SHAPE = (6, 5, 4)


def listing(path: Path, labels: LabelSet) -> tuple[str, str]:
    """Write a dataset.json with these labels, and return the option that names it."""
    names = {"0": "background"} | {str(label.id): label.name for label in labels}
    path.write_text(json.dumps({"name": "x", "modality": {"0": "CT"}, "labels": names}))
    return "--labels", str(path)


def label_map(*boxes: tuple[int, slice], geometry: Geometry | None = None) -> LabelMap:
    """Return a label map with ids in slabs along I."""
    array = np.zeros(SHAPE, np.uint8)
    for id_, where in boxes:
        array[where] = id_
    return LabelMap(array, geometry or house_geometry(shape=SHAPE))


def evaluate(predictions: Path, references: Path, out: Path, *options: str) -> int:
    return main(["evaluate", str(predictions), str(references), "--out", str(out), "--quiet", *options])


def test_two_files_are_scored_by_hand_counted_voxels(tmp_path: Path) -> None:
    write_image(label_map((1, np.s_[0:3])), tmp_path / "prediction.nii.gz")
    write_image(label_map((1, np.s_[1:5])), tmp_path / "truth.nii.gz")
    assert evaluate(tmp_path / "prediction.nii.gz", tmp_path / "truth.nii.gz", tmp_path / "out") == 0
    (row,) = read_metrics(tmp_path / "out" / "metrics.csv")
    assert (row.case_id, row.label_id, row.label) == ("prediction", 1, "label_1")
    assert row.dice == pytest.approx(2 * 2 / (3 + 4), abs=1e-6)
    assert row.iou == pytest.approx(2 / 5, abs=1e-6)
    assert row.precision == pytest.approx(2 / 3, abs=1e-6)
    assert row.recall == pytest.approx(2 / 4, abs=1e-6)
    voxel_ml = np.prod(house_geometry().spacing_mm) / 1000
    assert row.reference_ml == pytest.approx(4 * 20 * voxel_ml, abs=1e-5)
    assert row.prediction_ml == pytest.approx(3 * 20 * voxel_ml, abs=1e-5)


def test_the_table_has_the_contracts_columns(tmp_path: Path) -> None:
    write_image(house_label_map(), tmp_path / "a.nii.gz")
    evaluate(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", tmp_path / "out")
    header = (tmp_path / "out" / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == ("case_id,label_id,label,dice,iou,precision,recall,hd95_mm,assd_mm,nsd,reference_ml,prediction_ml")


def test_missed_invented_and_absent_labels_are_told_apart(tmp_path: Path) -> None:
    pairs = {
        "missed": (label_map(), label_map((1, np.s_[0:2]))),
        "invented": (label_map((1, np.s_[0:2])), label_map()),
        "absent": (label_map(), label_map()),
        "found": (label_map((1, np.s_[0:2])), label_map((1, np.s_[0:2]))),
    }
    for case_id, (prediction, reference) in pairs.items():
        write_image(prediction, tmp_path / "predictions" / f"{case_id}.nii.gz")
        write_image(reference, tmp_path / "references" / f"{case_id}.nii.gz")
    (tmp_path / "labels.json").write_text(
        json.dumps({"name": "x", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}})
    )
    options = ("--labels", str(tmp_path / "labels.json"))
    assert evaluate(tmp_path / "predictions", tmp_path / "references", tmp_path / "out", *options) == 0
    dice = {row.case_id: row.dice for row in read_metrics(tmp_path / "out" / "metrics.csv")}
    assert dice == {"missed": 0.0, "invented": 0.0, "absent": None, "found": 1.0}
    spleen = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["labels"]["spleen"]
    assert spleen["dice"]["n"] == 3
    assert spleen["dice"]["mean"] == pytest.approx(1 / 3)
    counts = [spleen[name] for name in ("n", "n_reference_empty", "n_prediction_empty", "n_both_empty")]
    assert counts == [4, 2, 2, 1]


def test_a_model_run_names_the_labels_of_its_predictions(run: Path, dataset: Path, tmp_path: Path) -> None:
    scan = sorted((dataset / "imagesTr").iterdir())[0]
    assert main(["predict", str(run), str(scan), "--out", str(tmp_path / "predictions"), "--quiet"]) == 0
    assert evaluate(tmp_path / "predictions", dataset / "labelsTr", tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["labels"]) == {"spleen", "kidney_right", "kidney_left", "liver"}
    assert summary["n_unpredicted"] == 4


def test_a_pair_that_cannot_be_scored_has_its_code_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = house_geometry(shape=SHAPE, centre_mm=(32, -42.25, 77.125))
    pairs = {
        "good": (label_map((1, np.s_[0:2])), label_map((1, np.s_[0:2]))),
        "moved": (label_map((1, np.s_[0:2])), label_map((1, np.s_[0:2]), geometry=moved)),
        "unknown": (label_map((9, np.s_[0:2])), label_map((1, np.s_[0:2]))),
    }
    for case_id, (prediction, reference) in pairs.items():
        write_image(prediction, tmp_path / "predictions" / f"{case_id}.nii.gz")
        write_image(reference, tmp_path / "references" / f"{case_id}.nii.gz")
    write_image(label_map(), tmp_path / "predictions" / "alone.nii.gz")
    code = evaluate(tmp_path / "predictions", tmp_path / "references", tmp_path / "out", "--labels", "msd_spleen")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert code == 1
    assert {case_id: error["code"] for case_id, error in summary["failed"].items()} == {
        "moved": "E_GRID_MISMATCH",
        "unknown": "E_UNKNOWN_LABEL",
        "alone": "E_MISSING",
    }
    assert summary["overall"]["n"] == 1
    said = capsys.readouterr().err
    assert all(code in said for code in ("E_GRID_MISMATCH", "E_UNKNOWN_LABEL", "E_MISSING"))


def test_a_damaged_file_and_a_link_to_nowhere_leave_the_others_their_scores(tmp_path: Path) -> None:
    for folder in ("predictions", "references"):
        for case_id in ("good", "cut", "odd"):
            write_image(label_map((1, np.s_[0:2])), tmp_path / folder / f"{case_id}.nii.gz")
    bad = tmp_path / "predictions" / "cut.nii.gz"
    content = bytearray(bad.read_bytes())
    content[20] ^= 0xFF  # within the compressed header
    bad.write_bytes(content)
    odd = tmp_path / "references" / "odd.nii.gz"
    header = bytearray(gzip.decompress(odd.read_bytes()))
    header[70:72] = (9999).to_bytes(2, "little")  # datatype
    odd.write_bytes(gzip.compress(header))
    (tmp_path / "references" / "lost.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    assert evaluate(tmp_path / "predictions", tmp_path / "references", tmp_path / "out") == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert {case_id: error["code"] for case_id, error in summary["failed"].items()} == {
        "cut": "E_CORRUPT",
        "odd": "E_CORRUPT",
        "lost.nii.gz": "E_UNREADABLE",
    }
    assert "links to a file that is not there" in summary["failed"]["lost.nii.gz"]["message"]
    assert summary["overall"]["dice"]["mean"] == 1.0


def test_a_case_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a/scan.nii.gz", "b/scan.nii.gz"):
        write_image(label_map(), tmp_path / "predictions" / name)
    assert evaluate(tmp_path / "predictions", tmp_path / "predictions", tmp_path / "out") == 1


LABELS = LabelSet.from_names({1: "spleen", 2: "liver"})


@pytest.mark.parametrize("predicted", ["nii.gz", "seg.dcm", "rtstruct.dcm"])
@pytest.mark.parametrize("referred", ["nii.gz", "seg.dcm", "rtstruct.dcm"])
def test_dicom_annotations_are_scored_like_any_label_map(tmp_path: Path, predicted: str, referred: str) -> None:
    grid = house_geometry(shape=SHAPE, orientation="LPS")
    series = save_slices(tmp_path / "ct", grid)
    writers = {
        "nii.gz": lambda label_map, path: write_image(label_map, path),
        "seg.dcm": lambda label_map, path: write_seg(label_map, series, LABELS, path),
        "rtstruct.dcm": lambda label_map, path: write_rtstruct(label_map, series, LABELS, path),
    }
    maps = [label_map((1, np.s_[a:b, 1:4]), geometry=grid) for a, b in ((0, 3), (1, 5))]
    for folder, suffix, content in zip(("p", "r"), (predicted, referred), maps, strict=True):
        (tmp_path / folder).mkdir()
        writers[suffix](on_series(content, series), tmp_path / folder / f"case.{suffix}")
    (tmp_path / "p" / "run.json").write_text(json.dumps({"labels": LABELS.as_json()}))
    code = evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "out")
    if predicted == referred == "rtstruct.dcm":
        summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
        assert (code, summary["failed"]["case"]["code"]) == (1, "E_NO_AFFINE")
        return
    assert code == 0
    spleen, liver = read_metrics(tmp_path / "out" / "metrics.csv")
    assert (spleen.case_id, spleen.label, spleen.dice) == ("case", "spleen", pytest.approx(4 / 7, abs=1e-6))
    assert (liver.label, liver.dice) == ("liver", None)


def test_of_a_case_in_several_forms_the_most_exact_is_scored(tmp_path: Path) -> None:
    grid = house_geometry(shape=SHAPE, orientation="LPS")
    series = save_slices(tmp_path / "ct", grid)
    truth = on_series(label_map((1, np.s_[0:3]), geometry=grid), series)
    (tmp_path / "p").mkdir()
    write_rtstruct(truth, series, LABELS, tmp_path / "p" / "case.rtstruct.dcm")
    write_seg(truth, series, LABELS, tmp_path / "p" / "case.seg.dcm")
    assert evaluate(tmp_path / "p", tmp_path / "p" / "case.seg.dcm", tmp_path / "out") == 0
    assert [row.label for row in read_metrics(tmp_path / "out" / "metrics.csv")] == ["spleen", "liver"]


def test_of_two_dicom_files_the_labels_of_either_are_scored_whatever_their_numbers(tmp_path: Path) -> None:
    grid = house_geometry(shape=SHAPE, orientation="LPS")
    series = save_slices(tmp_path / "ct", grid)
    truth = on_series(label_map((1, np.s_[0:2]), (2, np.s_[2:4]), (3, np.s_[4:6]), geometry=grid), series)
    for name, names in (
        ("predicted", {2: "liver", 3: "aorta"}),
        ("reference", {1: "spleen", 2: "liver", 3: "kidney"}),
    ):
        labels = LabelSet.from_names(names)
        shown = LabelMap(np.where(np.isin(truth.array, list(names)), truth.array, 0), truth.geometry)
        write_seg(shown, series, labels, tmp_path / f"{name}.seg.dcm")
    assert evaluate(tmp_path / "predicted.seg.dcm", tmp_path / "reference.seg.dcm", tmp_path / "out") == 0
    rows = read_metrics(tmp_path / "out" / "metrics.csv")
    assert {row.label: row.dice for row in rows} == {"liver": 1.0, "aorta": 0.0, "spleen": 0.0, "kidney": 0.0}
    assert len({row.label_id for row in rows}) == 4


ORGANS = LabelSet.from_names({1: "spleen", 2: "liver", 5: "stomach"})


@pytest.fixture
def forms(tmp_path: Path) -> Path:
    """One label map in every form, with names where a form has them, and without them as bare.nii.gz."""
    grid = house_geometry(shape=SHAPE, orientation="LPS")
    series = save_slices(tmp_path / "ct", grid)
    truth = on_series(label_map((1, np.s_[0:1]), (2, np.s_[1:3]), (5, np.s_[3:6]), geometry=grid), series)
    folder = tmp_path / "forms"
    folder.mkdir()
    for name in ("named.nii.gz", "named.nrrd"):
        write_image(truth, folder / name, ORGANS)
    write_image(truth, folder / "bare.nii.gz")
    renamed = LabelSet.from_names({1: "liver", 2: "spleen", 5: "stomach"})
    write_image(truth, folder / "renamed.nii.gz", renamed)
    write_image(truth, folder / "partly.nii.gz", LabelSet.from_names({1: "spleen"}))
    write_seg(truth, series, ORGANS, folder / "case.seg.dcm")
    write_rtstruct(truth, series, ORGANS, folder / "case.rtstruct.dcm")
    return folder


@pytest.mark.parametrize("image", ["named.nii.gz", "named.nrrd"])
@pytest.mark.parametrize("annotation", ["case.seg.dcm", "case.rtstruct.dcm"])
def test_an_image_that_names_its_ids_is_matched_with_a_dicom_file_by_names(
    forms: Path, tmp_path: Path, image: str, annotation: str
) -> None:
    for pair in ((image, annotation), (annotation, image)):
        assert evaluate(forms / pair[0], forms / pair[1], tmp_path / "out") == 0
        rows = read_metrics(tmp_path / "out" / "metrics.csv")
        assert [(row.label_id, row.label, row.dice) for row in rows] == [
            (1, "spleen", 1.0), (2, "liver", 1.0), (5, "stomach", 1.0),
        ]  # fmt: skip


@pytest.mark.parametrize("annotation", ["case.seg.dcm", "case.rtstruct.dcm"])
def test_ids_without_names_are_not_matched_with_the_numbers_of_a_dicom_file(
    forms: Path, tmp_path: Path, annotation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for pair in (("bare.nii.gz", annotation), (annotation, "bare.nii.gz")):
        assert evaluate(forms / pair[0], forms / pair[1], tmp_path / "out") == 1
        said = capsys.readouterr().err
        assert "E_UNKNOWN_LABEL" in said
        assert "ay with --labels what the ids mean" in said
    names = {"0": "background"} | {str(label.id): label.name for label in ORGANS}
    (tmp_path / "l.json").write_text(json.dumps({"name": "x", "modality": {"0": "CT"}, "labels": names}))
    options = ("--labels", str(tmp_path / "l.json"))
    assert evaluate(forms / "bare.nii.gz", forms / annotation, tmp_path / "out", *options) == 0
    assert [row.dice for row in read_metrics(tmp_path / "out" / "metrics.csv")] == [1.0] * 3


def test_ids_that_an_image_does_not_name_are_not_scored_beside_a_dicom_file(forms: Path, tmp_path: Path) -> None:
    grid = house_geometry(shape=SHAPE, orientation="LPS")
    series = save_slices(tmp_path / "series", grid)
    spleen = on_series(label_map((1, np.s_[0:1]), geometry=grid), series)
    write_seg(spleen, series, LabelSet.from_names({1: "spleen"}), tmp_path / "a.seg.dcm")
    for image, code in (("partly.nii.gz", 1), ("named.nii.gz", 0)):
        assert evaluate(tmp_path / "a.seg.dcm", forms / image, tmp_path / "out") == code


def test_two_images_that_call_their_ids_differently_are_not_scored(forms: Path, tmp_path: Path) -> None:
    assert evaluate(forms / "named.nii.gz", forms / "renamed.nii.gz", tmp_path / "out") == 1
    assert evaluate(forms / "named.nii.gz", forms / "named.nrrd", tmp_path / "out") == 0


def test_of_two_images_the_names_of_either_are_taken_and_other_ids_are_scored_too(forms: Path, tmp_path: Path) -> None:
    for pair in (("bare.nii.gz", "partly.nii.gz"), ("partly.nii.gz", "bare.nii.gz")):
        assert evaluate(forms / pair[0], forms / pair[1], tmp_path / "out") == 0
        labels = [row.label for row in read_metrics(tmp_path / "out" / "metrics.csv")]
        assert labels == ["spleen", "label_2", "label_5"]


def test_regions_keep_their_parts_in_an_image_of_its_own(tmp_path: Path) -> None:
    regions = LabelSet.from_names({1: "oedema", 2: "necrosis", 5: "enhancing"}).select(
        {"whole": ["oedema", "necrosis", "enhancing"], "core": ["necrosis", "enhancing"], "enhancing": ["enhancing"]}
    )
    grid = house_geometry(shape=SHAPE, orientation="LPS")
    series = save_slices(tmp_path / "ct", grid)
    truth = on_series(label_map((1, np.s_[0:1]), (2, np.s_[1:3]), (5, np.s_[3:6]), geometry=grid), series)
    write_image(truth, tmp_path / "a.nii.gz", regions)
    write_seg(truth, series, regions, tmp_path / "a.seg.dcm")
    assert evaluate(tmp_path / "a.nii.gz", tmp_path / "a.seg.dcm", tmp_path / "out") == 0
    rows = read_metrics(tmp_path / "out" / "metrics.csv")
    assert [(row.label, row.dice) for row in rows] == [("whole", 1.0), ("core", 1.0), ("enhancing", 1.0)]
    assert rows[0].reference_ml == pytest.approx(np.prod(SHAPE) * grid.voxel_ml, abs=1e-5)


def test_a_case_is_scored_on_the_labels_and_voxels_that_its_reference_has(tmp_path: Path) -> None:
    for case_id in ("all", "spleen"):
        write_image(label_map((1, np.s_[0:2]), (2, np.s_[3:6])), tmp_path / "p" / f"{case_id}.nii.gz")
    write_image(label_map((1, np.s_[0:3]), (2, np.s_[3:5]), (9, np.s_[5:6])), tmp_path / "r" / "all.nii.gz")
    write_image(label_map((1, np.s_[0:2])), tmp_path / "r" / "spleen.nii.gz")
    listing = {
        "name": "x",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen", "2": "liver"},
        "ignore": [9],
        "training": [{"image": "all.nii.gz"}, {"image": "spleen.nii.gz", "labels_present": ["spleen"]}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    options = ("--labels", str(tmp_path / "dataset.json"))
    assert evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "out", *options) == 0
    dice = {(row.case_id, row.label): row.dice for row in read_metrics(tmp_path / "out" / "metrics.csv")}
    expected = {("all", "spleen"): 0.8, ("all", "liver"): 1, ("spleen", "spleen"): 1}
    assert dice == pytest.approx(expected)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert {name: label["n"] for name, label in summary["labels"].items()} == {"spleen": 2, "liver": 1}
    assert summary["overall"]["dice"]["mean"] == pytest.approx((0.9 + 1) / 2)

    write_image(label_map((2, np.s_[0:2])), tmp_path / "r" / "spleen.nii.gz")
    assert evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "out", *options) == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["failed"]["spleen"]["code"] == "E_UNKNOWN_LABEL"


@pytest.mark.parametrize("listed", ["training", "test"])
def test_what_was_drawn_is_known_by_the_references_own_name_and_of_test_cases_too(tmp_path: Path, listed: str) -> None:
    prediction, drawn = tmp_path / "somewhere.nii.gz", tmp_path / "a_drawn.nii.gz"
    write_image(label_map((1, np.s_[0:2]), (2, np.s_[3:6])), prediction)
    write_image(label_map((1, np.s_[0:2])), drawn)
    case = {"image": "a.nii.gz", "label": "a_drawn.nii.gz", "labels_present": ["spleen"]}
    whole = {"image": "b.nii.gz", "label": "b.nii.gz"}
    labels = {"0": "background", "1": "spleen", "2": "liver"}
    listing = {"modality": {"0": "CT"}, "labels": labels, "training": [whole], "test": []}
    listing[listed] = [*listing[listed], case]  # type: ignore[misc]
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    assert evaluate(prediction, drawn, tmp_path / "out", "--labels", str(tmp_path / "dataset.json")) == 0
    assert [row.label for row in read_metrics(tmp_path / "out" / "metrics.csv")] == ["spleen"]


PREDICTED = LabelSet.from_names({1: "spleen", 4: "liver"})
# The same organs in the numbers of another dataset.
DATASET = LabelSet.from_names({1: "spleen", 4: "gallbladder", 5: "liver"})
REFERENCE = label_map((1, np.s_[0:2]), (4, np.s_[2:3]), (5, np.s_[3:6]))


@pytest.mark.parametrize("named_by", ["the file", "run.json"])
def test_a_prediction_that_numbers_its_labels_otherwise_is_matched_with_the_labels_by_names(
    tmp_path: Path, named_by: str
) -> None:
    write_image(REFERENCE, tmp_path / "truth.nii.gz")
    prediction = label_map((1, np.s_[0:2]), (4, np.s_[3:6]))
    write_image(prediction, tmp_path / "p" / "a.nii.gz", PREDICTED if named_by == "the file" else None)
    if named_by == "run.json":
        (tmp_path / "p" / "run.json").write_text(json.dumps({"labels": PREDICTED.as_json()}))
    options = listing(tmp_path / "l.json", DATASET)
    assert evaluate(tmp_path / "p" / "a.nii.gz", tmp_path / "truth.nii.gz", tmp_path / "out", *options) == 0
    rows = read_metrics(tmp_path / "out" / "metrics.csv")
    assert [(row.label_id, row.label, row.dice) for row in rows] == [
        (1, "spleen", 1.0), (4, "gallbladder", 0.0), (5, "liver", 1.0),
    ]  # fmt: skip


def test_a_reference_that_names_its_ids_is_matched_with_the_run_by_names(tmp_path: Path) -> None:
    write_image(label_map((1, np.s_[0:2]), (4, np.s_[3:6])), tmp_path / "p" / "a.nii.gz", PREDICTED)
    known = replace(PREDICTED, known_ids=frozenset({0, 1, 4, 5}))
    (tmp_path / "p" / "run.json").write_text(json.dumps({"labels": known.as_json()}))
    liver_is_1 = LabelSet.from_names({1: "liver", 5: "stomach"})
    write_image(label_map((1, np.s_[3:6]), (5, np.s_[2:3])), tmp_path / "r" / "a.nii.gz", liver_is_1)
    assert evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "out") == 0
    dice = {row.label: row.dice for row in read_metrics(tmp_path / "out" / "metrics.csv")}
    assert dice == {"spleen": 0.0, "liver": 1.0}


def test_a_prediction_with_a_name_that_the_labels_lack_is_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(label_map((1, np.s_[0:3])), tmp_path / "a.nii.gz", LabelSet.from_names({1: "tumour"}))
    write_image(label_map((1, np.s_[0:3])), tmp_path / "truth.nii.gz")
    options = listing(tmp_path / "l.json", DATASET)
    assert evaluate(tmp_path / "a.nii.gz", tmp_path / "truth.nii.gz", tmp_path / "out", *options) == 1
    captured = capsys.readouterr()
    assert "E_UNKNOWN_LABEL" in captured.err
    assert "calls 1 'tumour', and the labels have no 'tumour' and call it 'spleen'" in captured.err
    assert captured.out == ""


def test_a_copied_prediction_is_not_scored_by_a_reference_that_holds_more_without_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(label_map((1, np.s_[0:2]), (4, np.s_[3:6])), tmp_path / "a.nii.gz", PREDICTED)
    write_image(REFERENCE, tmp_path / "truth.nii.gz")
    for pair in (("a.nii.gz", "truth.nii.gz"), ("truth.nii.gz", "a.nii.gz")):
        assert evaluate(tmp_path / pair[0], tmp_path / pair[1], tmp_path / "out") == 1
        assert "truth.nii.gz holds 5 without a name, beside a.nii.gz" in capsys.readouterr().err
    within = label_map((1, np.s_[0:2]), (4, np.s_[3:6]))
    write_image(within, tmp_path / "truth.nii.gz")
    assert evaluate(tmp_path / "a.nii.gz", tmp_path / "truth.nii.gz", tmp_path / "out") == 0


def test_folders_that_name_their_cases_differently_are_refused_with_the_first_names_of_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        write_image(label_map(), tmp_path / "p" / f"case_{number}_0000.nii.gz")
        write_image(label_map(), tmp_path / "r" / f"case_{number}.nii.gz")
        write_image(label_map(), tmp_path / "s" / f"scan_{number}.nii.gz")
    assert evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "E_NO_CASES" in said
    assert "predicted are case_0_0000, case_1_0000, case_2_0000 and 2 more" in said
    assert "the references are case_0, case_1, case_2 and 2 more. Take _0000" in said
    assert evaluate(tmp_path / "r", tmp_path / "s", tmp_path / "out") == 1
    assert "Name each reference like its prediction" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_was_not_predicted_is_listed_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case_id in "abcdefgh":
        write_image(label_map((1, np.s_[0:2])), tmp_path / "r" / f"{case_id}.nii.gz")
    assert evaluate(tmp_path / "r" / "a.nii.gz", tmp_path / "r", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Scores of 1 case ")
    assert "Not scored, without a prediction: 7 references: b, c, d, e, f, and 2 more." in captured.err


def test_labels_that_no_case_shows_are_counted_and_not_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(label_map((1, np.s_[0:2])), tmp_path / "a.nii.gz")
    options = listing(tmp_path / "dataset.json", DATASET)
    assert evaluate(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", tmp_path / "out", *options) == 0
    table = capsys.readouterr().out
    assert "Left out, as in no reference and no prediction: 2 labels." in table
    assert "liver" not in table
    assert len(read_metrics(tmp_path / "out" / "metrics.csv")) == 3


def test_the_labels_may_be_named_by_the_folder_of_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(label_map((5, np.s_[0:2])), tmp_path / "a.nii.gz")
    (tmp_path / "data").mkdir()
    listing(tmp_path / "data" / "dataset.json", DATASET)
    arguments = (tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", tmp_path / "out")
    assert evaluate(*arguments, "--labels", str(tmp_path / "data")) == 0
    assert "liver" in capsys.readouterr().out
    assert evaluate(*arguments, "--labels", str(tmp_path)) == 1
    assert "E_MISSING" in capsys.readouterr().err


def test_without_names_a_label_of_one_case_is_absent_in_the_others(tmp_path: Path) -> None:
    for case_id, boxes in {"both": [(1, np.s_[0:2]), (2, np.s_[3:5])], "one": [(1, np.s_[0:2])], "none": []}.items():
        write_image(label_map(*boxes), tmp_path / "p" / f"{case_id}.nii.gz")
    assert evaluate(tmp_path / "p", tmp_path / "p", tmp_path / "out") == 0
    rows = read_metrics(tmp_path / "out" / "metrics.csv")
    assert [(row.case_id, row.label, row.dice, row.reference_ml == 0) for row in rows] == [
        ("both", "label_1", 1.0, False),
        ("both", "label_2", 1.0, False),
        ("none", "label_1", None, True),
        ("none", "label_2", None, True),
        ("one", "label_1", 1.0, False),
        ("one", "label_2", None, True),
    ]
    labels = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["labels"]
    assert [(part["n"], part["n_both_empty"]) for part in labels.values()] == [(3, 1), (3, 2)]


def test_where_nothing_is_labelled_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(label_map(), tmp_path / "a.nii.gz")
    assert evaluate(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", tmp_path / "out") == 0
    assert "Neither prediction nor reference shows a label: a." in capsys.readouterr().err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["unlabelled"], summary["overall"]["n"]) == (["a"], 0)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"both": ["spleen", "liver"]}, {("all", "both"): 1.0}),
        (
            {"both": ["spleen", "liver"], "liver": ["liver"]},
            {("all", "both"): 1.0, ("all", "liver"): 0.8, ("liver", "liver"): 1.0},
        ),
    ],
    ids=["merged", "region"],
)
def test_labels_made_of_the_datasets_are_scored_on_references_that_lack_some(
    tmp_path: Path, chosen: dict[str, list[str]], expected: dict[tuple[str, str], float]
) -> None:
    dataset = LabelSet.from_names({0: "background", 1: "spleen", 2: "liver"})
    labels = dataset.select(chosen)
    for case_id in ("all", "liver"):
        write_image(label_map((1, np.s_[0:2]), (2, np.s_[2:5])), tmp_path / "p" / f"{case_id}.nii.gz", labels)
    record = {"command": "predict", "labels": labels.as_json(), "recipe": {"labels": chosen}}
    (tmp_path / "p" / "run.json").write_text(json.dumps(record))
    write_image(label_map((1, np.s_[0:3]), (2, np.s_[3:5]), (9, np.s_[5:6])), tmp_path / "r" / "all.nii.gz")
    write_image(label_map((2, np.s_[2:5])), tmp_path / "r" / "liver.nii.gz")
    listing = {
        "name": "x",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen", "2": "liver"},
        "ignore": [9],
        "training": [{"image": "all.nii.gz"}, {"image": "liver.nii.gz", "labels_present": ["liver"]}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    options = ("--labels", str(tmp_path / "dataset.json"))
    assert evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "out", *options) == 0
    found = {(row.case_id, row.label): row.dice for row in read_metrics(tmp_path / "out" / "metrics.csv")}
    assert found == pytest.approx(expected)

    # in another dataset, whose ids are others, the same names and numbers mean other organs
    (tmp_path / "dataset.json").write_text(json.dumps(listing | {"labels": {"0": "no", "2": "spleen", "1": "liver"}}))
    assert evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "other", *options) == 1
    summary = json.loads((tmp_path / "other" / "summary.json").read_text(encoding="utf-8"))
    assert {error["code"] for error in summary["failed"].values()} == {"E_UNKNOWN_LABEL"}


def test_a_label_that_a_recipe_calls_otherwise_is_scored_by_the_datasets_labels(tmp_path: Path) -> None:
    labels = LabelSet.from_names({0: "background", 1: "cancer"}).select({"lesion": ["cancer"]})
    write_image(label_map((1, np.s_[0:2])), tmp_path / "p" / "a.nii.gz", labels)
    record = {"command": "predict", "labels": labels.as_json(), "recipe": {"labels": {"lesion": ["cancer"]}}}
    (tmp_path / "p" / "run.json").write_text(json.dumps(record))
    write_image(label_map((1, np.s_[0:2])), tmp_path / "r" / "a.nii.gz")
    asked = listing(tmp_path / "dataset.json", LabelSet.from_names({1: "cancer"}))
    assert evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "out", *asked) == 0
    (row,) = read_metrics(tmp_path / "out" / "metrics.csv")
    assert (row.label, row.dice) == ("lesion", 1.0)


def test_a_trainings_own_scores_are_not_written_over(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(label_map((1, np.s_[0:2])), tmp_path / "a.nii.gz")
    before = (run / "validation" / "summary.json").read_bytes()
    for out in (run, run / "validation"):
        assert evaluate(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", out) == 2
        assert "E_OPTION" in capsys.readouterr().err
    assert (run / "validation" / "summary.json").read_bytes() == before
    elsewhere = Path(shutil.copytree(run, tmp_path / "run")) / "on_others"
    assert evaluate(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", elsewhere) == 0


def test_a_label_that_files_number_each_in_their_own_way_has_one_row_a_case(tmp_path: Path) -> None:
    for id_ in (1, 2, 3):
        labels = LabelSet.from_names({0: "background", id_: "liver"})
        write_image(label_map((id_, np.s_[0:2])), tmp_path / "p" / f"{id_}.nii.gz", labels)
    assert evaluate(tmp_path / "p", tmp_path / "p", tmp_path / "out") == 0
    rows = read_metrics(tmp_path / "out" / "metrics.csv")
    assert [(row.case_id, row.label_id, row.dice) for row in rows] == [("1", 1, 1.0), ("2", 2, 1.0), ("3", 3, 1.0)]


def test_labels_that_a_run_left_out_are_scored_where_they_are_asked_for(tmp_path: Path) -> None:
    both = LabelSet.from_names({0: "background", 1: "spleen", 2: "liver"})
    spleen = both.select({"spleen": ["spleen"]})
    write_image(label_map((1, np.s_[0:2])), tmp_path / "p" / "a.nii.gz", spleen)
    record = {"command": "predict", "labels": spleen.as_json(), "recipe": {"labels": {"spleen": ["spleen"]}}}
    (tmp_path / "p" / "run.json").write_text(json.dumps(record))
    write_image(label_map((1, np.s_[0:2]), (2, np.s_[2:4])), tmp_path / "r" / "a.nii.gz")
    options = listing(tmp_path / "dataset.json", both)
    assert evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "out", *options) == 0
    dice = {row.label: row.dice for row in read_metrics(tmp_path / "out" / "metrics.csv")}
    assert dice == {"spleen": 1.0, "liver": 0.0}

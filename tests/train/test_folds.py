"""Facts about a cross-validation: each case is scored by a model that never saw it, and the models become one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.cli import main
from medseg.dataset import open_dataset
from medseg.metrics import read_metrics
from medseg.package import load_package
from medseg.train.checkpoint import LAST
from medseg.volume import read_label_map

SHORT = ["--set", "training.epochs=1", "--set", "training.steps_per_epoch=2", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory, dataset: Path, recipe: Path) -> Path:
    folder = tmp_path_factory.mktemp("folds") / "run"
    arguments = ["train", str(recipe), "--data", str(dataset), "--out", str(folder), "--fold", "all", "--refit"]
    assert main([*arguments, *SHORT]) == 0
    return folder


def read(path: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return value


def test_every_case_is_scored_once_by_the_model_that_never_saw_it(folds: Path, dataset: Path) -> None:
    opened = open_dataset(dataset)
    rows = read_metrics(folds / "validation" / "metrics.csv")
    labels = opened.manifest.label_set
    assert sorted((row.case_id, row.label) for row in rows) == sorted(
        (case.case_id, label.name) for case in opened.cases for label in labels
    )
    for case in opened.cases:
        own = folds / f"fold_{opened.folds[case.case_id]}"
        assert case.case_id not in read(own / "run.json")["training_cases"]  # type: ignore[operator]
        assert [row for row in rows if row.case_id == case.case_id] == [
            row for row in read_metrics(own / "validation" / "metrics.csv") if row.case_id == case.case_id
        ]


def test_the_label_maps_that_were_scored_are_kept(folds: Path, dataset: Path) -> None:
    opened = open_dataset(dataset)
    for row in read_metrics(folds / "validation" / "metrics.csv"):
        found = read_label_map(folds / f"fold_{opened.folds[row.case_id]}" / "validation" / f"{row.case_id}.nii.gz")
        assert row.prediction_ml == pytest.approx(
            np.count_nonzero(found.array == row.label_id) * found.geometry.voxel_ml, abs=1e-5
        )


def test_the_summary_has_each_folds_mean_and_the_mean_of_these(folds: Path) -> None:
    summary = read(folds / "validation" / "summary.json")
    assert summary["scored_on"] == "every case, by the model of the fold that held it out"
    means = [fold["dice"] for fold in summary["folds"].values()]  # type: ignore[attr-defined]
    assert len(means) == 5
    for name, mean in summary["mean_of_folds"]["dice"].items():  # type: ignore[index]
        defined = [one[name] for one in means if one[name] is not None]
        assert mean == (pytest.approx(np.mean(defined)) if defined else None)


def test_the_package_is_the_ensemble_of_the_folds(folds: Path) -> None:
    ensemble = load_package(folds)
    members = [load_package(folds / f"fold_{fold}").weights for fold in range(5)]
    assert [one.weights for one in (ensemble, *ensemble.others)] == members
    assert len(set(members)) == 5
    assert ensemble.scores == read(folds / "validation" / "summary.json")
    assert read(folds / "run.json")["fold"] == "all"


def test_the_refitted_model_saw_every_case_and_has_the_scores_of_the_folds(folds: Path, dataset: Path) -> None:
    refitted = load_package(folds / "refit")
    assert refitted.others == ()
    assert refitted.scores == load_package(folds).scores
    assert len(read(folds / "refit" / "run.json")["training_cases"]) == len(open_dataset(dataset).cases)  # type: ignore[arg-type]
    assert refitted.rules == load_package(folds).rules


def test_the_rules_are_plain_json_beside_what_the_folds_say_of_them(folds: Path) -> None:
    report = read(folds / "postprocess.json")
    described = read(folds / "model" / "model.json")
    assert isinstance(described["postprocess"], list)
    assert report


def test_prepared_cases_are_shared_by_the_folds(folds: Path) -> None:
    assert len(list((folds / "prepared").glob("[!.]*"))) == 5
    assert not (folds / "fold_0" / "prepared").exists()


def test_it_goes_on_where_it_stopped_and_is_never_overwritten(
    folds: Path, dataset: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(recipe), "--data", str(dataset), "--out", str(folds), "--fold", "all", *SHORT]
    before = load_package(folds).sha256
    assert main(arguments) == 1
    assert "E_TRAINING" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert load_package(folds).sha256 == before


def test_a_single_fold_does_not_take_the_place_of_a_cross_validation(
    folds: Path, dataset: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_package(folds).sha256
    for more in ([], ["--resume"]):
        arguments = ["train", str(recipe), "--data", str(dataset), "--out", str(folds), "--fold", "0", *more, *SHORT]
        assert main(arguments) == 1
        assert "a run is there already" in capsys.readouterr().err
    assert load_package(folds).sha256 == before


@pytest.mark.parametrize("there", ["results.jsonl", "run.json", "model/model.json", f"checkpoint/{LAST}"])
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["", "resumed"])
def test_a_cross_validation_does_not_take_the_place_of_anything_else(
    there: str, more: list[str], dataset: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    (run / there).parent.mkdir(parents=True)
    (run / there).write_text("{}\n", encoding="utf-8")
    before = sorted(run.rglob("*"))
    arguments = ["train", str(recipe), "--data", str(dataset), "--out", str(run), "--fold", "all", *more, *SHORT]
    assert main(arguments) == 1
    assert "Choose another --out" in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before


def unreadable(copy: Path) -> None:
    """Have the only case of the last fold be no image."""
    opened = open_dataset(copy)
    (last,) = (case for case in opened.cases if opened.folds[case.case_id] == 4)
    opened.image(last).paths[0].write_bytes(b"nothing of use")


def drawn_in_the_last_fold_only(copy: Path) -> None:
    """Have a label that every case but that of the last fold lacks."""
    opened = open_dataset(copy)
    listing = json.loads((copy / "dataset.json").read_text(encoding="utf-8"))
    some = [label.name for label in opened.manifest.label_set][1:]
    for entry, case in zip(listing["training"], opened.cases, strict=True):
        if opened.folds[case.case_id] != 4:
            entry["labels_present"] = some
    (copy / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(unreadable, "E_NO_CASES"), (drawn_in_the_last_fold_only, "without fold 4")],
    ids=["unreadable", "no label"],
)
def test_what_a_later_fold_lacks_is_told_before_the_first_is_trained(
    spoil: Callable[[Path], None], said: str, dataset: Path, recipe: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    copy = Path(shutil.copytree(dataset, tmp_path / "data"))
    spoil(copy)
    arguments = ["train", str(recipe), "--data", str(copy), "--out", str(tmp_path / "run"), "--fold", "all", *SHORT]
    assert main(arguments) == 1
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("fold_*"))


@pytest.mark.parametrize("options", [["--fold", "some"], ["--fold", "-1"], ["--fold", "0", "--refit"], ["--refit"]])
def test_folds_that_are_none_are_usage_errors(
    options: list[str], dataset: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(recipe), "--data", str(dataset), "--out", str(tmp_path / "run"), *options, *SHORT]
    assert main(arguments) == 2
    assert options[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

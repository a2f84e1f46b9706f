"""Training leaves a run that explains itself, goes on where it stopped, and says what it could not use."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from medseg.cli import main
from medseg.dataset import Dataset, open_dataset
from medseg.engine.torch import TorchEngine
from medseg.errors import MedsegError, NoCasesError, TrainingError
from medseg.labels import ORGAN_COLOURS
from medseg.metrics import read_metrics
from medseg.models import unpack
from medseg.package import load_package
from medseg.progress import Progress
from medseg.recipe import Recipe, load_recipe
from medseg.run import read_lines
from medseg.train import finish, train
from medseg.train.checkpoint import State
from medseg.train.fingerprint import fingerprint
from medseg.train.masking import Reconstruction
from medseg.train.trainer import Trainer

CPU = torch.device("cpu")


def copied(dataset: Path, to: Path) -> Path:
    """Return a copy of a dataset that a test may damage."""
    return Path(shutil.copytree(dataset, to))


def test_a_run_holds_what_the_contract_names(run: Path) -> None:
    for name in ("recipe.toml", "run.json", "journal.jsonl", "validation/metrics.csv", "validation/summary.json"):
        assert (run / name).stat().st_size > 0
    assert {path.name for path in (run / "model").iterdir()} == {"model.json", "weights.safetensors", "model.onnx"}
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["fold"] == 0
    assert record["failed"] == {}
    assert set(record["training_cases"]).isdisjoint(record["validation_cases"])
    assert record["versions"]["torch"]


def test_the_journal_has_a_line_for_each_epoch(run: Path) -> None:
    lines = list(read_lines(run / "journal.jsonl"))
    assert [line["epoch"] for line in lines] == [1, 2]
    assert [line["step"] for line in lines] == [3, 6]
    for line in lines:
        assert set(line) == {
            "epoch", "step", "loss", "validation_dice", "learning_rate", "seconds", "samples_per_second", "peak_ram_mb",
        }  # fmt: skip
        assert 0 <= line["validation_dice"] <= 1


def test_the_resolved_recipe_trains_the_same_again(run: Path, recipe: Path) -> None:
    assert load_recipe(str(run / "recipe.toml")) == load_recipe(str(recipe))


def test_scores_are_on_the_held_out_cases(run: Path) -> None:
    rows = read_metrics(run / "validation" / "metrics.csv")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert {row.case_id for row in rows} == set(record["validation_cases"])
    summary = json.loads((run / "validation" / "summary.json").read_text(encoding="utf-8"))
    assert summary["scored_on"] == "fold 0, held out of training"
    assert summary["overall"]["n"] == len(record["validation_cases"])


def test_without_a_fold_the_scores_are_called_those_on_training_data(
    dataset: Path, recipe: Path, tmp_path: Path
) -> None:
    small = load_recipe(str(recipe), ["training.epochs=1", "training.steps_per_epoch=1"])
    result = train(small, open_dataset(dataset), tmp_path / "run", device=CPU)
    assert result.summary["scored_on"] == "training data"
    assert result.summary["overall"]["n"] == 5


def test_a_network_that_says_no_number_has_found_nothing_and_its_training_is_kept(
    dataset: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_network = TorchEngine.run

    def overflow(engine: TorchEngine, batch: torch.Tensor) -> torch.Tensor:
        return run_network(engine, batch) * np.float32(np.nan)

    monkeypatch.setattr(TorchEngine, "run", overflow)
    told: list[str] = []
    small = load_recipe(str(recipe), ["training.epochs=1", "training.steps_per_epoch=1"])
    result = train(
        small, open_dataset(dataset), tmp_path / "run", fold=0, device=CPU, notify=lambda one: told.append(one.message)
    )
    assert result.summary["overall"]["dice"]["mean"] == 0
    assert any("E_NOT_FINITE" in message for message in told)
    assert load_package(tmp_path / "run").weights


def test_the_package_is_the_last_checkpoint(run: Path) -> None:
    weights = unpack(load_package(run).weights)
    checkpoint = load_file(run / "checkpoint" / "last.safetensors")
    assert weights
    assert all(torch.equal(tensor, checkpoint[f"weights.{name}"]) for name, tensor in weights.items())


def test_the_best_weights_are_kept_beside_the_last(run: Path) -> None:
    best, last = load_file(run / "checkpoint" / "best.safetensors"), unpack(load_package(run).weights)
    assert best.keys() == last.keys()


class StoppedError(Exception):
    """Raised in a test to break training off."""


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    run: Path, dataset: Path, recipe: Path, tmp_path: Path
) -> None:
    def stop_in_the_second_epoch(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == 5:
            raise StoppedError

    chosen, opened = load_recipe(str(recipe)), open_dataset(dataset)
    with pytest.raises(StoppedError):
        train(chosen, opened, tmp_path / "run", fold=0, device=CPU, notify=stop_in_the_second_epoch)
    train(chosen, opened, tmp_path / "run", fold=0, device=CPU, resume=True)
    resumed, undisturbed = load_package(tmp_path / "run"), load_package(run)
    assert resumed.weights == undisturbed.weights
    assert resumed.onnx == undisturbed.onnx
    assert [line["epoch"] for line in read_lines(tmp_path / "run" / "journal.jsonl")] == [1, 2]


def test_of_a_finished_run_nothing_is_done_again(run: Path, dataset: Path, recipe: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("prepared")))
    record = json.loads((copy / "run.json").read_text(encoding="utf-8"))
    record["failed"] = {"organs_9": {"code": "E_CORRUPT", "message": "cut short"}}
    (copy / "run.json").write_text(json.dumps(record), encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in (copy / "model", copy / "validation", copy / "run.json")}
    result = train(load_recipe(str(recipe)), open_dataset(dataset), copy, fold=0, device=CPU, resume=True)
    assert result.summary == json.loads((copy / "validation" / "summary.json").read_text(encoding="utf-8"))
    assert result.failed == record["failed"]
    assert not (copy / "prepared").exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (copy / "run.json").unlink()  # broken off between the last step and the end
    again = train(load_recipe(str(recipe)), open_dataset(dataset), copy, fold=0, device=CPU, resume=True)
    assert again.summary == result.summary
    assert (copy / "run.json").is_file()


def test_a_finished_run_whose_checkpoint_was_deleted_is_finished_and_never_trained_over(
    run: Path, dataset: Path, recipe: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("prepared", "checkpoint")))
    chosen, opened = load_recipe(str(recipe)), open_dataset(dataset)
    kept = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    result = train(chosen, opened, copy, fold=0, device=CPU, resume=True)
    assert result.summary == json.loads((copy / "validation" / "summary.json").read_text(encoding="utf-8"))
    with pytest.raises(TrainingError, match="a run is there already"):
        train(chosen, opened, copy, fold=0, device=CPU)
    for other in ({"seed": 1}, {"fold": 1}):
        with pytest.raises(TrainingError, match="no checkpoint any more"):
            train(chosen, opened, copy, device=CPU, resume=True, **{"fold": 0, **other})
    margin = load_recipe(str(recipe), ["prediction.margin=2"])
    with pytest.raises(TrainingError, match="no checkpoint any more"):
        train(margin, opened, copy, fold=0, device=CPU, resume=True)
    with pytest.raises(TrainingError, match="another recipe"):
        train(load_recipe(str(recipe), ["training.epochs=9"]), opened, copy, fold=0, device=CPU, resume=True)
    assert {path: path.read_bytes() for path in kept} == kept
    (copy / "run.json").unlink()  # before the record was written
    with pytest.raises(TrainingError, match="no checkpoint any more"):
        train(chosen, opened, copy, fold=0, device=CPU, resume=True)


@pytest.mark.parametrize("change", [{"patient_id": "one"}, {"labels_present": ["liver"]}])
def test_a_run_does_not_go_on_when_cases_have_changed_sides_or_labels(
    run: Path, dataset: Path, recipe: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("prepared")))
    training = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))["training"]
    moved = relisted(dataset, tmp_path / "data", training=[one | change for one in training[:2]] + training[2:])
    with pytest.raises(TrainingError, match="another recipe, dataset, fold"):
        train(load_recipe(str(recipe)), moved, copy, fold=0, device=CPU, resume=True)


def test_the_colour_of_a_label_is_no_other_run(run: Path, dataset: Path, recipe: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("prepared")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ORGAN_COLOURS, "spleen", (1, 2, 3))
        opened = open_dataset(dataset)
        assert next(iter(opened.manifest.label_set)).colour == (1, 2, 3)
        assert train(load_recipe(str(recipe)), opened, copy, fold=0, device=CPU, resume=True).summary


def test_a_finished_run_that_is_to_predict_in_another_way_is_scored_again_with_the_same_weights(
    run: Path, dataset: Path, recipe: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    told: list[str] = []
    margin = load_recipe(str(recipe), ["prediction.margin=2"])

    def again() -> None:
        train(
            margin,
            open_dataset(dataset),
            copy,
            fold=0,
            device=CPU,
            resume=True,
            notify=lambda p: told.append(p.message),
        )

    again()
    assert any("scored and packaged again" in message for message in told)
    assert load_package(copy).recipe.prediction.margin == 2
    assert load_package(copy).weights == load_package(run).weights
    assert (copy / "journal.jsonl").read_bytes() == (run / "journal.jsonl").read_bytes()
    scores, before = (read_metrics(folder / "validation" / "metrics.csv") for folder in (copy, run))
    assert [row.case_id for row in scores] == [row.case_id for row in before]
    assert scores != before
    told.clear()
    again()  # and then it is finished
    assert not any(told)


def test_a_run_is_never_overwritten(run: Path, dataset: Path, recipe: Path) -> None:
    with pytest.raises(TrainingError, match="a run is there already") as caught:
        train(load_recipe(str(recipe)), open_dataset(dataset), run, fold=0, device=CPU)
    assert caught.value.code == "E_TRAINING"


def test_predictions_are_not_trained_over(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").touch()
    with pytest.raises(TrainingError, match="results of a prediction"):
        train(load_recipe(str(recipe)), open_dataset(dataset), tmp_path, fold=0, device=CPU, resume=True)


def test_resuming_with_another_recipe_is_refused(run: Path, dataset: Path, recipe: Path) -> None:
    for change in ("training.batch=1", "model.name=segresnet", "labels={spleen=['spleen']}"):
        settings = [change, "model.options={}"] if "segresnet" in change else [change]
        with pytest.raises(TrainingError, match="another recipe"):
            train(load_recipe(str(recipe), settings), open_dataset(dataset), run, fold=0, device=CPU, resume=True)


def test_it_is_told_which_keys_of_the_recipe_are_others(run: Path, dataset: Path, recipe: Path) -> None:
    other = load_recipe(str(recipe), ["training.epochs=6", "training.sample=components", "description=another"])
    with pytest.raises(TrainingError) as caught:
        train(other, open_dataset(dataset), run, fold=0, device=CPU, resume=True)
    assert caught.value.found.endswith(
        'training.epochs was 2 and is 6; training.sample was "voxels" and is "components"'
    )
    assert f"--from {run}" in caught.value.remedy


def test_defaults_that_another_version_had_are_told(run: Path, dataset: Path, recipe: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    text = (copy / "recipe.toml").read_text(encoding="utf-8")
    assert "warm_up = 0.1\n" in text
    (copy / "recipe.toml").write_text(text.replace("warm_up = 0.1\n", "warm_up = 0.2\n"), encoding="utf-8")
    with pytest.raises(TrainingError, match=r"training.warm_up was 0.2 and is 0.1"):
        train(load_recipe(str(recipe)), open_dataset(dataset), copy, fold=0, device=CPU, resume=True)


def test_without_a_checkpoint_resuming_says_that_it_begins_anew(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    def heard(progress: Progress) -> None:
        assert str(tmp_path / "typo") in progress.message
        assert "first step" in progress.message
        raise StoppedError

    with pytest.raises(StoppedError):
        train(
            load_recipe(str(recipe)),
            open_dataset(dataset),
            tmp_path / "typo",
            fold=0,
            device=CPU,
            resume=True,
            notify=heard,
        )


def test_what_training_does_not_depend_on_may_change_when_it_is_resumed(recipe: Path) -> None:
    chosen = load_recipe(str(recipe))
    begun = fingerprint(chosen, "facts")
    kept = ("description=another", "manifest=msd_spleen", "pretraining.block=4", "training.sample=voxels")
    for same in (*kept, "prediction.overlap=0.1"):
        assert fingerprint(load_recipe(str(recipe), [same]), "facts") == begun
    for other in ("training.sample=components", "training.encoder_rate=0.5", "training.average=0.5"):
        assert fingerprint(load_recipe(str(recipe), [other]), "facts") != begun
    assert fingerprint(chosen, "others") != begun


def test_a_key_that_a_later_version_adds_is_no_other_recipe(recipe: Path) -> None:
    class Later(Recipe):
        rounds: int = 1

    chosen = load_recipe(str(recipe))
    assert fingerprint(Later(**dict(chosen))) == fingerprint(chosen)
    assert fingerprint(Later(**dict(chosen), rounds=2)) != fingerprint(chosen)


def test_a_coarse_model_that_this_training_did_not_make_stays_out_of_the_package(
    dataset: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "to_onnx", lambda *_, **__: None)
    (tmp_path / "run" / "coarse").mkdir(parents=True)  # of a run of another recipe that was broken off
    small = load_recipe(str(recipe), ["training.epochs=1", "training.steps_per_epoch=1"])
    train(small, open_dataset(dataset), tmp_path / "run", fold=0, device=CPU)
    assert load_package(tmp_path / "run").coarse is None


@pytest.mark.parametrize(("precision", "rounded"), [("auto", True), ("fp32", False)])
def test_in_full_precision_training_is_not_rounded_to_tf32(
    precision: str, rounded: bool, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    chosen = load_recipe(str(recipe), [f"training.precision={precision}"])
    Trainer(torch.nn.Conv3d(1, 1, 1), chosen, Reconstruction(), device=CPU, seed=0, state=State(""))
    assert torch.backends.cudnn.allow_tf32 is rounded


def relisted(dataset: Path, to: Path, **changes: object) -> Dataset:
    """Return a copy of a dataset whose dataset.json says something else."""
    listing = copied(dataset, to) / "dataset.json"
    facts = json.loads(listing.read_text(encoding="utf-8"))
    listing.write_text(json.dumps(facts | changes), encoding="utf-8")
    return open_dataset(to)


def damage_label(dataset: Path, change: str) -> tuple[str, Dataset]:
    """Spoil the first case's label map and return its id."""
    opened = open_dataset(dataset)
    case = opened.cases[0]
    path = opened.label(case)
    image = nib.load(path)
    array, affine = np.asanyarray(image.dataobj), image.affine.copy()
    if change == "unknown id":
        array = np.where(array == 0, 77, array).astype(np.uint8)
    elif change == "fractions":
        array = array.astype(np.float32) + 0.25
    elif change == "other grid":
        affine[:3, 3] += 5
    nib.save(nib.Nifti1Image(array, affine), path)
    return case.case_id, opened


@pytest.mark.parametrize(
    ("change", "code"),
    [("unknown id", "E_UNKNOWN_LABEL"), ("fractions", "E_FRACTIONAL_LABEL"), ("other grid", "E_GRID_MISMATCH")],
)
def test_a_case_that_cannot_be_used_is_left_out_and_named(
    dataset: Path, recipe: Path, tmp_path: Path, change: str, code: str
) -> None:
    case_id, opened = damage_label(copied(dataset, tmp_path / "data"), change)
    messages: list[str] = []
    small = load_recipe(str(recipe), ["training.epochs=1", "training.steps_per_epoch=1"])
    result = train(
        small, opened, tmp_path / "run", device=CPU, notify=lambda progress: messages.append(progress.message)
    )
    assert {case_id: error["code"] for case_id, error in result.failed.items()} == {case_id: code}
    assert any(case_id in message and code in message for message in messages)
    assert result.summary["overall"]["n"] == 4
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["failed"] == result.failed


def test_the_command_ends_with_1_when_a_case_was_left_out(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    damage_label(copied(dataset, tmp_path / "data"), "other grid")
    code = main([
        "train", str(recipe), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--quiet",
        "--set", "training.epochs=1", "--set", "training.steps_per_epoch=1", "--device", "cpu",
    ])  # fmt: skip
    assert code == 1
    assert (tmp_path / "run" / "model" / "model.json").is_file()


def test_no_usable_case_is_an_error_that_quotes_the_first(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    data = copied(dataset, tmp_path / "data")
    for path in (data / "imagesTr").iterdir():
        path.write_bytes(b"nothing of use")
    with pytest.raises(NoCasesError, match="E_NOT_AN_IMAGE"):
        train(load_recipe(str(recipe)), open_dataset(data), tmp_path / "run", device=CPU)


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_checkpoint(
    dataset: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(100))

    def loss_gone_wrong(logits: torch.Tensor, target: torch.Tensor, head: str) -> torch.Tensor:
        return logits.mean() * (float("nan") if next(steps) >= 3 else 1.0)

    monkeypatch.setitem(__import__("medseg.losses.losses", fromlist=["LOSSES"]).LOSSES, "dice_ce", loss_gone_wrong)
    with pytest.raises(MedsegError, match="the loss is nan") as caught:
        train(load_recipe(str(recipe)), open_dataset(dataset), tmp_path / "run", fold=0, device=CPU)
    assert caught.value.code == "E_TRAINING"
    assert (tmp_path / "run" / "checkpoint" / "last.safetensors").is_file()


def test_overlapping_regions_train_with_a_sigmoid_head(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    text = (
        recipe.read_text(encoding="utf-8")
        + '\n[labels]\nkidneys = ["kidney_left", "kidney_right"]\nright = ["kidney_right"]\n'
    )
    (tmp_path / "regions.toml").write_text(text)
    settings = ["training.epochs=1", "training.steps_per_epoch=2", "model.head=sigmoid"]
    regions = load_recipe(str(tmp_path / "regions.toml"), settings)
    result = train(regions, open_dataset(dataset), tmp_path / "run", fold=0, device=CPU)
    assert set(result.summary["labels"]) == {"kidneys", "right"}


def test_overlapping_regions_are_refused_with_a_softmax_head(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    text = (
        recipe.read_text(encoding="utf-8")
        + '\n[labels]\nkidneys = ["kidney_left", "kidney_right"]\nright = ["kidney_right"]\n'
    )
    (tmp_path / "regions.toml").write_text(text)
    with pytest.raises(MedsegError, match="softmax") as caught:
        train(load_recipe(str(tmp_path / "regions.toml")), open_dataset(dataset), tmp_path / "run", device=CPU)
    assert caught.value.code == "E_RECIPE"


def test_a_2d_model_trains_and_predicts_whole_volumes(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    flat = load_recipe(str(recipe), ["training.patch=[32, 32, 1]", "training.epochs=1", "training.steps_per_epoch=2"])
    assert flat.two_dimensional
    result = train(flat, open_dataset(dataset), tmp_path / "run", fold=0, device=CPU)
    assert result.summary["overall"]["n"] == 1


def test_a_full_disk_stops_training_instead_of_leaving_cases_out(
    dataset: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medseg.prepared_case.np.save", full)
    with pytest.raises(MedsegError, match="No space left") as caught:
        train(load_recipe(str(recipe)), open_dataset(dataset), tmp_path / "run", fold=0, device=CPU)
    assert caught.value.code == "E_UNWRITABLE"


def test_a_window_in_hu_is_refused_for_mr(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    changed = relisted(dataset, tmp_path / "data", modality={"0": "MRI"})
    with pytest.raises(MedsegError, match="window in HU") as caught:
        train(load_recipe(str(recipe)), changed, tmp_path / "run", fold=0, device=CPU)
    assert caught.value.code == "E_RECIPE"


def test_a_dataset_of_nothing_but_background_is_refused(dataset: Path, recipe: Path, tmp_path: Path) -> None:
    changed = relisted(dataset, tmp_path / "data", labels={"0": "background"})
    with pytest.raises(MedsegError, match="no label but background") as caught:
        train(load_recipe(str(recipe)), changed, tmp_path / "run", fold=0, device=CPU)
    assert caught.value.code == "E_MANIFEST"

"""Facts about pretraining: only what is hidden counts, it goes on where it stopped, and training starts from it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from copies import side_by_side, wait
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import SERIES_UID, house_geometry, house_volume, save_dicom_series, save_nifti

from medseg.across import rank
from medseg.cli import main
from medseg.dataset import open_dataset
from medseg.errors import DuplicateCaseError, NoCasesError, OptionError, PackageError, RecipeError
from medseg.labels import LabelSet
from medseg.losses import masked_mse
from medseg.models import in_encoder, unpack, weights_of
from medseg.package import load_package
from medseg.prepared_case import PreparedCase
from medseg.preprocess import prepare, prepare_scan
from medseg.progress import Progress, ignore
from medseg.recipe import Preprocess, Recipe, load_recipe
from medseg.run import read_lines
from medseg.train import Start, find_scans, pretrain, train
from medseg.train.masking import MaskedStream, Reconstruction, hide, random_blocks
from medseg.train.scans import Scan, hold_out
from medseg.train.starting import first_network
from medseg.train.stream import batches
from medseg.train.trainer import Trainer
from medseg.volume import Source

CPU = torch.device("cpu")
CHANGES = ["training.patch=[16, 16, 12]", "training.average=0.9", "training.steps_per_epoch=4", "pretraining.block=4"]


@pytest.fixture(scope="module")
def small(recipe: Path) -> Recipe:
    return load_recipe(str(recipe), CHANGES)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared scans, which all these runs share."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def pretrained(small: Recipe, dataset: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has happened to."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    pretrain(small, find_scans([dataset]), folder, device=CPU, deterministic=True, cache=cache)
    return folder


def record_of(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return record


# What is masked


@given(
    patch=st.tuples(*[st.integers(1, 24)] * 3),
    block=st.integers(1, 9),
    masked=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_whole_blocks_are_masked_as_many_as_asked_and_never_all(
    patch: tuple[int, int, int], block: int, masked: float, seed: int
) -> None:
    grid = [-(-side // block) for side in patch]
    count = int(np.prod(grid))
    if count < 2:
        with pytest.raises(RecipeError, match="is no larger"):
            random_blocks(patch, block=block, masked=masked, rng=np.random.default_rng(seed))
        return
    found = random_blocks(patch, block=block, masked=masked, rng=np.random.default_rng(seed))
    assert found.shape == patch
    firsts = found[::block, ::block, ::block]
    assert firsts.shape == tuple(grid)
    whole = firsts.repeat(block, 0).repeat(block, 1).repeat(block, 2)[tuple(map(slice, patch))]
    np.testing.assert_array_equal(found, whole)
    assert firsts.sum() == min(max(round(masked * count), 1), count - 1)


def drawn(*, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(3, channels, 6, 5, 4, generator=generator) + 7
    return image, torch.rand(3, 1, 6, 5, 4, generator=generator) < 0.6


def test_what_is_said_of_visible_voxels_changes_nothing() -> None:
    image, masked = drawn()
    said = torch.randn_like(image).requires_grad_()
    loss = masked_mse(said, image, masked)
    loss.backward()
    assert said.grad is not None
    visible = (~masked).expand_as(said)
    assert (said.grad[visible] == 0).all()
    assert (said.grad[~visible] != 0).all()
    other = torch.where(masked, said, said + torch.randn_like(said))
    assert masked_mse(other, image, masked) == loss
    hidden = masked.expand_as(image)
    assert loss.item() == pytest.approx(float((said.detach() - image)[hidden].square().mean()), rel=1e-5)


def test_a_right_answer_costs_nothing_and_nothing_masked_neither() -> None:
    image, masked = drawn()
    assert masked_mse(image, image, masked) == 0
    assert masked_mse(image + 1, image, torch.zeros_like(masked)) == 0


def test_the_network_sees_nothing_of_what_is_hidden() -> None:
    image, masked = drawn()
    other = torch.where(masked, image + 100 * torch.randn_like(image), image)
    seen = hide(image, masked)
    torch.testing.assert_close(hide(other, masked), seen)
    assert torch.equal(seen[~masked.expand_as(seen)], image[~masked.expand_as(seen)])
    for item, mask, shown in zip(image, masked[:, 0], seen, strict=True):
        for channel, filled in zip(item, shown, strict=True):
            torch.testing.assert_close(filled[mask], channel[~mask].mean().expand(int(mask.sum())))


def test_the_objective_is_the_error_of_what_is_put_in_the_holes() -> None:
    image, masked = drawn()
    loss = Reconstruction()(lambda seen: seen, (image, masked))
    assert loss == masked_mse(hide(image, masked), image, masked)
    assert loss > 0


def test_a_masked_sample_is_the_same_whoever_draws_it(small: Recipe, dataset: Path, cache: Path) -> None:
    scans = find_scans([dataset]).found
    folders = [prepare_scan(s.source, channels=1, settings=small.preprocess, cache=cache) for s in scans]
    stream = MaskedStream(folders, small.pretraining_recipe(), seed=3)
    forwards = [stream[number] for number in range(4)]
    for number in reversed(range(4)):
        again = MaskedStream(folders, small.pretraining_recipe(), seed=3)[number]
        assert all(torch.equal(one, other) for one, other in zip(again, forwards[number], strict=True))
    assert not torch.equal(forwards[0][1], forwards[1][1])
    (image, masked), *_ = batches(stream, batch=2, first=0, last=1, workers=0)
    assert image.shape == (2, 1, 16, 16, 12)
    assert masked.shape == (2, 1, 16, 16, 12)
    assert masked.dtype == torch.bool


def test_what_varies_intensities_is_left_out_and_what_moves_is_kept(recipe: Path) -> None:
    chosen = load_recipe(str(recipe), ["augment.affine=0.5", "augment.scale=0.3", "training.encoder_rate=0.5"])
    own = chosen.pretraining_recipe()
    assert (own.augment.flip, own.augment.affine, own.augment.scale) == (0.5, 0.5, 0.3)
    assert own.augment.noise == 0
    assert own.training.encoder_rate == 1
    assert own.labels is None
    assert own.coarse is None


# Scans


def test_a_scan_without_labels_is_prepared_as_one_with(tmp_path: Path) -> None:
    volume = house_volume()
    path = save_nifti(tmp_path / "scan.nii.gz", volume.array[0], volume.geometry.affine)
    chosen = Preprocess(spacing_mm=(1.5, 1.0, 2.0))
    folder = prepare_scan(Source("scan", (path,)), channels=1, settings=chosen, cache=tmp_path / "cache")
    case, expected = PreparedCase.load(folder), prepare(volume, chosen)
    np.testing.assert_allclose(case.image, expected.array, atol=1e-5)
    assert case.label_map.shape == case.geometry.shape
    assert not case.label_map.any()
    assert not (folder / "label_map.npy").exists()
    assert case.points_voxel == case.present == ()
    assert prepare_scan(Source("scan", (path,)), channels=1, settings=chosen, cache=tmp_path / "cache") == folder


def test_every_tenth_patient_is_held_out_with_all_scans() -> None:
    def scans(count: int) -> list[Scan]:
        return [Scan(Source(f"{n}_{part}", ()), f"patient {n:02}") for n in range(count) for part in "ab"]

    for count, expected in ((4, []), (5, [0]), (10, [0]), (11, [0, 10]), (21, [0, 10, 20])):
        own, held_out = hold_out(scans(count))
        assert [scan.case_id for scan in held_out] == [f"{n}_{part}" for n in expected for part in "ab"]
        assert len(own) + len(held_out) == 2 * count


def test_dicom_series_of_one_patient_are_held_out_together(tmp_path: Path) -> None:
    scan = house_volume(geometry=house_geometry(shape=(5, 4, 3)))
    for number in range(6):
        tags = {"0010|0020": f"patient {number // 2}"}
        save_dicom_series(tmp_path / f"scan {number}", scan, uid=f"{SERIES_UID}.{number}", tags=tags)
    save_nifti(tmp_path / "file.nii.gz", scan.array[0], scan.geometry.affine)
    patients = {scan.case_id: scan.patient_id for scan in find_scans([tmp_path]).found}
    assert patients == {f"scan {number}": f"patient {number // 2}" for number in range(6)} | {"file": "file"}


def test_scans_come_from_datasets_files_and_folders_and_never_from_the_test_set(dataset: Path, tmp_path: Path) -> None:
    by_manifest, by_folder = find_scans([dataset]), find_scans([dataset / "imagesTr"])
    assert [s.case_id for s in by_manifest.found] == [s.case_id for s in by_folder.found]
    assert by_manifest.channels() == by_folder.channels() == 1
    copy = shutil.copytree(dataset, tmp_path / "data")
    listing = json.loads((copy / "dataset.json").read_text(encoding="utf-8"))
    first, *others = listing["training"]
    first.pop("label")
    listing |= {"training": [first, *others[1:]], "test": [others[0]["image"]]}
    (copy / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    assert len(find_scans([copy]).found) == 4
    with pytest.raises(DuplicateCaseError):
        find_scans([dataset, dataset / "imagesTr"])


def test_the_cases_of_a_fold_are_left_out(dataset: Path) -> None:
    opened = open_dataset(dataset)
    found = {scan.case_id for scan in find_scans([dataset], fold=0).found}
    assert found == {case.case_id for case in opened.cases if opened.folds[case.case_id] != 0}
    with pytest.raises(OptionError, match="no dataset"):
        find_scans([dataset / "imagesTr"], fold=0)
    with pytest.raises(OptionError, match="--fold 7"):
        find_scans([dataset], fold=7)


# Runs


def test_a_run_says_what_was_learnt_and_its_package_has_no_labels(pretrained: Path) -> None:
    record, package = record_of(pretrained), load_package(pretrained)
    assert len(record["training_cases"]) == 4
    assert len(record["validation_cases"]) == 1
    assert set(record["training_cases"]).isdisjoint(record["validation_cases"])
    summary = json.loads((pretrained / "validation/summary.json").read_text(encoding="utf-8"))
    assert summary == record["reconstruction"] == package.scores
    assert summary["scored_on"] == "1 scan(s) held out of pretraining"
    assert summary["mse"] > 0
    assert summary["mse_of_mean"] > 0
    assert [label.name for label in package.labels] == []
    assert {path.name for path in (pretrained / "model").iterdir()} == {"model.json", "weights.safetensors"}
    lines = list(read_lines(pretrained / "journal.jsonl"))
    assert [(line["epoch"], line["step"], line["validation_dice"]) for line in lines] == [(1, 4, None), (2, 8, None)]
    assert load_recipe(str(pretrained / "recipe.toml")) == package.recipe


class StoppedError(Exception):
    """Raised in a test to break pretraining off."""


@pytest.mark.parametrize("at", [3, 4])
def test_broken_off_and_resumed_it_ends_with_the_same_bytes(
    at: int, small: Recipe, dataset: Path, cache: Path, pretrained: Path, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == at:
            raise StoppedError

    def go(**options: Any) -> None:
        scans = find_scans([dataset])
        pretrain(small, scans, tmp_path / "run", device=CPU, deterministic=True, cache=cache, **options)

    with pytest.raises(StoppedError):
        go(notify=stop)
    go(resume=True)
    assert load_package(tmp_path / "run").weights == load_package(pretrained).weights
    assert record_of(tmp_path / "run")["reconstruction"] == record_of(pretrained)["reconstruction"]


def test_of_a_finished_run_nothing_is_done_again(
    small: Recipe, dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(pretrained, tmp_path / "run"))
    before = {path: path.stat().st_mtime_ns for path in (copy / "model", copy / "validation", copy / "run.json")}
    result = pretrain(small, find_scans([dataset]), copy, device=CPU, resume=True)
    assert result.summary == record_of(pretrained)["reconstruction"]
    assert result.failed == {}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (copy / "prepared").exists()


def test_another_mask_is_another_run(small: Recipe, recipe: Path, dataset: Path, cache: Path, pretrained: Path) -> None:
    other = load_recipe(str(recipe), [*CHANGES, "pretraining.masked=0.5"])
    with pytest.raises(Exception, match="another recipe"):
        pretrain(other, find_scans([dataset]), pretrained, device=CPU, resume=True, cache=cache)
    with pytest.raises(Exception, match="a run is there already"):
        pretrain(small, find_scans([dataset]), pretrained, device=CPU, cache=cache)


def test_it_learns_more_than_the_mean(recipe: Path, dataset: Path, cache: Path, tmp_path: Path) -> None:
    longer = ["training.epochs=1", "training.steps_per_epoch=60", "training.learning_rate=1e-2", "training.average=0"]
    chosen = load_recipe(str(recipe), [*CHANGES, *longer])
    summary = pretrain(chosen, find_scans([dataset]), tmp_path / "run", device=CPU, cache=cache).summary
    assert summary["mse"] < 0.9 * summary["mse_of_mean"]


@pytest.mark.parametrize(
    "changes",
    [["training.patch=[16, 16, 1]"], ["preprocess.window_hu=[-100, 240]"], []],
    ids=["slices", "window", "z-scores"],
)
def test_slices_and_any_intensities_can_be_pretrained_on(
    changes: list[str], recipe: Path, dataset: Path, tmp_path: Path
) -> None:
    text = recipe.read_text(encoding="utf-8").replace("window_hu = [-100, 240]\n", "")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    short = ["training.epochs=1", "training.steps_per_epoch=1"]
    chosen = load_recipe(str(tmp_path / "mine.toml"), [*CHANGES, *short, *changes])
    scans = sorted((dataset / "imagesTr").iterdir())[:2]
    result = pretrain(chosen, find_scans(scans), tmp_path / "run", device=CPU)
    assert result.summary["scored_on"] == "training data"  # two scans are too few to lose one
    assert np.isfinite(result.summary["mse"])
    assert result.failed == {}


def test_scans_of_several_channels_are_put_back_in_all_of_them(small: Recipe, tmp_path: Path) -> None:
    volume = house_volume(channels=2)
    for name in "ab":
        save_nifti(tmp_path / f"{name}.nii.gz", np.moveaxis(volume.array, 0, -1), volume.geometry.affine)
    short = small.model_copy(update={"training": small.training.model_copy(update={"epochs": 1, "steps_per_epoch": 1})})
    pretrain(short, find_scans([tmp_path]), tmp_path / "run", device=CPU)
    assert load_package(tmp_path / "run").channels == 2


def test_a_scan_that_cannot_be_used_is_left_out_and_named(small: Recipe, dataset: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dataset / "imagesTr", tmp_path / "scans")
    bad, *_ = sorted(copy.iterdir())
    bad.write_bytes(b"nothing of use")
    told: list[str] = []
    result = pretrain(
        small, find_scans([copy]), tmp_path / "run", device=CPU,
        notify=lambda progress: told.append(progress.message),
    )  # fmt: skip
    ((case_id, error),) = result.failed.items()
    assert error["code"] == "E_NOT_AN_IMAGE"
    assert any(case_id in message and error["code"] in message for message in told)
    assert record_of(tmp_path / "run")["failed"] == result.failed
    sides = [[scan.case_id for scan in side] for side in hold_out(find_scans([copy]).found)]
    assert case_id in sides[1]  # the first patient's: no other takes its place
    assert record_of(tmp_path / "run")["validation_cases"] == []
    assert record_of(tmp_path / "run")["training_cases"] == sides[0]


def test_no_usable_scan_is_an_error_that_quotes_the_first(small: Recipe, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"nothing of use")
    with pytest.raises(NoCasesError, match="E_NOT_AN_IMAGE"):
        pretrain(small, find_scans([tmp_path / "scan.nii.gz"]), tmp_path / "run", device=CPU)
    with pytest.raises(NoCasesError, match="E_MISSING"):
        pretrain(small, find_scans([tmp_path / "nowhere"]), tmp_path / "run", device=CPU)


def test_blocks_as_large_as_the_patch_are_refused(recipe: Path, dataset: Path, tmp_path: Path) -> None:
    chosen = load_recipe(str(recipe), [*CHANGES, "pretraining.block=16"])
    with pytest.raises(RecipeError, match=r"pretraining\.block = 16"):
        pretrain(chosen, find_scans([dataset]), tmp_path / "run", device=CPU)
    assert not (tmp_path / "run").exists()


def test_two_processes_have_the_losses_of_one(
    small: Recipe, dataset: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(name: str) -> None:
        losses: list[float] = []
        step = Trainer.step
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "step", lambda *sample: losses.append(step(*sample)) or losses[-1])
            pretrain(small, find_scans([dataset]), tmp_path / name, device=CPU, workers=0, cache=cache)
        (tmp_path / f"{name}.{rank()}.json").write_text(json.dumps(losses))

    codes = [wait(child) for child in side_by_side(lambda: work("two"), said=tmp_path / "said")]
    assert codes == [0, 0], (tmp_path / "said.0").read_text(encoding="utf-8")
    work("one")
    one, *two = (json.loads((tmp_path / f"{name}.json").read_bytes()) for name in ("one.0", "two.0", "two.1"))
    for losses in two:
        assert losses == pytest.approx(one, abs=1e-4)
    mse = [record_of(tmp_path / name)["reconstruction"]["mse"] for name in ("one", "two")]
    assert mse[1] == pytest.approx(mse[0], rel=1e-3)


# What comes after


def test_a_pretrained_encoder_arrives_in_the_network_that_is_trained(
    small: Recipe, pretrained: Path, dataset: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = unpack(load_package(pretrained).weights)
    labels = LabelSet.from_names({0: "background", 4: "liver"})
    network, origin = first_network(
        small, channels=1, labels=labels, seed=9, start=Start.read(pretrained), notify=ignore
    )
    after = weights_of(network)
    inside = [name for name in before if in_encoder(name, "unet")]
    assert inside
    assert all(torch.equal(after[name], before[name]) for name in inside)
    assert origin["from"]["adapted"] == 0
    assert origin["from"]["fresh"] > 0
    monkeypatch.setattr("medseg.train.finish.to_onnx", lambda *_, **__: None)
    held = small.training.model_copy(update={"encoder_rate": 0.0, "epochs": 1, "steps_per_epoch": 2})
    frozen = small.model_copy(update={"training": held})
    train(frozen, open_dataset(dataset), tmp_path / "run", start=Start.read(pretrained), device=CPU)
    ended = unpack(load_package(tmp_path / "run").weights)
    assert all(torch.equal(ended[name], before[name]) for name in inside)
    assert record_of(tmp_path / "run")["from"]["path"] == str(pretrained)


def test_it_segments_nothing_and_says_what_to_do(
    pretrained: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PackageError, match="medseg train"):
        load_package(pretrained).network()
    scan = sorted((dataset / "imagesTr").iterdir())[0]
    for arguments in (
        ["predict", str(pretrained), str(scan), "--out", str(tmp_path / "out")],
        ["evaluate", str(pretrained), str(dataset / "labelsTr"), "--out", str(tmp_path / "scores")],
    ):
        assert main([*arguments, "--quiet"]) == 1
        said = capsys.readouterr().err
        assert "E_PACKAGE" in said
        assert "--from" in said
    assert not (tmp_path / "scores").exists()


def test_the_command_pretrains_and_says_how_to_go_on(
    recipe: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [*CHANGES, "training.epochs=1", "training.steps_per_epoch=1"]
    arguments = ["pretrain", str(recipe), "--data", str(dataset), "--out", str(tmp_path / "run"), "--device", "cpu"]
    arguments += [word for change in changes for word in ("--set", change)]
    assert main([*arguments, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == record_of(tmp_path / "run")["reconstruction"]
    assert f"--from {tmp_path / 'run'}" in said.err
    assert main(arguments) == 1
    assert "E_TRAINING" in capsys.readouterr().err

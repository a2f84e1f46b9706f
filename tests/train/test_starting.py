"""Facts about starting from other weights: what fits arrives, a frozen encoder stays, and the run says so."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from copies import side_by_side, wait
from safetensors.torch import load_file

from medseg.across import rank
from medseg.cli import main
from medseg.dataset import open_dataset
from medseg.errors import PackageError, RecipeError, TrainingError
from medseg.labels import LabelSet
from medseg.models import build_network, in_encoder, pack, unpack, weights_of
from medseg.package import ModelPackage, load_package, save_package
from medseg.progress import Progress, ignore
from medseg.recipe import Recipe, load_recipe
from medseg.train import Start, finish, folds, train, train_folds
from medseg.train.checkpoint import State
from medseg.train.objective import Segmentation
from medseg.train.seen import seen_by
from medseg.train.starting import first_network
from medseg.train.trainer import Trainer

CPU = torch.device("cpu")
# Batch norm, so that the encoder has statistics of its own, and dropout.
CHANGES = [
    "model.options={channels=[4, 8, 16], num_res_units=0, norm='batch', dropout=0.2}",
    "training.patch=[16, 16, 12]",
    "training.average=0.9",
    "training.epochs=2",
    "training.steps_per_epoch=3",
]
FROZEN = "training.encoder_rate=0"
NAMES = {0: "background", 1: "spleen", 2: "kidney_right", 3: "kidney_left", 4: "liver"}


@pytest.fixture(scope="module", autouse=True)
def _no_export() -> Iterator[None]:
    """Leave the ONNX network out of the packages: it takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "to_onnx", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared cases, which all these runs share."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def adapted(recipe: Path) -> Callable[..., Recipe]:
    """A function that returns the small recipe with changes."""
    return lambda *changes: load_recipe(str(recipe), [*CHANGES, *changes])


def package_of(recipe: Recipe, *, channels: int = 1, names: dict[int, str] = NAMES, seed: int = 5) -> ModelPackage:
    """Return a package with random weights and running statistics."""
    labels = LabelSet.from_names(names)
    torch.manual_seed(seed)
    network = build_network(recipe, channels=channels, labels=len(labels))
    for buffer in filter(torch.is_floating_point, network.buffers()):
        buffer.uniform_(0.5, 2)
    return ModelPackage(recipe, labels, channels, pack(weights_of(network)), {})


@pytest.fixture(scope="module")
def model(adapted: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model package to start from."""
    folder = tmp_path_factory.mktemp("package") / "model"
    save_package(package_of(adapted()), folder)
    return folder


def encoder_of(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if in_encoder(name, "unet")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# What arrives


def test_labels_of_the_same_name_say_what_they_said(adapted: Callable[..., Recipe], model: Path) -> None:
    names = {0: "background", 1: "liver", 2: "aorta", 3: "spleen", 4: "kidney_left", 5: "kidney_right"}
    labels = LabelSet.from_names(names)
    told: list[str] = []
    network, origin = first_network(
        adapted(), channels=1, labels=labels, seed=0, start=Start.read(model),
        notify=lambda progress: told.append(progress.message),
    )  # fmt: skip
    image = torch.randn(1, 1, 16, 16, 12, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = load_package(model).network()(image), network.eval()(image)
    for place, name in NAMES.items():
        now = next(index for index, its in names.items() if its == name)
        torch.testing.assert_close(after[:, now], before[:, place])
    assert origin["from"]["sha256"] == load_package(model).sha256
    assert origin["from"]["fresh"] == 0
    assert told == [f"starting from {model}: {origin['from']['taken']} tensors are taken over, 2 adapted to the labels "
                    "and channels, 0 are new"]  # fmt: skip


def test_a_zip_and_a_run_can_be_started_from(adapted: Callable[..., Recipe], model: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", model))
    (tmp_path / "run").mkdir()
    shutil.copytree(model, tmp_path / "run" / "model")
    labels = LabelSet.from_names(NAMES)
    for path in (packed, tmp_path / "run"):
        network, _ = first_network(adapted(), channels=1, labels=labels, seed=0, start=Start.read(path), notify=ignore)
        assert same(weights_of(network), unpack(load_package(model).weights))


def test_the_run_says_where_it_began(
    adapted: Callable[..., Recipe], model: Path, dataset: Path, cache: Path, tmp_path: Path
) -> None:
    small = adapted("training.epochs=1", "training.steps_per_epoch=1")
    train(small, open_dataset(dataset), tmp_path / "run", start=Start.read(model), device=CPU, cache=cache)
    record = json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))
    counts = {"taken": len(unpack(load_package(model).weights)) - 2, "adapted": 2, "fresh": 0}
    assert record["from"] == {"path": str(model), "sha256": load_package(model).sha256, **counts, "seen": {}}


# What the model has seen


def test_cases_that_trained_the_start_are_not_called_held_out(
    frozen: Path, adapted: Callable[..., Recipe], dataset: Path, cache: Path, tmp_path: Path
) -> None:
    def scored_on(name: str, start: Path, fold: int | None) -> str:
        result = train(
            adapted("training.epochs=1", "training.steps_per_epoch=1"), open_dataset(dataset), tmp_path / name,
            fold=fold, start=Start.read(start), device=CPU, cache=cache,
        )  # fmt: skip
        text = json.loads(result.run.summary.read_text(encoding="utf-8"))["scored_on"]
        assert text == result.summary["scored_on"] == load_package(tmp_path / name).scores["scored_on"]
        return str(text)

    assert scored_on("same", frozen, 0) == "fold 0, held out of training"
    other = "fold 1, held out of training, but 1 of 1 were in the training of"
    assert scored_on("other", frozen, 1) == f"{other} {frozen}"
    assert scored_on("its package", frozen / "model", 1) == f"{other} {frozen / 'model'}"
    # What a model was started from counts as well, and another dataset's cases do not.
    assert scored_on("next", tmp_path / "same", 1) == f"{other} {tmp_path / 'same'}"
    assert scored_on("none", frozen, None) == "training data"
    renamed = json.loads((frozen / "run.json").read_text(encoding="utf-8")) | {"dataset": "another"}
    shutil.copytree(frozen / "model", tmp_path / "renamed/model")
    (tmp_path / "renamed/run.json").write_text(json.dumps(renamed), encoding="utf-8")
    assert scored_on("apart", tmp_path / "renamed", 1) == "fold 1, held out of training"


def test_what_a_model_has_seen_is_that_of_its_run_and_of_those_before(tmp_path: Path) -> None:
    def run(name: str, **facts: Any) -> Path:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(json.dumps(facts), encoding="utf-8")
        return tmp_path / name

    before = {"seen": {"organs": ["a", "b"], "liver": ["x"]}}
    one = {"command": "train", "dataset": "organs", "training_cases": ["c", "b"]}
    assert seen_by(run("one", **one, fold=0)) == {"organs": ["b", "c"]}
    assert seen_by(run("two", **one, fold=0, **{"from": before})) == {"organs": ["a", "b", "c"], "liver": ["x"]}
    folds = run("all", command="train", dataset="organs", fold="all", folds=[3, 4])
    run("all/fold_3", **one, fold=3)
    run("all/refit", **one | {"training_cases": ["a", "b", "c"]}, fold=None)
    assert seen_by(folds) == seen_by(folds / "model") == {"organs": ["b", "c"]}
    assert seen_by(folds / "refit") == {"organs": ["a", "b", "c"]}
    assert seen_by(run("scans", command="pretrain", training_cases=["a"])) == {}
    assert seen_by(run("model", **one, fold=0)) == {"organs": ["b", "c"]}  # a run of that name, and none above it
    assert seen_by(tmp_path / "package.zip") == {}


# A frozen encoder, and a slow one


@pytest.fixture(scope="module")
def frozen(
    adapted: Callable[..., Recipe], model: Path, dataset: Path, cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """A run whose encoder was frozen."""
    folder = tmp_path_factory.mktemp("frozen") / "run"
    opened, start = open_dataset(dataset), Start.read(model)
    train(adapted(FROZEN), opened, folder, fold=0, start=start, device=CPU, deterministic=True, cache=cache)
    return folder


def test_a_frozen_encoder_is_what_it_was_bit_for_bit_and_the_decoder_is_not(frozen: Path, model: Path) -> None:
    begun, ended = (unpack(load_package(path).weights) for path in (model, frozen))
    assert encoder_of(begun)
    assert same(encoder_of(begun), encoder_of(ended))
    parts = [name for name in begun if not in_encoder(name, "unet") and begun[name].is_floating_point()]
    assert not any(torch.equal(begun[name], ended[name]) for name in parts)
    kept = load_file(frozen / "checkpoint/last.safetensors")
    assert all(torch.equal(kept[f"weights.{name}"], weight) for name, weight in encoder_of(begun).items())


def test_broken_off_and_resumed_it_ends_with_the_same_bytes(
    frozen: Path, adapted: Callable[..., Recipe], model: Path, dataset: Path, cache: Path, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    told: list[str] = []

    def stop(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == 4:
            raise StoppedError

    def go(**options: Any) -> None:
        opened, folder = open_dataset(dataset), tmp_path / "run"
        start = Start.read(model)
        train(
            adapted(FROZEN), opened, folder, fold=0, start=start, device=CPU, deterministic=True, cache=cache, **options
        )

    with pytest.raises(StoppedError):
        go(notify=stop)
    go(resume=True, notify=lambda progress: told.append(progress.message))
    assert load_package(tmp_path / "run").weights == load_package(frozen).weights
    assert not any("starting from" in message for message in told)  # the weights are the checkpoint's
    records = [json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (tmp_path / "run", frozen)]
    assert records[0]["from"] == records[1]["from"]


def trainer_of(recipe: Recipe) -> Trainer:
    labels = LabelSet.from_names(NAMES)
    torch.manual_seed(0)
    network = build_network(recipe, channels=1, labels=len(labels))
    return Trainer(network, recipe, Segmentation(recipe, labels, CPU), device=CPU, seed=0, state=State(""))


def a_step(trainer: Trainer) -> None:
    image = torch.randn(2, 1, 16, 16, 12, generator=torch.Generator().manual_seed(1))
    trainer.step(image, torch.randint(5, (2, 16, 16, 12), generator=torch.Generator().manual_seed(2)))


def test_no_gradients_are_computed_for_a_frozen_encoder(adapted: Callable[..., Recipe]) -> None:
    trainer = trainer_of(adapted(FROZEN))
    a_step(trainer)
    for name, parameter in trainer.network.named_parameters():
        assert (parameter.grad is None) == in_encoder(name, "unet")
    for name, layer in trainer.network.named_modules():
        if in_encoder(name, "unet"):
            assert not layer.training
    assert trainer.network.model[2].training  # type: ignore[index, union-attr]


def test_a_slow_encoder_goes_a_part_of_the_way(adapted: Callable[..., Recipe]) -> None:
    lengths: dict[float, dict[bool, float]] = {}
    for rate in (1.0, 0.1):
        trainer = trainer_of(adapted(f"training.encoder_rate={rate}", "training.weight_decay=0"))
        before = {name: parameter.detach().clone() for name, parameter in trainer.network.named_parameters()}
        a_step(trainer)
        steps = {name: parameter.detach() - before[name] for name, parameter in trainer.network.named_parameters()}
        lengths[rate] = {
            inside: sum(float(step.norm()) for name, step in steps.items() if in_encoder(name, "unet") == inside)
            for inside in (True, False)
        }
    assert lengths[0.1][True] == pytest.approx(0.1 * lengths[1.0][True], rel=1e-3)
    assert lengths[0.1][False] == pytest.approx(lengths[1.0][False], rel=1e-3)


# Runs that belong together


def test_a_run_is_resumed_with_the_model_it_began_with(
    frozen: Path, adapted: Callable[..., Recipe], model: Path, dataset: Path, cache: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    save_package(package_of(adapted(), seed=6), other)
    opened = open_dataset(dataset)
    with pytest.raises(TrainingError, match="or --from"):
        train(adapted(FROZEN), opened, frozen, fold=0, start=Start.read(other), device=CPU, resume=True, cache=cache)


# What does not fit


def test_another_network_is_refused_and_named(adapted: Callable[..., Recipe], model: Path) -> None:
    labels = LabelSet.from_names(NAMES)
    for changes in (
        ["model.name=segresnet", "model.options={init_filters=8}", "training.patch=[16, 16, 16]"],
        ["model.options={channels=[8, 16, 32], num_res_units=0, norm='batch', dropout=0.2}"],
        ["training.patch=[16, 16, 1]"],
    ):
        with pytest.raises(TrainingError, match="of the encoder fit") as caught:
            first_network(adapted(*changes), channels=1, labels=labels, seed=0, start=Start.read(model), notify=ignore)
        assert "unet in 3D, channels = [4, 8, 16]" in caught.value.found
        assert "[model]" in caught.value.remedy


def test_an_encoder_is_not_frozen_at_random_weights(adapted: Callable[..., Recipe], model: Path) -> None:
    labels, deeper = LabelSet.from_names(NAMES), "model.options={channels=[4, 8, 16], num_res_units=0, norm='instance'}"
    with pytest.raises(RecipeError, match="Add --from MODEL"):
        first_network(adapted(FROZEN), channels=1, labels=labels, seed=0, start=None, notify=ignore)
    wider = adapted(FROZEN, "model.options={channels=[4, 8, 24], num_res_units=0, norm='batch', dropout=0.2}")
    with pytest.raises(TrainingError, match="would keep random weights"):
        first_network(wider, channels=1, labels=labels, seed=0, start=Start.read(model), notify=ignore)
    # Instance norm has no weights here: all of the new encoder is in the old one.
    network, _ = first_network(adapted(FROZEN, deeper), channels=1, labels=labels, seed=0, start=Start.read(model),
                               notify=ignore)  # fmt: skip
    assert set(encoder_of(weights_of(network))) < set(encoder_of(unpack(load_package(model).weights)))


def test_what_is_no_package_cannot_be_started_from(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(PackageError):
        Start.read(tmp_path / "run")


# The coarse model, folds, processes, the command


def test_the_coarse_model_starts_from_the_packages_coarse_model_or_afresh(
    adapted: Callable[..., Recipe], dataset: Path, tmp_path: Path
) -> None:
    whole = adapted(
        FROZEN, "training.epochs=1", "training.steps_per_epoch=1", "coarse.epochs=1", "coarse.patch=[16, 16, 12]",
        "coarse.spacing_mm=[18, 18, 18]",
    )  # fmt: skip
    small = whole.coarse_recipe(["liver"])
    first = package_of(small, names={0: "background", 1: "found"}, seed=7)
    deep = {"channels": [8, 16, 32], "num_res_units": 0, "norm": "batch"}
    wider = small.model_copy(update={"model": small.model.model_copy(update={"options": deep})})
    other = package_of(wider, names={0: "background", 1: "found"})
    alone = package_of(adapted())
    for name, start in (
        ("both", replace(alone, coarse=first)),
        ("one", alone),
        ("misfit", replace(alone, coarse=other)),  # whose encoder cannot be taken over, and so not be frozen either
    ):
        run = tmp_path / name
        train(whole, open_dataset(dataset), run, start=Start(tmp_path / "model", start), device=CPU)
        coarse = load_package(run).coarse
        assert coarse is not None
        record = json.loads((run / "coarse/run.json").read_text(encoding="utf-8"))
        if start.coarse is first:
            assert record["from"]["sha256"] == first.sha256
            assert same(encoder_of(unpack(coarse.weights)), encoder_of(unpack(first.weights)))
        else:
            assert "from" not in record
            assert coarse.recipe.training.encoder_rate == 1


def test_every_fold_starts_from_the_same_model_and_the_summary_says_what_it_has_seen(
    frozen: Path, adapted: Callable[..., Recipe], dataset: Path, cache: Path, tmp_path: Path
) -> None:
    short, start = adapted("training.epochs=1", "training.steps_per_epoch=1"), Start.read(frozen)
    result = train_folds(short, open_dataset(dataset), tmp_path / "run", start=start, device=CPU, cache=cache)
    scored_on = []
    for fold in range(5):
        record, summary = (
            json.loads((tmp_path / f"run/fold_{fold}" / name).read_text(encoding="utf-8"))
            for name in ("run.json", "validation/summary.json")
        )
        assert record["from"]["sha256"] == start.package.sha256
        scored_on.append(summary["scored_on"])
    assert scored_on[0] == "fold 0, held out of training"
    assert all(text.endswith(f", but 1 of 1 were in the training of {frozen}") for text in scored_on[1:])
    assert result.summary["scored_on"] == f"{folds.SCORED_ON}, but 4 of 5 were in the training of {frozen}"


def test_two_processes_with_a_frozen_encoder_have_the_losses_of_one(
    adapted: Callable[..., Recipe], model: Path, dataset: Path, cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    small = adapted(FROZEN, "training.epochs=1", "training.steps_per_epoch=6",
                    "model.options={channels=[4, 8, 16], num_res_units=0, norm='batch'}")  # fmt: skip

    def work(name: str) -> None:
        losses: list[float] = []
        step = Trainer.step
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "step", lambda *sample: losses.append(step(*sample)) or losses[-1])
            train(small, open_dataset(dataset), tmp_path / name, start=Start.read(model), device=CPU, workers=0,
                  cache=cache)  # fmt: skip
        (tmp_path / f"{name}.{rank()}.json").write_text(json.dumps(losses))

    children = side_by_side(lambda: work("two"), said=tmp_path / "said")
    codes = [wait(child) for child in children]
    assert codes == [0, 0], (tmp_path / "said.0").read_text(encoding="utf-8")
    work("one")
    one, *two = (json.loads((tmp_path / f"{name}.json").read_bytes()) for name in ("one.0", "two.0", "two.1"))
    for losses in two:
        assert losses == pytest.approx(one, abs=1e-4)
    ended = unpack(load_package(tmp_path / "two").weights)
    assert same(encoder_of(ended), encoder_of(unpack(load_package(model).weights)))


def test_the_command_starts_from_a_run(
    frozen: Path, recipe: Path, dataset: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [*CHANGES, "training.epochs=1", "training.steps_per_epoch=1", "labels={liver=['liver']}"]

    def command(name: str, *more: str) -> int:
        settings = [word for change in (*changes, *more) for word in ("--set", change)]
        arguments = ["train", str(recipe), "--data", str(dataset), "--out", str(tmp_path / name), "--from", str(frozen)]
        return main([*arguments, "--cache", str(cache), "--device", "cpu", *settings])

    assert command("run") == 0
    assert f"starting from {frozen}: " in capsys.readouterr().err
    assert [label.name for label in load_package(tmp_path / "run").labels] == ["liver"]
    assert command("other", "model.name=segresnet", "model.options={}", "training.patch=[16, 16, 16]") == 1
    assert "E_TRAINING starting from" in capsys.readouterr().err

"""What each choice of the `hippocampus` recipe gains: the recipe with one thing changed, again and again.

    python benchmarks/choices.py OUT --data DATASET [--fold 0] [--minutes N] [--only NAME,...] [--device cpu]

DATASET is the hippocampus of the Decathlon (Task04). Every variant is a `medseg train` of its own, on the same fold,
from the same seed where it is not the seed that differs, for as many patches as the recipe's; with --minutes, for as
many as the recipe draws in that time, its schedule shortened with it. Prepared cases are shared. Variants that differ
in prediction only are predicted and scored again with the recipe's weights.

Each variant's mean Dice is told with its difference from the recipe's on the same cases and the 95 % interval of that
difference over them (a paired bootstrap). The interval knows of the cases, and of nothing else that chance decides in a
training: `another-seed` shows how much that is.

OUT gets `choices.json` after each variant. What is there already is not done again, and a training that was broken off
is resumed, so the program may be stopped at any time. Run it on a machine that does nothing else.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from child import Child, run

from medseg.dataset import open_dataset
from medseg.metrics import CaseScore, read_metrics, score_label_map
from medseg.metrics.summary import statistics
from medseg.recipe import Recipe, load_recipe
from medseg.run import read_lines

RECIPE, SHIPPED = "hippocampus", "recipe"
# The probabilities of augmentation: of what moves voxels, and of what changes intensities only.
SPATIAL = ("flip", "cut_short", "affine", "elastic")
INTENSITY = ("low_resolution", "blur", "motion", "bias_field", "gamma", "noise")


@dataclass(frozen=True)
class Variant:
    """The recipe with something changed.

    Attributes:
        settings: what `--set` changes.
        seed: of weights and patches.
    """

    settings: tuple[str, ...] = ()
    seed: int = 0

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that comes of it."""
        return load_recipe(RECIPE, self.settings)

    @property
    def trained(self) -> bool:
        """Whether its training differs from the recipe's."""
        shipped = load_recipe(RECIPE)
        return self.seed != 0 or self.recipe.model_copy(update={"prediction": shipped.prediction}) != shipped


def variants() -> dict[str, Variant]:
    """Return the variants by name, but for those that are the recipe itself."""
    training, augment = load_recipe(RECIPE).training, load_recipe(RECIPE).augment
    drawn = [name for name in (*SPATIAL, *INTENSITY) if getattr(augment, name)]
    changes = {
        "no-average": ["training.average=0"],
        "average-0.95": ["training.average=0.95"],  # longer ones are cut to a ninth of a short training
        "average-0.99": ["training.average=0.99"],
        "flip-sides": ["augment.flip=0.5", 'augment.flip_axes=["I"]', 'prediction.flips=["I"]'],
        "flip-all": ["augment.flip=0.5", 'prediction.flips=["I", "J", "K"]'],
        "overlap-0.25": ["prediction.overlap=0.25"],
        **{f"margin-{margin}": [f"prediction.margin={margin}"] for margin in (0, 1, 2, 4)},
        "constant-weighting": ["prediction.weighting=constant"],
        "residual-blocks": ["model.options.res_block=true"],
        "filters-16": ["model.options.filters=[16, 32, 64, 128]"],
        "filters-24": ["model.options.filters=[24, 48, 96, 192]"],
        "filters-32": ["model.options.filters=[32, 64, 128, 256]"],
        "foreground-0": ["training.foreground=0"],
        "foreground-0.33": ["training.foreground=0.33"],
        "foreground-0.67": ["training.foreground=0.67"],
        **{f"batch-{batch}": batch_of(batch, training.batch * training.steps_per_epoch) for batch in (2, 4, 8, 16)},
        **{f"loss-{loss}": [f"training.loss={loss}"] for loss in ("dice", "cross_entropy", "bce_focal_dice")},
        **{f"no-{name}": [f"augment.{name}=0"] for name in drawn},
        "no-intensity": [f"augment.{name}=0" for name in drawn if name in INTENSITY],
        "no-augmentation": [f"augment.{name}=0" for name in drawn],
        **{f"rate-{rate}": [f"training.learning_rate={rate}"] for rate in ("1.5e-3", "3e-3", "5e-3", "1e-2", "2e-2")},
        "warm-up-0.02": ["training.warm_up=0.02"],
        "warm-up-0.3": ["training.warm_up=0.3"],
        **{f"weight-decay-{decay}": [f"training.weight_decay={decay}"] for decay in ("0", "0.1", "0.3", "1")},
        "clip-12": ["training.gradient_clip=12"],
        "fp32": ["training.precision=fp32"],
    }
    made = {name: Variant(tuple(settings)) for name, settings in changes.items()}
    differing = {name: one for name, one in made.items() if one.recipe != load_recipe(RECIPE)}
    return {SHIPPED: Variant(), "another-seed": Variant(seed=1), **differing}


def batch_of(batch: int, patches: int) -> list[str]:
    """Return the settings of another batch, with as many patches in an epoch."""
    return [f"training.batch={batch}", f"training.steps_per_epoch={patches // batch}"]


def main() -> None:
    """Run the benchmark and print its table; numbers are written as they come."""
    options = arguments()
    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    numbers = begin(options)
    for name, variant in variants().items():
        done = numbers["variants"].get(name, {"failure": "not there yet"})
        if name not in options.only or not done["failure"]:
            continue
        print(f"{name}: {' '.join(variant.settings) or 'as shipped'}", file=sys.stderr)
        numbers["variants"][name] = measure(options, name, variant, numbers["epochs"])
        save(options, numbers)
        if name == SHIPPED and numbers["variants"][name]["failure"]:
            break
    show(numbers)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    names = list(variants())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder; what an earlier call left in it is kept and added to")
    parser.add_argument("--data", type=Path, required=True, help="the dataset, Decathlon Task04")
    parser.add_argument("--fold", type=int, default=0, help="held out")
    parser.add_argument("--minutes", type=float, help="of steps of the recipe; left out, all of its epochs")
    parser.add_argument(
        "--only", default=",".join(names), help=f"of {', '.join(names)}; the recipe is always among them"
    )
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.only = {SHIPPED, *options.only.split(",")}
    if unknown := options.only - set(names):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    return options


def begin(options: argparse.Namespace) -> dict[str, Any]:
    """Return the numbers of an earlier call about the same, or fresh ones with the epochs that every variant takes."""
    path = options.out / "choices.json"
    shipped = load_recipe(RECIPE)
    same = {"recipe": shipped.model_dump(mode="json"), "fold": options.fold, "minutes": options.minutes}
    same["device"] = options.device
    if path.is_file():
        numbers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if changed := [name for name in same if numbers[name] != same[name]]:
            raise SystemExit(f"{path} has another {' and '.join(changed)}: choose another OUT")
        return numbers
    epochs = shipped.training.epochs
    if options.minutes is not None:
        child = train(options, "pilot", Variant(), 1)
        if child.failure:
            raise SystemExit(f"{child.failure}; see {options.out / 'logs' / 'pilot.txt'}")
        epochs = max(1, round(60 * options.minutes / journal(options, "pilot")["seconds"]))
    numbers = {
        **same,
        "epochs": epochs,
        "cores": os.cpu_count(),
        "torch": version("torch"),
        "medseg": version("medseg"),
    }
    numbers["variants"] = {}
    save(options, numbers)
    return numbers


def save(options: argparse.Namespace, numbers: dict[str, Any]) -> None:
    """Write the numbers."""
    (options.out / "choices.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def measure(options: argparse.Namespace, name: str, variant: Variant, epochs: int) -> dict[str, Any]:
    """Return a variant's numbers, or why there are none."""
    facts = {"settings": variant.settings, "seed": variant.seed}
    if name != SHIPPED and not variant.trained:
        return {"failure": None, **facts, **scores(predicted(options, variant))}
    child = train(options, name, variant, epochs)
    if child.failure:
        print(f"  {child.failure}", file=sys.stderr)
        return {"failure": child.failure, **facts}
    took = journal(options, name)
    rows = read_metrics(options.out / name / "validation" / "metrics.csv")
    times = {"step_seconds": round(took["seconds"] / took["steps"], 4), "minutes": round(took["seconds"] / 60, 2)}
    return {"failure": None, **facts, **times, "peak_mb": round(child.peak_mb), **scores(rows)}


def train(options: argparse.Namespace, name: str, variant: Variant, epochs: int) -> Child:
    """Train a variant, or go on with it."""
    program = Path(sys.executable).with_name("medseg")
    command = [
        program,
        "train",
        RECIPE,
        "--data",
        options.data,
        "--fold",
        str(options.fold),
        "--out",
        options.out / name,
    ]
    command += ["--cache", options.out / "prepared", "--device", options.device, "--seed", str(variant.seed)]
    for setting in (*variant.settings, f"training.epochs={epochs}"):
        command += ["--set", setting]
    return run([*command, "--resume", "--quiet"], log=options.out / "logs" / f"{name}.txt")


def journal(options: argparse.Namespace, name: str) -> dict[str, float]:
    """Return how many steps a training took, and their seconds."""
    lines = list(read_lines(options.out / name / "journal.jsonl"))
    return {"steps": lines[-1]["step"], "seconds": sum(line["seconds"] for line in lines)}


def predicted(options: argparse.Namespace, variant: Variant) -> list[CaseScore]:
    """Return the scores of the recipe's weights, predicted as a variant says."""
    from medseg.package import load_package
    from medseg.segment import Segmenter
    from medseg.volume import read_reference, read_volume

    package = load_package(options.out / SHIPPED)
    recipe = package.recipe.model_copy(update={"prediction": variant.recipe.prediction})
    segmenter = Segmenter.of(replace(package, recipe=recipe), engine="torch", device=options.device)
    dataset = open_dataset(options.data, manifest=recipe.manifest)
    rows = []
    for case in dataset.split(options.fold)[1]:
        scan, labels = read_volume(dataset.image(case)), dataset.manifest.labels_of(case)
        reference = read_reference(dataset.label(case), geometry=scan.geometry, labels=labels)
        rows += score_label_map(segmenter.segment(scan), reference, labels, case_id=case.case_id)
    return rows


def scores(rows: list[CaseScore]) -> dict[str, Any]:
    """Return the mean Dice of each label, and of each case over its labels; what is undefined counts nowhere."""
    defined = [row for row in rows if row.dice is not None]
    return {"labels": means(defined, "label"), "cases": means(defined, "case_id")}


def means(rows: list[CaseScore], by: str) -> dict[str, float]:
    """Return the mean Dice of the rows that have the same value of a field, by that value."""
    groups = groupby(sorted(rows, key=lambda row: str(getattr(row, by))), key=lambda row: str(getattr(row, by)))
    dice = {value: [row.dice for row in group if row.dice is not None] for value, group in groups}
    return {value: sum(own) / len(own) for value, own in dice.items()}


def show(numbers: dict[str, Any]) -> None:
    """Print the table, the variants in their order."""
    shipped = numbers["variants"][SHIPPED]
    if shipped["failure"]:
        raise SystemExit(f"the recipe: {shipped['failure']}")
    what = f"{numbers['epochs']} epochs, fold {numbers['fold']}, {len(shipped['cases'])} cases, {numbers['device']}"
    print(f"{RECIPE}, {what}")
    columns = ("s/step", "minutes", *shipped["labels"], "mean")
    print(f"{'':<22}" + "".join(f"{name:>11}" for name in columns) + f"{'difference':>13}  95 % interval")
    for name in variants():
        if one := numbers["variants"].get(name):
            print(f"{name:<22}" + (one["failure"] or line(one, shipped)))


def line(one: Mapping[str, Any], shipped: Mapping[str, Any]) -> str:
    """Return a variant's cells of the table."""
    times = f"{one['step_seconds']:>11.3f}{one['minutes']:>11.1f}" if "step_seconds" in one else f"{'-':>11}{'-':>11}"
    dice = [*one["labels"].values(), sum(one["cases"].values()) / len(one["cases"])]
    cells = times + "".join(f"{value:>11.4f}" for value in dice)
    if one is shipped:
        return cells
    paired = [one["cases"][case_id] - value for case_id, value in shipped["cases"].items() if case_id in one["cases"]]
    difference = statistics(paired)
    low, high = difference["ci95"] or (float("nan"), float("nan"))
    return f"{cells}{difference['mean']:>+13.4f}  {low:+.4f} to {high:+.4f}"


if __name__ == "__main__":
    main()

"""Dice by minutes of training: `medseg train hippocampus` beside nnU-Net's and MONAI's own way, on the same cases.

    python benchmarks/train.py OUT --data DATASET --peers PEERS/bin/python [--fold 1] [--minutes 60] [--target 0.85]

DATASET is the hippocampus of the Decathlon (Task04), PEERS an environment of its own, made from
`benchmarks/requirements.txt`. Each way is whole processes that train on the CPU, one way after the other. Time counts
from before a process is started: importing and preparing the dataset is in it, predicting and scoring is not. Held-out
cases are predicted as each way does it by default, on their own grids, and all are scored by one metric, medseg's.

* The peers climb a ladder of times (`peers/ladder.py`): at each rung the clock stops, the weights of the moment predict
  the held-out cases, and training goes on. `peers/nnunet_train.py` and `peers/monai_train.py` say what each does.
* medseg's learning rate falls to 0 by the end of a training, so what it knows halfway is not what it could know by
  then. Each of its points is therefore a whole training, of as many steps as end by the rung, sized by a first one of a
  single epoch, and nothing is longer than the recipe. A training's time ends with its last checkpoint.
* `nnunet_short` is nnU-Net with its schedule cut to the time there is, for the same reason. It is looked at once, at
  the last rung.

The recipe's choices were made on fold 0 (`choices.py`), and none on the fold that is held out here.

Processes have as much memory and as many cores as there are, and are killed after 3 times their minutes and another
10. A way that fails keeps the points it has, and the others go on.

OUT gets `train.json` after each way, and `train.png`. Ways of an earlier call are kept, where fold, minutes and cases
are the same: they can be run one by one. Run it on a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from child import Child, run
from curves import draw

from medseg.dataset import Dataset, open_dataset
from medseg.errors import MedsegError
from medseg.labels import LabelSet
from medseg.manifest import Case
from medseg.metrics import score_label_map, summarise
from medseg.recipe import load_recipe
from medseg.run import read_lines
from medseg.volume import LabelMap, read_label_map, read_reference, read_volume

HERE = Path(__file__).parent
RECIPE = "hippocampus"
RUNGS = (1, 2, 3, 5, 8, 15, 30, 60)
TARGETS = (0.8, 0.85)
# Epochs take a little longer with the validations in between than the first one did alone.
SPARE = 0.97
# A point belongs to the rung that it is this little late for: peers take the step to its end at which a rung comes.
LATE = 1.05
WAYS = {
    "medseg": "medseg train",
    "nnunet": "nnU-Net, its default",
    "nnunet_short": "nnU-Net, schedule cut to the time",
    "monai": "MONAI, as its DynUNet tutorial",
}
PEERS = {
    "nnunet": ("nnunet_train.py",),
    "nnunet_short": ("nnunet_train.py", "short"),
    "monai": ("monai_train.py",),
}
# Case id → the expert's label map on the scan's own grid, and the labels that are scored.
References = dict[str, tuple[LabelMap, LabelSet]]


def main() -> None:
    """Run the benchmark, print its table, and write its numbers and its picture."""
    options = arguments()
    dataset = open_dataset(options.data, manifest=load_recipe(RECIPE).manifest)
    training, held_out = dataset.split(options.fold)
    scored = evenly(held_out, options.cases or len(held_out))
    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    describe(options, dataset, training, held_out, scored)
    numbers = begin(options, scored)
    references = {case.case_id: reference_of(dataset, case) for case in scored}
    scans = [dataset.image(case).paths[0].resolve() for case in scored]
    for way in options.ways:
        trainings = medseg_trainings(options, scans) if way == "medseg" else peer_training(options, way)
        numbers["ways"][way] = measured(way, trainings, references)
        summarise_times(numbers, options.target)
        (options.out / "train.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    show(numbers)
    curves = {way["name"]: [(one["seconds"] / 60, one["dice"]) for one in way["points"]] for way in ordered(numbers)}
    title = f"Mean Dice of {len(scored)} held-out cases, {numbers['cores']} cores"
    draw(curves, options.minutes, title=title, path=options.out / "train.png")


def arguments() -> argparse.Namespace:
    """Return what the command line asks for, with `minutes` the rungs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder; ways of an earlier call in it are kept")
    parser.add_argument("--data", type=Path, required=True, help="the dataset, Decathlon Task04")
    parser.add_argument("--peers", type=Path, help="Python of the environment that has MONAI and nnU-Net")
    parser.add_argument("--fold", type=int, default=1, help="held out; the recipe's choices were made on fold 0")
    parser.add_argument("--ways", default="medseg,nnunet,monai", help=f"of {','.join(WAYS)}")
    parser.add_argument("--minutes", type=float, default=60, help="of training of each peer: the last rung")
    parser.add_argument("--target", type=float, default=TARGETS[-1], help="a Dice whose time is told")
    parser.add_argument("--cases", type=int, help="held-out cases that are scored, evenly spaced; left out, all")
    options = parser.parse_args()
    options.out, options.ways = options.out.resolve(), options.ways.split(",")
    if unknown := set(options.ways) - set(WAYS):
        parser.error(f"--ways: there is no {', '.join(sorted(unknown))}")
    if options.peers is None and options.ways != ["medseg"]:
        parser.error("--peers is needed, unless --ways medseg")
    options.limit_s = 60 * (3 * options.minutes + 10)
    options.minutes = [*(rung for rung in RUNGS if rung < options.minutes), options.minutes]
    return options


def evenly(cases: list[Case], most: int) -> list[Case]:
    """Return up to `most` cases, evenly spaced."""
    count = min(most, len(cases))
    return [cases[number * len(cases) // count] for number in range(count)]


def describe(
    options: argparse.Namespace, dataset: Dataset, training: list[Case], held_out: list[Case], scored: list[Case]
) -> None:
    """Write what the peers' programs need to know."""
    files = {
        case.case_id: {
            "image": str(dataset.image(case).paths[0].resolve()),
            "label": str(dataset.label(case).resolve()),
        }
        for case in (*training, *held_out)
    }
    task = {
        "channels": {str(number): name for number, name in dataset.manifest.modality.items()},
        "labels": {"background": 0, **{label.name: label.id for label in dataset.manifest.label_set}},
        "cases": files,
        "training": [case.case_id for case in training],
        "held_out": [case.case_id for case in held_out],
        "scored": [case.case_id for case in scored],
        "minutes": options.minutes,
    }
    (options.out / "task.json").write_text(json.dumps(task, indent=2) + "\n", encoding="utf-8")


def begin(options: argparse.Namespace, scored: list[Case]) -> dict[str, Any]:
    """Return the numbers so far: what is measured on, and the ways of an earlier call about the same."""
    same = {"fold": options.fold, "minutes": options.minutes, "scored": [case.case_id for case in scored]}
    path, ways = options.out / "train.json", {}
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if {name: earlier[name] for name in same} != same:
            raise SystemExit(f"{path} has another fold, other minutes or other cases: choose another OUT")
        ways = earlier["ways"]
    facts = {"cores": os.cpu_count(), "python": platform.python_version()}
    return {**same, **facts, "torch": version("torch"), "medseg": version("medseg"), "ways": ways}


def reference_of(dataset: Dataset, case: Case) -> tuple[LabelMap, LabelSet]:
    """Return a case's reference on its scan's own grid, and the labels that are scored."""
    scan = read_volume(dataset.image(case), channels=dataset.manifest.channels)
    labels = dataset.manifest.labels_of(case)
    return read_reference(dataset.label(case), geometry=scan.geometry, labels=labels), labels


def medseg_trainings(options: argparse.Namespace, scans: list[Path]) -> Iterator[dict[str, Any]]:
    """Train as often as there are rungs, and predict after each training."""
    recipe = load_recipe(RECIPE).training
    first = medseg_training(options, scans, epochs=1, steps=recipe.steps_per_epoch)
    yield first
    if first["failure"]:
        return
    point, longest = first["points"][0], recipe.epochs * recipe.steps_per_epoch
    room = ((60 * rung * SPARE - point["seconds"]) / point["step_seconds"] for rung in options.minutes)
    for steps in sorted({min(longest, point["steps"] + int(more)) for more in room if more > 0}):
        epochs = round(steps / recipe.steps_per_epoch)
        training = medseg_training(options, scans, epochs=epochs, steps=steps // epochs)
        yield training
        if training["failure"]:
            break


def medseg_training(options: argparse.Namespace, scans: list[Path], *, epochs: int, steps: int) -> dict[str, Any]:
    """Train for so many epochs, of so many steps each, in new folders, and predict."""
    folder, program = options.out / "medseg" / str(epochs * steps), Path(sys.executable).with_name("medseg")
    shutil.rmtree(folder, ignore_errors=True)
    cpu: list[str | Path] = ["--device", "cpu", "--quiet"]
    command = [program, "train", RECIPE, "--data", options.data, "--fold", str(options.fold), "--out", folder / "run"]
    command += ["--set", f"training.epochs={epochs}", "--set", f"training.steps_per_epoch={steps}"]
    log = options.out / "logs" / f"medseg_{epochs * steps}.txt"
    began = time.time()
    child = run([*command, *cpu], log=log, limit_s=options.limit_s)
    if child.failure:
        return result(child, [])
    seconds = (folder / "run" / "checkpoint" / "last.safetensors").stat().st_mtime - began
    journal = list(read_lines(folder / "run" / "journal.jsonl"))
    predicted = run(
        [program, "predict", folder / "run", *scans, "--out", folder / "label_maps", *cpu],
        log=log.with_stem(f"{log.stem}_predict"),
        limit_s=options.limit_s,
    )
    point = {
        "minutes": next((rung for rung in options.minutes if seconds <= 60 * rung * LATE), round(seconds / 60, 1)),
        "seconds": round(seconds, 2),
        "steps": journal[-1]["step"],
        "step_seconds": round(sum(line["seconds"] for line in journal) / journal[-1]["step"], 4),
        "folder": str(folder / "label_maps"),
    }
    return result(child, [point]) | {"failure": predicted.failure}


def peer_training(options: argparse.Namespace, way: str) -> Iterator[dict[str, Any]]:
    """Have a peer climb the ladder once."""
    folder, (script, *more) = options.out / way, PEERS[way]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = [options.peers, HERE / "peers" / script, options.out / "task.json", folder, *more]
    child = run(command, log=options.out / "logs" / f"{way}.txt", limit_s=options.limit_s)
    lines = read_lines(folder / "ladder.jsonl")
    yield result(child, [{**line, "folder": str(folder / f"{line['minutes']:g}")} for line in lines])


def result(child: Child, points: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what became of a process, and the points that it left to be scored."""
    return {"failure": child.failure, "peak_mb": round(child.peak_mb), "points": points}


def measured(way: str, trainings: Iterator[dict[str, Any]], references: References) -> dict[str, Any]:
    """Return a way's points with their scores, as far as it went."""
    points, failure, peak = [], None, 0
    for training in trainings:
        failure, peak = failure or training["failure"], max(peak, training["peak_mb"])
        try:
            for point in training["points"]:
                points.append(point | dice_of(Path(point["folder"]), references))
                told = f"{point['seconds'] / 60:.1f} min, {point['steps']} steps: Dice {points[-1]['dice']:.4f}"
                print(f"{WAYS[way]}: {told}", file=sys.stderr)
        except MedsegError as error:
            failure = failure or f"{error.code} {error}"
    if failure:
        print(f"{WAYS[way]}: {failure}", file=sys.stderr)
    return {"name": WAYS[way], "failure": failure, "peak_mb": peak, "points": points}


def dice_of(folder: Path, references: References) -> dict[str, Any]:
    """Return the mean Dice of a folder of label maps, its 95 % interval over the cases, and that of each label."""
    rows = []
    for case_id, (reference, labels) in references.items():
        prediction = read_label_map(folder / f"{case_id}.nii.gz")
        rows += score_label_map(prediction, reference, labels, case_id=case_id)
    summary = summarise(rows)
    overall = summary["overall"]["dice"]
    labels_dice = {name: label["dice"]["mean"] for name, label in summary["labels"].items()}
    return {"dice": overall["mean"] or 0.0, "ci95": overall["ci95"], "labels": labels_dice}


def summarise_times(numbers: dict[str, Any], target: float) -> None:
    """Add to each way when it first had each Dice, in minutes, and how many times medseg's minutes that is.

    Nothing is read between the points: the time is that of the first one that has it.
    """
    for way in numbers["ways"].values():
        way["reached"] = {
            f"{dice:g}": next((round(one["seconds"] / 60, 2) for one in way["points"] if one["dice"] >= dice), None)
            for dice in sorted({*TARGETS, target})
        }
    own = numbers["ways"].get("medseg", {"reached": {}})["reached"]
    for way in numbers["ways"].values():
        known = {dice: minutes for dice, minutes in way["reached"].items() if minutes and own.get(dice)}
        way["times_medseg"] = {dice: round(minutes / own[dice], 2) for dice, minutes in known.items()}


def ordered(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the ways in the order in which they are told of."""
    return [numbers["ways"][way] for way in WAYS if way in numbers["ways"]]


def show(numbers: dict[str, Any]) -> None:
    """Print the table: Dice by minutes, and the minutes to a Dice."""
    print(f"mean Dice of {len(numbers['scored'])} held-out cases after so many minutes, {numbers['cores']} cores")
    targets = list(next(iter(numbers["ways"].values()))["reached"])
    columns = [f"{minutes:g}" for minutes in numbers["minutes"]]
    print(f"{'':<34}" + "".join(f"{name:>8}" for name in columns) + "".join(f"{f'to {name}':>20}" for name in targets))
    for way in ordered(numbers):
        by_rung = {f"{point['minutes']:g}": f"{point['dice']:.4f}" for point in way["points"]}
        cells = "".join(f"{by_rung.get(name, '-'):>8}" for name in columns)
        print(f"{way['name']:<34}{cells}" + "".join(f"{time_to(way, name):>20}" for name in targets))
        if way["failure"]:
            print(f"{'':<34}{way['failure']}")


def time_to(way: dict[str, Any], dice: str) -> str:
    """Return when a way first had a Dice, for people."""
    minutes, times = way["reached"][dice], way["times_medseg"].get(dice)
    if minutes is None:
        return "not reached"
    return f"{minutes:.1f} min" + (f" ({times:.1f}×)" if times and way["name"] != WAYS["medseg"] else "")


if __name__ == "__main__":
    main()

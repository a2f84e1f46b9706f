"""Partial labels: is a network that learns from halves of the organs as good as one that learns from all?

    python benchmarks/partial.py OUT

Makes the demo's synthetic CTs twice: in one dataset every case has all organs; in the other each case to train on has
half of them, by turns spleen and liver, or the kidneys, and its label map shows no others. The `demo` recipe is trained
on both, for the same steps from the same seed, and both networks are scored on the same new cases, which have all
organs. Prints the mean Dice of each organ and the difference, and leaves them in OUT/partial.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from medseg.dataset import open_dataset
from medseg.device import choose_device
from medseg.recipe import load_recipe
from medseg.synthetic import LABELS, write_synthetic_dataset
from medseg.train import train
from medseg.volume import LabelMap, read_label_map, write_image

HALVES = (("spleen", "liver"), ("kidney_right", "kidney_left"))
# What the two networks may differ by.
WITHIN = 0.02


def main() -> None:
    """Make both datasets, train on them, and compare."""
    options = arguments()
    data = write_synthetic_dataset(options.out / "data", cases=options.cases + options.new, seed=options.seed)
    listings = {"all": listing(data, options), "halves": listing(data, options, halves=True)}
    dice = {name: train_on(options, data / f"{name}.json", listed) for name, listed in listings.items()}
    rows = {
        organ: {**{name: scores[organ] for name, scores in dice.items()}, "difference": difference(dice, organ)}
        for organ in dice["all"]
    }
    numbers = {"cases": options.cases, "new": options.new, "seed": options.seed, "set": options.set, "dice": rows}
    (options.out / "partial.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    table(rows)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--cases", type=int, default=24, help="to train on")
    parser.add_argument("--new", type=int, default=8, help="to score, never trained on")
    parser.add_argument("--seed", type=int, default=0, help="of the scans and of both trainings")
    parser.add_argument("--set", action="append", default=[], help="section.key=value of the demo recipe; repeatable")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def listing(data: Path, options: argparse.Namespace, *, halves: bool = False) -> dict[str, Any]:
    """Return a manifest of the cases: those to score are fold 0, and of halves the others have half of the organs."""
    facts: dict[str, Any] = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    cases = []
    for number, case in enumerate(facts["training"]):
        fold = int(number >= options.new)
        present = HALVES[number % 2] if halves and fold else tuple(LABELS.values())
        label = case["label"] if len(present) == len(LABELS) else half(data, case["label"], present)
        cases.append({**case, "label": label, "fold": fold, "labels_present": present})
    return {**facts, "training": cases}


def half(data: Path, label: str, present: tuple[str, ...]) -> str:
    """Write a label map that shows some organs only, and return its place."""
    whole = read_label_map(data / label)
    shown = np.isin(whole.array, [id_ for id_, name in LABELS.items() if name in present])
    place = f"./labelsHalf/{Path(label).name}"
    write_image(LabelMap(whole.array * shown, whole.geometry), data / place)
    return place


def train_on(options: argparse.Namespace, manifest: Path, listed: dict[str, Any]) -> dict[str, float]:
    """Train on a manifest's cases and return the mean Dice of each organ in the new ones, and of all."""
    manifest.write_text(json.dumps(listed, indent=2), encoding="utf-8")
    recipe, device = load_recipe("demo", options.set), choose_device(options.device)
    run = options.out / f"run_{manifest.stem}"
    result = train(recipe, open_dataset(manifest), run, fold=0, device=device, seed=options.seed)
    labels = {name: label["dice"]["mean"] or 0.0 for name, label in result.summary["labels"].items()}
    return {**labels, "mean": result.summary["overall"]["dice"]["mean"] or 0.0}


def difference(dice: dict[str, dict[str, float]], organ: str) -> float:
    """Return what learning from halves gains, below 0 where it loses."""
    return dice["halves"][organ] - dice["all"][organ]


def table(rows: dict[str, dict[str, float]]) -> None:
    """Print Dice, organs down."""
    print(f"{'':14}{'all organs':>12}{'halves':>12}{'difference':>12}")
    for organ, row in rows.items():
        print(f"{organ:14}{row['all']:12.4f}{row['halves']:12.4f}{row['difference']:+12.4f}")
    close = abs(rows["mean"]["difference"]) <= WITHIN
    print(f"The means are {'within' if close else 'NOT within'} {WITHIN} of each other.")


if __name__ == "__main__":
    main()

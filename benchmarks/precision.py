"""Whether engines and precisions change what a model finds: Dice with the references, in each of them.

    python benchmarks/precision.py MODEL --data DATASET [--manifest NAME] [--most 50] [--out precision.json]

Every labelled case of the dataset (or so many, evenly spaced) is segmented by torch in float32, which is the reference,
by torch in bfloat16 where the processor multiplies it (emulated, a case takes a minute), and by OpenVINO in float32 and
as it runs by default on this processor. Prints for each the mean Dice, and of all cases and labels the largest
difference of Dice from the reference's.
"""

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medseg.dataset import open_dataset
from medseg.device import multiplies_bf16
from medseg.metrics import score_label_map
from medseg.package import ModelPackage, load_package
from medseg.processor import keep_freed_memory
from medseg.segment import Segmenter
from medseg.train.validate import evenly
from medseg.volume import read_reference, read_volume

WAYS = {
    "torch fp32": ("torch", "fp32"),
    "torch bf16": ("torch", "bf16"),
    "OpenVINO fp32": ("openvino", "fp32"),
    "OpenVINO by default": ("openvino", "auto"),
}
REFERENCE = "torch fp32"


def main() -> None:
    """Run the benchmark, print its table and write its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a run or a package")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", help="the shipped manifest of a folder without a dataset.json")
    parser.add_argument("--most", type=int, default=10**6, help="cases")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    numbers = measure(load_package(options.model), options)
    if options.out:
        options.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    print(f"{numbers['cases']} cases of {numbers['dataset']}")
    print(f"{'':<22}{'mean Dice':>12}{'largest difference':>20}")
    for way, one in numbers["ways"].items():
        print(f"{way:<22}{one['mean']:>12.5f}{one['largest_difference']:>20.6f}")


def measure(package: ModelPackage, options: argparse.Namespace) -> dict[str, Any]:
    """Return the Dice of each way."""
    dataset = open_dataset(options.data, manifest=options.manifest)
    cases = evenly(dataset.cases, options.most)
    bf16 = multiplies_bf16(torch.device("cpu"))
    segmenters = {way: segmenter(package, *how) for way, how in WAYS.items() if bf16 or how != ("torch", "bf16")}
    dice: dict[str, dict[str, float]] = {way: {} for way in segmenters}
    for number, case in enumerate(cases, start=1):
        volume = read_volume(dataset.image(case), channels=package.channels)
        reference = read_reference(dataset.label(case), geometry=volume.geometry, labels=dataset.manifest.label_set)
        for way, own in segmenters.items():
            for row in score_label_map(own.segment(volume), reference, package.labels, case_id=case.case_id):
                if row.dice is not None:
                    dice[way][f"{case.case_id} {row.label}"] = row.dice
        print(f"{number} of {len(cases)}: {case.case_id}", file=sys.stderr)
    ways = {
        way: {
            "mean": statistics.mean(own.values()),
            "largest_difference": max(abs(own[key] - dice[REFERENCE][key]) for key in own),
            "dice": own,
        }
        for way, own in dice.items()
    }
    return {"dataset": dataset.manifest.name, "cases": len(cases), "bf16": bf16, "ways": ways}


def segmenter(package: ModelPackage, engine: str, precision: str) -> Segmenter:
    """Return what segments with one engine and precision."""
    training = package.recipe.training.model_copy(update={"precision": precision})
    recipe = package.recipe.model_copy(update={"training": training})
    return Segmenter.of(replace(package, recipe=recipe), engine=engine, device="cpu")


if __name__ == "__main__":
    main()

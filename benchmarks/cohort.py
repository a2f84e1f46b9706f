"""Cases per minute of one `medseg predict` on a folder, of a process per case, and of the engine without its overlap.

    python benchmarks/cohort.py OUT.json [--cases 100] [--alone 5] [--rounds 3] [--spacing 5.5] [--device cpu]

Run it in the checkout's environment on a machine that does nothing else. The scans are synthetic abdominal CTs, NIfTI
(at 5.5 mm some 60×70×45 voxels, at 1.5 mm 230×250×160), the model is the `demo` recipe's U-Net with untrained weights,
which infers as fast as a trained one. Rounds alternate between the ways, and the median counts. A process per case is
timed on `--alone` cases and scaled up to all of them: each case costs the same start of Python, PyTorch and the model.
About 2 minutes on 2 cores; for larger scans `--cases 20 --spacing 1.5`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from medseg.cases import find_cases
from medseg.labels import LabelSet
from medseg.models import build_network, pack, to_onnx, weights_of
from medseg.package import ModelPackage, load_package, save_package
from medseg.predict import cohort
from medseg.recipe import load_recipe
from medseg.synthetic import LABELS, synthetic_ct
from medseg.volume import Volume, resample, write_image

WAYS = {
    "folder": "one command for the folder",
    "alone": "a command per case",
    "overlap": "the engine alone",
    "in_turn": "the engine alone, without overlap",
}


def main() -> None:
    """Run the benchmark, print its table and write its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the numbers go, JSON")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--alone", type=int, default=5, help="cases timed with a process each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spacing", type=float, default=5.5, help="side of a voxel in mm")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder), options)
    numbers = summary(seconds, options)
    options.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    on = f"{options.device}, {numbers['cores']} cores"
    print(f"{options.cases} cases of {options.spacing} mm, median of {options.rounds} rounds, {on}")
    for way, name in WAYS.items():
        print(f"  {name:<36} {numbers[way]['cases_per_minute']:8.1f} cases per minute")
    print(f"  a folder takes {numbers['times_faster_than_alone']:.1f} times less than a command per case (scaled up),")
    print(f"  and overlap {numbers['times_faster_than_in_turn']:.2f} times less than one stage after the other")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds per case of each way in each round."""
    scans = [folder / "scans" / f"case_{number:03d}.nii.gz" for number in range(options.cases)]
    for number, path in enumerate(scans):
        write_image(scan(number, options.spacing), path)
    save_package(untrained(), folder / "model")
    ways: dict[str, tuple[Callable[[], object], int]] = {
        "folder": (lambda: command(folder, scans[0].parent, options.device), len(scans)),
        "alone": (lambda: [command(folder, scan, options.device) for scan in scans[: options.alone]], options.alone),
        "overlap": (lambda: engine(folder, options.device, cohort.pipeline), len(scans)),
        "in_turn": (lambda: engine(folder, options.device, in_turn), len(scans)),
    }
    command(folder, scans[0], options.device)  # caches of files and of Python's bytecode
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, (run, cases) in ways.items():
            began = time.perf_counter()
            run()
            seconds[way].append((time.perf_counter() - began) / cases)
    return seconds


def scan(seed: int, spacing_mm: float) -> Volume:
    """Return a synthetic CT with voxels of this size."""
    volume, _ = synthetic_ct(seed)
    target = volume.geometry.with_spacing((spacing_mm, spacing_mm, spacing_mm))
    hu = resample(volume.array, source=volume.geometry, target=target)
    return Volume(hu.round().astype("int16"), target)


def untrained() -> ModelPackage:
    """Return the demo's model as it is before training."""
    recipe, labels = load_recipe("demo", []), LabelSet.from_names({0: "background", **LABELS})
    torch.manual_seed(0)
    network = build_network(recipe, channels=1, labels=len(labels))
    onnx = to_onnx(network, patch=recipe.training.patch, channels=1)
    return ModelPackage(recipe, labels, 1, pack(weights_of(network)), {}, onnx)


def command(folder: Path, scans: Path, device: str) -> None:
    """Run `medseg predict` in a process of its own."""
    arguments = ["predict", folder / "model", scans, "--out", folder / "out", "--device", device, "--quiet"]
    subprocess.run([sys.executable, "-m", "medseg", *map(str, arguments)], check=True, capture_output=True)


def engine(folder: Path, device: str, way: Callable[..., None]) -> None:
    """Segment the scans in this process, in the given way."""
    package = load_package(folder / "model")
    kept, cohort.pipeline = cohort.pipeline, way
    try:
        results = cohort.predict(package, find_cases([folder / "scans"]), folder / "out", device=device)
    finally:
        cohort.pipeline = kept
    assert not any(result.failed for result in results)


def in_turn(
    items: Sequence[Any],
    *,
    read: Callable[[Any], Any],
    work: Callable[[Any], Any],
    write: Callable[[Any], None],
    beside_work: bool = False,
) -> None:
    """Take every item through the stages, one after the other."""
    for item in items:
        write(work(read(item)))


def summary(seconds: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    """Return the numbers, with what they were measured on."""
    median = {way: statistics.median(rounds) for way, rounds in seconds.items()}
    return {
        "cases": options.cases,
        "alone_measured_on": options.alone,
        "rounds": options.rounds,
        "spacing_mm": options.spacing,
        "device": options.device,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{
            way: {"name": WAYS[way], "cases_per_minute": 60 / median[way], "seconds_per_case": seconds[way]}
            for way in WAYS
        },
        "times_faster_than_alone": median["alone"] / median["folder"],
        "times_faster_than_in_turn": median["in_turn"] / median["overlap"],
    }


if __name__ == "__main__":
    main()

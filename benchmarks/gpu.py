"""Seconds and memory of a prediction on a CUDA machine, stage by stage, after the model is loaded.

    python benchmarks/gpu.py OUT --data DATA [--model unet] [--classes 2] [--slices 300] [--rounds 5]

The scan is the CT of CHAOS, 512 × 512 voxels a slice, repeated to so many slices of 1 mm (`materials.py`); DATA holds
`chaos_ct`, and `organs_ct` for more than 2 classes. Each round reads the NIfTI file, prepares it, runs the network,
brings the labels home and writes them, in one process whose first case is not counted. Ways to run the network are
measured in turn: as medseg does it, in float32, with channels last, compiled by torch, and with both; what is fastest
without another answer should become `TorchEngine`'s choice. Every way's label map is compared with float32's. The GPU's
memory is counted with the weights of all ways, which stay there.

OUT gets `gpu_MODEL_CLASSES.json`. With `--device cpu` the program runs anywhere, to be tried.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medseg.engine.torch import TorchEngine
from medseg.package import ModelPackage, load_package
from medseg.processor import keep_freed_memory
from medseg.segment import Segmenter
from medseg.stopwatch import Stopwatch
from medseg.volume import read_volume, write_image

MATERIALS = Path(__file__).parent / "materials.py"
STAGES = ("read", "preprocess", "infer", "restore", "write")
WAYS: dict[str, dict[str, Any]] = {
    "as medseg does it": {},
    "float32": {"precision": "fp32"},
    "channels last": {"channels_last": True},
    "compiled": {"compiled": True},
    "channels last, compiled": {"channels_last": True, "compiled": True},
}
REFERENCE = "float32"


def main() -> None:
    """Run the benchmark, print its table and write its numbers."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    scan, package = materials(options)
    keep_freed_memory()
    segmenters = {way: segmenter(package, options.device, WAYS[way]) for way in options.ways}
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in segmenters}
    maps: dict[str, NDArray[np.integer]] = {}
    peaks: dict[str, int | None] = {}
    for number in range(options.rounds + 1):
        for way, own in segmenters.items():
            if torch.device(options.device).type == "cuda":
                torch.cuda.reset_peak_memory_stats(options.device)
            seconds, maps[way] = once(own, scan, options.out / "gpu.nii.gz")
            peaks[way] = own.engine.peak_gpu_mb()
            if number:
                rounds[way].append(seconds)
            print(f"round {number} of {options.rounds}: {way}: {seconds['total']:.2f} s", file=sys.stderr)
    numbers = summary(options, scan, rounds, maps, peaks)
    path = options.out / f"gpu_{options.model}_{options.classes}.json"
    path.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    show(numbers)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder; scans and networks in it are kept and used again")
    parser.add_argument("--data", type=Path, required=True, help="holds chaos_ct, and organs_ct for more classes")
    parser.add_argument("--model", choices=["unet", "dynunet"], default="unet")
    parser.add_argument("--classes", type=int, default=2, help="with the background; 2, 20 and 118 are customary")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--steps", type=int, default=200, help="of training the network, the first time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--ways", default=",".join(WAYS).replace(", ", "; "), help="some of the ways, by commas")
    options = parser.parse_args()
    options.ways = [way.replace("; ", ", ") for way in options.ways.split(",")]
    if unknown := set(options.ways) - set(WAYS):
        parser.error(f"--ways: there is no {'; '.join(sorted(unknown))}")
    return options


def materials(options: argparse.Namespace) -> tuple[Path, ModelPackage]:
    """Return the long scan and the network, made where they are not there yet."""
    single, scan = options.out / "scan.nii.gz", options.out / f"scan_{options.slices}.nii.gz"
    for path, extra in ((single, []), (scan, ["--slices", str(options.slices)])):
        if not path.is_file():
            make("scan", path, "--data", options.data, *extra)
    make(
        *["network", options.out, "--data", options.data, "--scan", single],
        *["--model", options.model, "--classes", str(options.classes), "--steps", str(options.steps)],
    )
    return scan, load_package(options.out / f"{options.model}_{options.classes}" / "model")


def make(*command: str | Path) -> None:
    """Have a scan or a network made."""
    subprocess.run([sys.executable, MATERIALS, *command], check=True)


def segmenter(package: ModelPackage, device: str, way: dict[str, Any]) -> Segmenter:
    """Return a segmenter that runs the network in one way."""
    chosen = {"precision": package.recipe.training.precision, **way}
    return Segmenter(TorchEngine(package.network(), torch.device(device), **chosen), package.recipe, package.labels)


def once(own: Segmenter, scan: Path, out: Path) -> tuple[dict[str, float], NDArray[np.integer]]:
    """Segment the scan once; return the seconds of each stage, and the label map."""
    watch, began = Stopwatch(), time.perf_counter()
    with watch.stage("read"):
        volume = read_volume(scan)
    label_map = own.segment(volume, stopwatch=watch)
    with watch.stage("write"):
        write_image(label_map, out)
    return {**watch.seconds, "total": time.perf_counter() - began}, label_map.array


def summary(
    options: argparse.Namespace,
    scan: Path,
    rounds: dict[str, list[dict[str, float]]],
    maps: dict[str, NDArray[np.integer]],
    peaks: dict[str, int | None],
) -> dict[str, Any]:
    """Return the numbers, with what they were measured on."""
    ways = {}
    for way, done in rounds.items():
        median = {stage: round(statistics.median(one[stage] for one in done), 4) for stage in (*STAGES, "total")}
        ways[way] = {"median": median, "peak_gpu_mb": peaks[way], "rounds": done}
        if REFERENCE in maps:
            either = np.count_nonzero((maps[way] > 0) | (maps[REFERENCE] > 0))
            ways[way]["equal"] = 1 - np.count_nonzero(maps[way] != maps[REFERENCE]) / max(1, either)
    return {
        "model": options.model,
        "classes": options.classes,
        "scan": list(read_volume(scan).geometry.shape),
        "rounds": options.rounds,
        "device": processor(options.device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "medseg": version("medseg"),
        "ways": ways,
    }


def processor(device: str) -> str:
    """Return the name of what the network runs on."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or device


def show(numbers: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{numbers['model']}, {numbers['classes']} classes, {numbers['scan']} voxels, {numbers['device']}")
    columns = (*STAGES, "total")
    print(f"{'median seconds':<26}" + "".join(f"{name:>11}" for name in columns) + f"{'GPU MiB':>9}{'equal':>10}")
    for way, one in numbers["ways"].items():
        cells = "".join(f"{one['median'][name]:>11.3f}" for name in columns)
        equal = f"{one['equal']:>10.3%}" if "equal" in one else ""
        print(f"{way:<26}{cells}{one['peak_gpu_mb'] or '-':>9}{equal}")


if __name__ == "__main__":
    main()

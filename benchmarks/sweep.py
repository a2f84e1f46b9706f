"""Seconds and memory of `medseg predict` by the number of classes and the length of the scan.

    python benchmarks/sweep.py OUT --data DATA [--classes 2,20,118] [--slices 100,200,400,700,1000] [--rounds 1]

Each is a whole process on one CT of 512 × 512 voxels a slice, 1 mm thick: that of CHAOS, repeated up and down
(`materials.py`). DATA holds `chaos_ct` and `organs_ct`. OUT may be the folder of `predict.py`, whose networks are then
used again, and gets `sweep_MODEL.json`. 1000 slices take 524 MB in memory and half as much on disk. Run it on
a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from child import installed_gb, run

MATERIALS = Path(__file__).parent / "materials.py"


def main() -> None:
    """Run the benchmark, print its table and write its numbers."""
    options = arguments()
    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    for classes in options.classes:
        network(options, classes)
    rows = []
    for slices in options.slices:
        path = scan(options, slices)
        for classes in options.classes:
            rows.append(measure(options, path, classes) | {"slices": slices, "classes": classes})
            print(line(rows[-1]))
    numbers = {
        "model": options.model,
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "medseg": version("medseg"),
        "rows": rows,
    }
    (options.out / f"sweep_{options.model}.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    table(rows, options)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder; scans and networks in it are kept and used again")
    parser.add_argument("--data", type=Path, required=True, help="holds chaos_ct, and organs_ct for more classes")
    parser.add_argument("--model", choices=["unet", "dynunet"], default="unet")
    parser.add_argument("--classes", type=numbers_of, default=[2, 20, 118])
    parser.add_argument("--slices", type=numbers_of, default=[100, 200, 400, 700, 1000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200, help="of training the network, the first time")
    parser.add_argument("--extra", default="", help="options added to medseg predict")
    parser.add_argument("--address-gb", type=float, default=installed_gb(), help="a process's limit")
    return parser.parse_args()


def numbers_of(text: str) -> list[int]:
    """Return the numbers of "2,20,118"."""
    return [int(word) for word in text.split(",")]


def scan(options: argparse.Namespace, slices: int) -> Path:
    """Return a scan of so many slices, made where it is not there yet."""
    path = options.out / "scans" / f"ct_{slices:04d}.nii.gz"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        make(["scan", path, "--data", options.data, "--slices", str(slices)], options)
    return path


def network(options: argparse.Namespace, classes: int) -> None:
    """Make a network where there is none yet."""
    single = options.out / "scan.nii.gz"
    if not single.is_file():
        make(["scan", single, "--data", options.data], options)
    model = ["--model", options.model, "--classes", str(classes), "--steps", str(options.steps)]
    make(["network", options.out, "--data", options.data, "--scan", single, *model], options)


def make(command: list[str | Path], options: argparse.Namespace) -> None:
    """Have a scan or a network made."""
    log = options.out / "logs" / f"{command[0]}.txt"
    if failure := run([sys.executable, MATERIALS, *command], log=log).failure:
        raise SystemExit(f"{failure}; see {log}")


def measure(options: argparse.Namespace, path: Path, classes: int) -> dict[str, Any]:
    """Segment a scan so many times; return medians of seconds, and the highest peak."""
    program, model = Path(sys.executable).with_name("medseg"), options.out / f"{options.model}_{classes}" / "model"
    out = options.out / "sweep"
    seconds, peaks, stages = [], [], []
    for _ in range(options.rounds):
        shutil.rmtree(out, ignore_errors=True)
        command = [program, "predict", model, path, "--out", out, "--device", "cpu", "--quiet", *options.extra.split()]
        child = run(command, log=options.out / "logs" / "sweep.txt", address_gb=options.address_gb)
        if child.failure:
            return {"failure": child.failure, "seconds": None, "peak_mb": round(child.peak_mb), "stages": {}}
        seconds.append(child.seconds)
        peaks.append(child.peak_mb)
        stages.append(json.loads((out / "results.jsonl").read_text(encoding="utf-8").splitlines()[-1])["seconds"])
    return {
        "failure": None,
        "seconds": round(statistics.median(seconds), 2),
        "peak_mb": round(max(peaks)),
        "stages": {name: round(statistics.median(one[name] for one in stages), 3) for name in stages[0]},
    }


def line(row: dict[str, Any]) -> str:
    """Return a row for people."""
    said = row["failure"] or f"{row['seconds']:8.1f} s {row['peak_mb']:8.0f} MB"
    return f"{row['slices']:>5} slices {row['classes']:>4} classes {said}"


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print seconds and gigabytes, slices down and classes across."""
    cells = {(row["slices"], row["classes"]): row for row in rows}
    print(f"{'slices':>8}" + "".join(f"{f'{classes} classes':>22}" for classes in options.classes))
    for slices in options.slices:
        print(f"{slices:>8}" + "".join(f"{cell(cells[slices, classes]):>22}" for classes in options.classes))


def cell(row: dict[str, Any]) -> str:
    """Return a cell of the table."""
    return "failed" if row["failure"] else f"{row['seconds']:.1f} s, {row['peak_mb'] / 1000:.2f} GB"


if __name__ == "__main__":
    main()

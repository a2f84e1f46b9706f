"""Seconds and memory of `medseg predict` beside MONAI's and nnU-Net's way, with one network on one scan.

    python benchmarks/predict.py OUT --data DATA --peers PEERS/bin/python [--model unet] [--classes 2] [--rounds 5]

PEERS is an environment of its own, made from `benchmarks/requirements.txt`. DATA holds `chaos_ct` and, for more
than 2 classes, `organs_ct`. Each way is a whole process, from before its start until it is gone: it imports, reads a
NIfTI file, prepares it, runs the network in windows, takes the result home to the scan's grid and writes a NIfTI file.
Scan, weights, grid, intensity window, patch and overlap are the same; `peers/monai_predict.py` and
`peers/nnunet_predict.py` say what is each peer's own, and `materials.py` how the network was made. After a round that
does not count, rounds alternate between the ways, and the medians count. What is none of the stages, from starting
Python to its end, is called "start".

The label maps differ a little, because each way has its own places of windows, weights of a window's edges, padding and
low pass before shrinking. "medseg predict, MONAI's choices" is the same network in a package whose recipe has MONAI's;
there the maps should be the same.

OUT gets `MODEL_CLASSES.json`, `MODEL_CLASSES.png` and the label maps. Run it on a machine that does nothing else.
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

import numpy as np
from chart import draw
from child import Child, installed_gb, run
from numpy.typing import NDArray

from medseg.volume import read_label_map

HERE = Path(__file__).parent
STAGES = ("start", "read", "preprocess", "forward", "restore", "write")
FURTHER = 5
NNUNET = HERE / "peers" / "nnunet_predict.py"
WAYS = {
    "medseg": "medseg predict",
    "medseg_as_monai": "medseg predict, MONAI's choices",
    "monai": "MONAI, as its spleen bundle",
    "nnunet": "nnU-Net, linear",
    "nnunet_cubic": "nnU-Net, its default (cubic)",
    "nnunet_torch": "nnU-Net, resampling in PyTorch",
}


def main() -> None:
    """Run the benchmark, print its tables, and write its numbers and its picture."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    scan, model = materials(options)
    rounds = measure(options, scan, model)
    name = f"{options.model}_{options.classes}"
    maps = label_maps(options, scan, rounds)
    numbers = summary(options, rounds) | {"agreement": agreements(maps), "expert": expert(options, maps)}
    numbers["further_case"] = further_case(options, scan, model)
    (options.out / f"{name}.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    show(numbers)
    bars = {WAYS[way]: way_numbers["median"] for way, way_numbers in numbers["ways"].items() if way_numbers["median"]}
    draw(bars, STAGES, title=numbers["title"], path=options.out / f"{name}.png")


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder; scan and networks in it are kept and used again")
    parser.add_argument("--data", type=Path, required=True, help="holds chaos_ct, and organs_ct for more classes")
    parser.add_argument("--peers", type=Path, help="Python of the environment that has MONAI and nnU-Net")
    parser.add_argument("--model", choices=["unet", "dynunet"], default="unet")
    parser.add_argument("--classes", type=int, default=2, help="with the background; 2, 20 and 118 are customary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="of training the network, the first time")
    parser.add_argument("--ways", default="medseg,medseg_as_monai,monai,nnunet", help=f"of {','.join(WAYS)}")
    parser.add_argument("--extra", default="", help="options added to medseg predict")
    parser.add_argument("--address-gb", type=float, default=installed_gb(), help="a process's limit")
    options = parser.parse_args()
    options.ways = options.ways.split(",")
    if unknown := set(options.ways) - set(WAYS):
        parser.error(f"--ways: there is no {', '.join(sorted(unknown))}")
    if options.peers is None and not all(way.startswith("medseg") for way in options.ways):
        parser.error("--peers is needed, unless --ways medseg")
    return options


def materials(options: argparse.Namespace) -> tuple[Path, Path]:
    """Return the scan and the run with the network, made where they are not there yet."""
    scan, program = options.out / "scan.nii.gz", [sys.executable, HERE / "materials.py"]
    if not scan.is_file():
        succeed([*program, "scan", scan, "--data", options.data], options.out / "logs" / "scan.txt")
    model = ["--model", options.model, "--classes", str(options.classes), "--steps", str(options.steps)]
    command = [*program, "network", options.out, "--data", options.data, "--scan", scan, *model]
    succeed(command, options.out / "logs" / "network.txt")
    return scan, options.out / f"{options.model}_{options.classes}"


def succeed(command: list[str | Path], log: Path) -> None:
    """Run a program that everything else needs."""
    if failure := run(command, log=log).failure:
        raise SystemExit(f"{failure}; see {log}")


def measure(options: argparse.Namespace, scan: Path, model: Path) -> dict[str, list[dict[str, Any]]]:
    """Return seconds and megabytes of each way in each round; a way that fails is not tried again."""
    rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways}
    for number in range(options.rounds + 1):
        for way, done in rounds.items():
            if done and done[-1]["failure"]:
                continue
            one = once(options, way, scan, model)
            print(
                f"round {number} of {options.rounds}: {WAYS[way]}: {one['failure'] or one['seconds']}", file=sys.stderr
            )
            if number == 1 and not done[-1]["failure"]:
                done.clear()
            done.append(one)
    return rounds


def once(options: argparse.Namespace, way: str, scan: Path, model: Path) -> dict[str, Any]:
    """Segment the scan once."""
    out, stages = options.out / way, options.out / "logs" / f"{way}.json"
    shutil.rmtree(out, ignore_errors=True)
    stages.unlink(missing_ok=True)
    own = [model / "peers.json", scan, out, stages]
    described = json.loads((model / "peers.json").read_text(encoding="utf-8"))
    program, more = Path(sys.executable).with_name("medseg"), ["--device", "cpu", "--quiet", *options.extra.split()]
    commands: dict[str, list[str | Path]] = {
        "medseg": [program, "predict", model / "model", scan, "--out", out, *more],
        "medseg_as_monai": [program, "predict", described["as_monai"], scan, "--out", out, *more],
        "monai": [options.peers, HERE / "peers" / "monai_predict.py", *own],
        "nnunet": [options.peers, NNUNET, *own, "linear"],
        "nnunet_cubic": [options.peers, NNUNET, *own, "cubic"],
        "nnunet_torch": [options.peers, NNUNET, *own, "torch"],
    }
    child = run(commands[way], log=options.out / "logs" / f"{way}.txt", address_gb=options.address_gb)
    within = {} if child.failure else seconds_within(way, out, stages)
    return {"failure": child.failure, "peak_mb": round(child.peak_mb), "seconds": staged(child, within), "own": within}


def further_case(options: argparse.Namespace, scan: Path, model: Path) -> dict[str, float]:
    """Return what each further case of a folder costs: whole commands for 1 and for 1 + FURTHER copies of the scan."""
    program, folder, out = Path(sys.executable).with_name("medseg"), options.out / "cohort", options.out / "cohort_out"
    whole, inferred = [], []
    for copies in (1, 1 + FURTHER):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        folder.mkdir()
        for number in range(copies):
            shutil.copyfile(scan, folder / f"case_{number}.nii.gz")
        command = [program, "predict", model / "model", folder, "--out", out, "--device", "cpu", "--quiet"]
        child = run([*command, *options.extra.split()], log=options.out / "logs" / "cohort.txt")
        if child.failure:
            raise SystemExit(f"{child.failure}; see {options.out / 'logs' / 'cohort.txt'}")
        whole.append(child.seconds)
        lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
        inferred.append(sum(json.loads(line)["seconds"]["infer"] for line in lines))
    each, network = ((more - one) / FURTHER for one, more in (whole, inferred))
    shutil.rmtree(folder)
    return {"seconds": round(each, 3), "network": round(network, 3), "besides": round(each - network, 3)}


def seconds_within(way: str, out: Path, stages: Path) -> dict[str, float]:
    """Return the seconds of the stages, as the program itself took them."""
    if not way.startswith("medseg"):
        return dict(json.loads(stages.read_text(encoding="utf-8")))
    seconds = json.loads((out / "results.jsonl").read_text(encoding="utf-8").splitlines()[-1])["seconds"]
    return {"forward" if stage == "infer" else stage: value for stage, value in seconds.items() if stage != "total"}


def staged(child: Child, within: dict[str, float]) -> dict[str, float]:
    """Return the seconds of each stage, what is left over as the start, and the total."""
    seconds = {stage: within.get(stage, 0.0) for stage in STAGES[1:]}
    start = max(0.0, child.seconds - sum(seconds.values()))
    return {stage: round(value, 3) for stage, value in {"start": start, **seconds, "total": child.seconds}.items()}


def summary(options: argparse.Namespace, rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the numbers, with what they were measured on."""
    ways = {}
    for way, done in rounds.items():
        failure = done[-1]["failure"]
        median = {} if failure else {stage: median_of(done, stage) for stage in (*STAGES, "total")}
        peak = max(one["peak_mb"] for one in done)
        ways[way] = {"name": WAYS[way], "failure": failure, "median": median, "peak_mb": peak, "rounds": done}
    trained = options.classes <= (20 if options.model == "unet" else 2)
    heads = "trained" if trained else "a trained trunk with heads drawn at random"
    return {
        "title": f"{options.model}, {options.classes} classes, CT of 512x512x78, {os.cpu_count()} cores",
        "model": options.model,
        "classes": options.classes,
        "weights": heads,
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "medseg": version("medseg"),
        "ways": ways,
    }


def median_of(rounds: list[dict[str, Any]], stage: str) -> float:
    """Return the median seconds of a stage."""
    return round(statistics.median(one["seconds"][stage] for one in rounds), 3)


def label_maps(
    options: argparse.Namespace, scan: Path, rounds: dict[str, list[dict[str, Any]]]
) -> dict[str, NDArray[np.integer]]:
    """Return what each way wrote last."""
    done = [way for way, results in rounds.items() if not results[-1]["failure"]]
    return {way: read_label_map(options.out / way / scan.name).array for way in done}


def agreements(maps: dict[str, NDArray[np.integer]]) -> dict[str, Any]:
    """Return how far medseg's label maps and those of each other way are the same."""
    ours, others = ([way for way in maps if way.startswith("medseg") == own] for own in (True, False))
    return {f"{WAYS[own]} and {WAYS[way]}": agreement(maps[own], maps[way]) for own in ours for way in others}


def expert(options: argparse.Namespace, maps: dict[str, NDArray[np.integer]]) -> dict[str, float]:
    """Return each way's Dice with the expert's liver, on which the network of 2 classes was trained."""
    path = options.out / "liver" / "labelsTr" / "chaos.nii.gz"
    if options.classes != 2 or not path.is_file():
        return {}
    reference = read_label_map(path).array
    return {way: agreement(reference, own)["dice"] for way, own in maps.items()}


def agreement(one: NDArray[np.integer], other: NDArray[np.integer]) -> dict[str, float]:
    """Return the share of equal voxels among those that either calls foreground, and the mean Dice of all labels."""
    counts, others, shared = (np.bincount(ids.ravel(), minlength=256)[1:] for ids in (one, other, one[one == other]))
    there = counts + others > 0
    differ = np.count_nonzero(one != other)
    either = np.count_nonzero((one > 0) | (other > 0))
    dice = 2 * shared[there] / (counts + others)[there]
    return {
        "equal": round(1 - differ / max(1, either), 5),
        "dice": round(float(dice.mean()), 5) if there.any() else 1.0,
        "least_dice": round(float(dice.min()), 5) if there.any() else 1.0,
        "labels": int(there.sum()),
        "voxels_that_differ": int(differ),
    }


def show(numbers: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"{numbers['title']}; median of {numbers['rounds']}, weights: {numbers['weights']}")
    columns = (*STAGES, "total")
    print(f"{'seconds':<32}" + "".join(f"{name:>11}" for name in columns) + f"{'peak MB':>11}")
    for way in numbers["ways"].values():
        cells = "".join(f"{way['median'][name]:>11.2f}" for name in columns) if way["median"] else way["failure"]
        print(f"{way['name']:<32}{cells}" + (f"{way['peak_mb']:>11}" if way["median"] else ""))
    for both, one in numbers["agreement"].items():
        labels = f"Dice {one['dice']:.4f}, least {one['least_dice']:.4f} of {one['labels']} label(s)"
        print(f"{both}: {one['equal']:.2%} of foreground voxels equal, {labels}")
    further = numbers["further_case"]
    print(f"each further case: {further['seconds']:.2f} s, {further['besides']:.2f} s of it besides the network")
    for way, dice in numbers["expert"].items():
        print(f"{WAYS[way]}: Dice {dice:.4f} with the expert's liver, which the network was trained on")


if __name__ == "__main__":
    main()

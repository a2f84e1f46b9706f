"""A training killed with SIGKILL ten times and resumed, against one that nobody disturbed: are the weights the same?

    python benchmarks/survive.py OUT RECIPE --data DATASET [--fold 0] [--kills 10] [--set training.epochs=4]

Trains RECIPE on DATASET twice with `--deterministic`: at one go, and with kills at steps drawn at random, each up to
`--late` seconds after its step has ended, so that they meet steps, validations and checkpoints alike. Every process is
started afresh with `--resume`. Prints where each was killed and where the next went on from, and the SHA-256 of the
final weights of both. Ends with 1 where they differ. OUT has to be new or empty, and gets `survive.json`. It takes as
long as two trainings, and for each kill a start of Python and what was done since the last checkpoint.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medseg.dataset import open_dataset
from medseg.device import choose_device
from medseg.progress import Progress
from medseg.recipe import load_recipe
from medseg.train import train

# What stands before the step in what a child says.
BEGAN = "began after step"


def main() -> None:
    """Run the benchmark, print its table and write its numbers."""
    options = arguments()
    if options.kill_at is not None:
        child(options)
        return
    settings = load_recipe(options.recipe, options.set).training
    total = settings.epochs * settings.steps_per_epoch
    draw = random.Random(options.seed)
    whole = sha256(options, "undisturbed", [])
    kills = [(step, draw.uniform(0, options.late)) for step in sorted(draw.sample(range(1, total), options.kills))]
    rows: list[dict[str, Any]] = []
    killed = sha256(options, "killed", kills, rows)
    numbers = {
        "recipe": options.recipe,
        "steps": total,
        "device": options.device,
        "cores": os.cpu_count(),
        "torch": version("torch"),
        "medseg": version("medseg"),
        "rows": rows,
        "undisturbed": whole,
        "killed": killed,
    }
    (options.out / "survive.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    print(f"{len(rows)} kills in {total} steps; final weights {'the same' if whole == killed else 'DIFFERENT'}")
    print(f"  undisturbed {whole}\n  killed      {killed}")
    sys.exit(whole != killed)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a new or empty folder")
    parser.add_argument("recipe", help="a .toml file, or a shipped recipe's name")
    parser.add_argument("--data", type=Path, required=True, help="the dataset")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--late", type=float, default=0.5, help="most seconds from a step to the kill")
    parser.add_argument("--set", action="append", default=[], help="section.key=value, as for medseg train")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    parser.add_argument("--kill-at", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--kill-late", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args()


def sha256(
    options: argparse.Namespace,
    run: str,
    kills: list[tuple[int, float]],
    rows: list[dict[str, Any]] | None = None,
) -> str:
    """Train in processes of which each but the last is killed; return the hash of the final weights."""
    for number, (step, late) in enumerate([*kills, (-1, 0.0)], start=1):
        command = [sys.executable, __file__, *sys.argv[1:], "--run", run]
        done = subprocess.run(
            [*command, "--kill-at", str(step), "--kill-late", str(late)], capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(done.stderr)
        began = next((int(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith(BEGAN)), None)
        ended = f"killed {late:.2f} s after step {step}" if done.returncode else "to the end"
        print(f"{run:<12} process {number:>2}: from step {began or 0:>5}, {ended}", flush=True)
        if done.returncode and rows is not None:
            rows.append({"from_step": began, "killed_after_step": step, "seconds_later": round(late, 3)})
        if done.returncode == 0:
            break
    weights = options.out / run / "model" / "weights.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def child(options: argparse.Namespace) -> None:
    """Train, and kill this process after a step."""
    timer = threading.Timer(options.kill_late, os.kill, (os.getpid(), signal.SIGKILL))
    began: list[int] = []

    def notify(progress: Progress) -> None:
        if progress.stage != "train":
            return
        if not began:
            began.append(max(0, progress.done - 1))
            print(BEGAN, began[0], flush=True)
        if progress.done >= options.kill_at >= 0 and not timer.is_alive():
            timer.start()

    train(
        load_recipe(options.recipe, options.set),
        open_dataset(options.data),
        options.out / options.run,
        fold=options.fold,
        device=choose_device(options.device),
        resume=True,
        deterministic=True,
        workers=options.workers,
        cache=options.out / "prepared",
        notify=notify,
    )


if __name__ == "__main__":
    main()

"""How far each stage of `medseg predict` is from what the machine allows.

    python benchmarks/floor.py OUT [--model unet] [--classes 2]

OUT is the folder of `predict.py`, after it has run for that model and number of classes. The floors:

* forward: the network's multiplications and additions in all windows that are run, over the rate at which this machine
  multiplies float32 matrices of 2048 × 2048 (where the processor multiplies bfloat16 in hardware, its own floor is
  lower). Additions of windows and activations are not counted.
* read: inflating the scan's file with isal, once, from memory. write: deflating the label map.
* preprocess and restore: copying the scan, the prepared scan and the label map once in memory.

Prints the table of floors beside the medians measured, and writes OUT/floor_MODEL_CLASSES.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from isal import igzip
from torch.utils.flop_counter import FlopCounterMode

from medseg.package import ModelPackage, load_package
from medseg.patches import Tiling
from medseg.preprocess import prepare
from medseg.volume import read_label_map, read_volume

ROUNDS, SIDE = 9, 2048


def main() -> None:
    """Print floors and what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--classes", type=int, default=2)
    options = parser.parse_args()
    name = f"{options.model}_{options.classes}"
    measured = json.loads((options.out / f"{name}.json").read_text(encoding="utf-8"))["ways"]["medseg"]["median"]
    numbers = floors(load_package(options.out / name / "model"), options.out)
    numbers["measured"] = measured
    (options.out / f"floor_{name}.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    print(
        f"{numbers['windows']} windows of {numbers['gflop_per_window']:.1f} GFLOP, matrices at "
        f"{numbers['gflop_per_second']:.0f} GFLOP/s"
    )
    print(f"{'stage':<12}{'floor':>10}{'measured':>10}{'times':>8}")
    for stage, floor in numbers["floor"].items():
        print(f"{stage:<12}{floor:>9.3f}s{measured[stage]:>9.3f}s{measured[stage] / floor:>8.1f}")


def floors(package: ModelPackage, out: Path) -> dict[str, Any]:
    """Return what each stage takes at least, in seconds."""
    path = out / "scan.nii.gz"
    volume, label_map = read_volume(path), read_label_map(out / "medseg" / path.name)
    prepared, patch = prepare(volume, package.recipe.preprocess), package.recipe.training.patch
    tiling = Tiling(patch, package.recipe.prediction.overlap)
    windows = int(np.prod([len(starts) for starts in tiling.starts(prepared.geometry.shape)]))
    work, rate = window_gflop(package), matrix_rate()
    scan, packed, ids = volume.array, path.read_bytes(), label_map.array.tobytes()
    return {
        "windows": windows,
        "gflop_per_window": round(work, 2),
        "gflop_per_second": round(rate, 1),
        "floor": {
            "read": seconds(lambda: igzip.decompress(packed)),
            "preprocess": seconds(lambda: (scan.copy(), prepared.array.copy())),
            "forward": windows * work / rate,
            "restore": seconds(lambda: (prepared.array.copy(), label_map.array.copy())),
            "write": seconds(lambda: igzip.compress(ids)),
        },
    }


def window_gflop(package: ModelPackage) -> float:
    """Return 10⁹ multiplications and additions of a window, as torch counts them."""
    network, patch = package.network(), torch.zeros(1, package.channels, *package.recipe.training.patch)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(patch)
    return float(counter.get_total_flops()) / 1e9


def matrix_rate() -> float:
    """Return 10⁹ multiplications and additions a second."""
    one, other = (np.random.default_rng(seed).random((SIDE, SIDE), np.float32) for seed in (0, 1))
    return 2 * SIDE**3 / 1e9 / seconds(lambda: one @ other)


def seconds(work: Callable[[], object]) -> float:
    """Return the median seconds of several times."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()

"""What the layout of a network's arrays does to the time of a training step on the CPU.

    python benchmarks/layout.py [--rounds 5] [--batch 2] [--side 48] [--out layout.json]

For each network, as small as the shipped recipes have it: seconds of a step (forward, Dice + cross-entropy, backward,
AdamW) on cubes with the channels first, as torch makes networks, and with the channels last, as `medseg train` has
them on a CPU. Rounds alternate between the two, after one of each that does not count; medians. Run it on a machine
that does nothing else.
"""

import argparse
import copy
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from medseg.device import mixed_precision
from medseg.engine.torch import uses_bf16
from medseg.losses import Target, build_loss
from medseg.models import channels_last
from medseg.models.networks import MODELS, Task
from medseg.processor import keep_freed_memory

NETWORKS = {
    "dynunet": {"filters": [16, 32, 64, 128]},
    "unet": {"channels": [16, 32, 64, 128, 256], "num_res_units": 2, "norm": "batch"},
    "segresnet": {"init_filters": 16},
    "basic_unet": {},
}
CPU = torch.device("cpu")


def main() -> None:
    """Run the benchmark, print its table and write its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    patch = (options.side,) * 3
    image = torch.randn(options.batch, 1, *patch)
    channels = nn.functional.one_hot(torch.randint(3, (options.batch, *patch)), 3).movedim(-1, 1).float()
    numbers = {}
    print(f"{options.batch} cubes of {options.side} voxels a side, {torch.get_num_threads()} threads; seconds a step")
    print(f"{'':<14}{'first':>8}{'last':>8}{'times':>8}")
    for name, settings in NETWORKS.items():
        first = MODELS[name](Task(1, 3, patch), **settings)
        networks = {"first": first, "last": channels_last(copy.deepcopy(first))}
        seconds: dict[str, list[float]] = {way: [] for way in networks}
        for _ in range(1 + options.rounds):
            for way, network in networks.items():
                seconds[way].append(step(network, image, Target(channels)))
        medians = {way: statistics.median(taken[1:]) for way, taken in seconds.items()}
        numbers[name] = medians
        print(f"{name:<14}{medians['first']:>8.2f}{medians['last']:>8.2f}{medians['first'] / medians['last']:>8.2f}")
    if options.out:
        options.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def step(network: nn.Module, image: torch.Tensor, target: Target) -> float:
    """Return the seconds of a training step."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    loss = build_loss("dice_ce", "softmax")
    began = time.perf_counter()
    with mixed_precision(CPU, bf16=uses_bf16("auto", CPU)):
        logits = network(image)
    optimizer.zero_grad()
    loss(logits, target).backward()
    optimizer.step()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

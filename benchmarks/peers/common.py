"""What the peers' programs share: the description of the network, the network itself, and a stopwatch."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.networks import nets
from safetensors.torch import load_file
from torch import nn


class Stopwatch:
    """Seconds of each stage, written to a file at the end; up to its making they count as importing."""

    def __init__(self) -> None:
        now = time.time()
        self.seconds = {"import": now - float(os.environ.get("BENCHMARK_BEGAN", now))}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def save(self, path: Path) -> None:
        """Write the seconds as JSON."""
        path.write_text(json.dumps(self.seconds, indent=2) + "\n", encoding="utf-8")


def network_of(described: dict[str, Any]) -> nn.Module:
    """Return the described network with exactly medseg's weights."""
    network: nn.Module = getattr(nets, described["network"])(**described["arguments"])
    weights = load_file(described["weights"])
    missing, unexpected = network.load_state_dict(weights, strict=False)
    # DynUNet holds its layers under two names, and the file has the first of each.
    state = network.state_dict()
    loaded = {state[name].data_ptr() for name in weights}
    if unexpected or any(state[name].data_ptr() not in loaded for name in missing):
        raise SystemExit(f"the weights are another network's: {unexpected or missing}")
    return network.eval()

"""Budget: the time and memory that a recipe may take, and how fast the machine is."""

from dataclasses import dataclass

import torch

from medseg.processor import ram_bytes

# The rest is for the system and for the programs beside the training.
SHARE_OF_RAM, SHARE_OF_GPU = 0.5, 0.8


@dataclass(frozen=True)
class Budget:
    """What training may take.

    Attributes:
        minutes: from the command to the scores.
        memory_bytes: of the device that the network is on.
        workers: processes that draw patches beside the network; 0 where it waits for them.
        voxels_per_second: of patches, that a DynUNet of 16 filters takes in a training step.
        bf16: whether activations are kept in 16 bits.
    """

    minutes: float
    memory_bytes: int
    workers: int
    voxels_per_second: float
    bf16: bool

    def voxels(self, *, share: float, cost: float = 1.0) -> float:
        """Return how many voxels a share of the time is enough for, with a network that costs that many times more."""
        return self.minutes * 60 * share * self.voxels_per_second / cost


def memory_to_use(device: torch.device) -> int:
    """Return how many bytes a training may take where nobody says.

    80 % of what a GPU has free; on the CPU half of the machine's, or of what its container allows.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(SHARE_OF_GPU * free)
    return int(SHARE_OF_RAM * ram_bytes())

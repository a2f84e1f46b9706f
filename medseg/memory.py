"""Memory: how to tell that it did not suffice, on the machine or on a GPU, whatever ran into it."""

import re

# What numpy, torch (CPU, CUDA, ROCm, MPS), cuDNN, cuBLAS and OpenVINO say; only numpy and CUDA have a kind for it.
SAID = re.compile(
    "out of memory|not enough memory|(can't|could not|failed to) allocate|bad.alloc|alloc(ation)?_failed"
    "|invalid buffer size",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory did not suffice."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(SAID.search(str(error))))

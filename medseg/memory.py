"""Memory: how to tell that it did not suffice, on the machine or on a GPU, whatever ran into it."""

import errno
import re

# What numpy, torch (CPU, CUDA, ROCm, MPS), cuDNN, cuBLAS and OpenVINO say. Only numpy and CUDA have a kind of error for
# it, and numpy's loses it on its way out of another process.
SAID = re.compile(
    "out of memory|not enough memory|(can't|could not|failed to|unable to) allocate|bad.alloc|alloc(ation)?_failed"
    "|invalid buffer size",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory did not suffice."""
    if isinstance(error, OSError):  # of a new process, or of a file to be mapped
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(SAID.search(str(error))))

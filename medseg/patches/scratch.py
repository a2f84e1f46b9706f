"""Scratch: where windows are added up, in memory as long as a limit allows it, otherwise in a file."""

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakSet

import numpy as np

from medseg.engine import Array, Engine
from medseg.errors import UnwritableError
from medseg.processor import give_freed_memory_back, ram_held

FLOAT_BYTES = 4


class Scratch:
    """Makes the arrays that a volume's windows are added up in.

    Args:
        limit_bytes: the memory that this process should hold at most; None for any.
        folder: where files go; they have no name and vanish with the process.
        besides: bytes that will be wanted besides.

    Attributes:
        sums_bytes: what the sums of the volume take at once, 0 before `plan`.
        in_file: whether they are kept in a file.
        short_bytes: by how much memory will pass the limit in spite of that; 0 where it does not.
    """

    def __init__(self, limit_bytes: int | None = None, folder: Path | None = None, *, besides: int = 0) -> None:
        self._limit, self._folder = limit_bytes, folder
        self._besides = besides
        self._files: WeakSet[mmap.mmap] = WeakSet()  # those of slabs that somebody still holds
        self.sums_bytes, self.in_file, self.short_bytes = 0, False, 0

    def plan(self, engine: Engine, *, sums: int, slab: int) -> None:
        """Decide, once the network has run and holds the memory that it needs.

        Args:
            engine: keeps its arrays on a device, or not.
            sums: values of all slabs that are open at once.
            slab: values of the largest one, which is read as a whole.
        """
        self.sums_bytes = sums * FLOAT_BYTES
        if self._limit is None or not engine.on_host:
            return
        give_freed_memory_back()  # the last scan's, which this one may use
        room = self._limit - ram_held() - self._besides
        self.in_file = self.sums_bytes > room
        self.short_bytes = max(0, slab * FLOAT_BYTES - room) if self.in_file else 0

    def zeros(self, engine: Engine, shape: Sequence[int]) -> Array:
        """Return zeros, float32.

        Raises:
            UnwritableError: the disk has no room for the file.
        """
        if not self.in_file:
            return engine.zeros(shape)
        size = math.prod(shape) * FLOAT_BYTES
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)  # a full disk is met here, and not in the middle
                else:
                    file.truncate(size)
                memory = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise UnwritableError(
                f"keeping {size / 2**30:.1f} GiB in a file in {self._folder or tempfile.gettempdir()}, for --max-ram",
                found=str(error),
                remedy="make room there, or raise --max-ram",
            ) from error
        self._files.add(memory)
        return np.frombuffer(memory, np.float32).reshape(tuple(shape))

    def settle(self) -> None:
        """Give the memory back that the files' pages hold by now; they are read again where they are wanted."""
        for memory in self._files:
            if hasattr(mmap, "MADV_DONTNEED"):
                memory.madvise(mmap.MADV_DONTNEED)

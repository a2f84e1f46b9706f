"""Window runner: a network asked of a volume's windows, as many at once as memory holds."""

import itertools
from collections.abc import Iterable, Sequence

from medseg.engine import Array, Engine
from medseg.memory import out_of_memory
from medseg.patches.slab_sums import SlabSums
from medseg.patches.windows import Box

# What the network says of windows of one value is kept for so many values. Scans have one or two such: air, and what
# was set to 0 around them.
MOST_CONSTANTS = 4


class WindowRunner:
    """Runs a network on windows of an image and adds up what it says.

    Args:
        engine: takes (B, C, *patch) to (B, F, *patch).
        image: of the engine's kind, shape (C, I, J, K).
        sums: what the windows are added to.
        batch: windows at once; where memory does not hold them, all that follow are run in smaller batches.
        flips: axes mirrored, as in `mirrored`.
    """

    def __init__(self, engine: Engine, image: Array, sums: SlabSums, *, batch: int, flips: Sequence[int]) -> None:
        self._engine, self._image, self._sums = engine, image, sums
        self._batch, self._flips = batch, flips
        self._constant: dict[float, Array] = {}

    def run(self, boxes: Iterable[Box]) -> None:
        """Add what the network says of each window.

        Of windows that hold one value everywhere, such as air that was cut off at the end of the intensity window, it
        says the same each time, and so it is asked once for each of the first few values.

        Raises:
            MemoryError, RuntimeError: memory does not hold one window.
        """
        waiting: list[Box] = []
        for box in boxes:
            window = self._image[(slice(None), *box)]
            value = self._engine.constant(window)
            if value is not None and (value in self._constant or len(self._constant) < MOST_CONSTANTS):
                if value not in self._constant:
                    self._constant[value] = self._engine.copy(mirrored(self._engine, window[None], self._flips)[0])
                self._sums.add(box, self._constant[value])
                continue
            waiting.append(box)
            if len(waiting) >= self._batch:
                self._run_together(waiting)
                waiting = []
        self._run_together(waiting)

    def _run_together(self, boxes: Sequence[Box]) -> None:
        """Add what the network says of some windows; where memory does not hold them, fewer at a time."""
        while boxes:
            some = boxes[: self._batch]
            try:
                windows = self._engine.stack([self._image[(slice(None), *box)] for box in some])
                said = mirrored(self._engine, windows, self._flips)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or not self._makes_room(len(some)):
                    raise
                continue  # which lets go of the error, and so of all that the network held when it was raised
            for place, box in enumerate(some):
                self._sums.add(box, said[place])
            del windows, said  # before the next are computed
            boxes = boxes[len(some) :]

    def _makes_room(self, count: int) -> bool:
        """Have fewer windows in a batch than did not fit, or else the sums leave the device; say whether that helps."""
        if count == 1:
            return self._sums.leave_device()
        self._batch = count // 2
        return True


def mirrored(engine: Engine, batch: Array, flips: Sequence[int]) -> Array:
    """Return what the network says of a batch, averaged over every combination of mirrored axes."""
    combinations = [c for n in range(len(flips) + 1) for c in itertools.combinations(flips, n)]
    plain, *mirrors = combinations
    assert not plain
    values = engine.run(batch)
    if not mirrors:
        return values
    total = engine.copy(values)
    for combination in mirrors:
        axes = [axis + 2 for axis in combination]
        total = total + engine.flip(engine.run(engine.flip(batch, axes)), axes)
    return total / len(combinations)

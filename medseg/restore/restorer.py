"""Restore: bring logits home to the scan's own grid and take each voxel's label there.

Logits are interpolated and then the label is taken. Voxels outside the prepared field of view are background. Where the
scan's axes are those of the prepared grid, slabs of planes are brought home as they come, and need not be kept.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import NotFiniteError
from medseg.labels import LabelSet
from medseg.memory import out_of_memory
from medseg.pointwise import Pointwise
from medseg.recipe import Head
from medseg.restore import on_cpu
from medseg.restore.decision import Decision
from medseg.volume import Geometry, LabelMap
from medseg.volume.resample import paired_axes
from medseg.volume.taps import Taps

# numpy's array, or a tensor on a device.
Array = Any


def restore(
    values: Array,
    *,
    source: Geometry,
    target: Geometry,
    labels: LabelSet,
    head: Head,
    pointwise: Pointwise | None = None,
) -> LabelMap:
    """Return the label map that logits mean, on another grid.

    Args:
        values: logits, shape (L, I, J, K), a softmax head's with background first; or features, (F, I, J, K), when
            `pointwise` is given. Of any float type, best in C order: others are copied.
        source: the prepared grid the values lie on.
        target: the scan's own grid.
        labels: what the channels mean.
        head: softmax takes the largest channel; sigmoid paints each label whose logit is above 0, later ones on top.
        pointwise: what takes features to logits.

    Returns:
        Label ids in the smallest unsigned type that holds them.
    """
    restorer = Restorer(source=source, target=target, labels=labels, head=head, pointwise=pointwise)
    restorer.add(values, axis=0, first=0)
    return restorer.label_map()


class Restorer:
    """Brings slabs of logits home, as they come. The arguments are those of `restore`."""

    def __init__(
        self,
        *,
        source: Geometry,
        target: Geometry,
        labels: LabelSet,
        head: Head,
        pointwise: Pointwise | None = None,
    ) -> None:
        self._source, self._target = source, target
        self._decide = Decision(head, pointwise, np.uint8 if len(labels) < 255 else np.uint16)
        highest = max(label.id for label in labels)
        self._ids = np.zeros(target.shape, np.uint8 if highest <= 255 else np.uint16)
        self._id_of = np.array([0, *(label.id for label in labels)], self._ids.dtype)
        to_source = np.linalg.inv(source.affine) @ target.affine
        pairing = paired_axes(to_source, target.shape)
        order = pairing or [0, 1, 2]
        self.straight = pairing is not None
        # The scan with its axes in the order of the source's.
        self._home, self._to_source = self._ids.transpose(order), to_source[:, [*order, 3]]
        self._reads: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None
        self._done = np.zeros(0, np.bool_)
        self._kept: tuple[int, Array] | None = None

    def add(self, values: Array, *, axis: int, first: int) -> None:
        """Take the planes of the source from `first` on, which follow those that were taken before.

        Args:
            values: shape (F, I, J, K).
            axis: of the source, across which the planes lie; the same each time.
            first: the number of the first of them.

        Raises:
            NotFiniteError: some are NaN or infinite, as in a network whose weights are, or whose precision is too low.
        """
        if not np.isfinite(float(_total(values))):
            raise NotFiniteError(
                "taking the labels from what the network says",
                found="some of it is no number",
                remedy='predict with --preset accurate, which is fp32, or train with training.precision = "fp32"',
            )
        if not self.straight:
            self._gather(values, axis, first)
            return
        if self._reads is None:
            self._reads = self._planes_read(axis)
            self._done = np.zeros(self._home.shape[axis], np.bool_)
        lowest, highest = self._reads
        end = first + values.shape[axis + 1]
        ready = ~self._done & (highest < end)
        across = ready & (lowest < first)
        within = ready & ~across
        if across.any():
            planes = _planes(values, axis, 0, int(highest[across].max()) + 1 - first)
            self._fill(across, *self._joined(axis, first, planes), axis)
        if within.any():
            self._fill(within, first, values, axis)
        self._done |= ready
        left = ~self._done
        self._kept = self._still_read(values, axis, first, int(lowest[left].min())) if left.any() else None

    def label_map(self) -> LabelMap:
        """Return what was brought home."""
        if not self.straight and self._kept:
            self._fill_all(self._kept[1])
        return LabelMap(self._ids, self._target)

    def _planes_read(self, axis: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first and the last plane of the source that each plane of the scan reads."""
        step = float(self._to_source[axis, axis])
        positions = step * np.arange(self._home.shape[axis]) + self._to_source[axis, 3]
        read = Taps.at(positions, self._source.shape[axis], width=max(1.0, abs(step))).read()
        return read.min(axis=1), read.max(axis=1)

    def _still_read(self, values: Array, axis: int, first: int, lowest: int) -> tuple[int, Array]:
        """Return the planes from the lowest on, out of those kept and those that came."""
        if lowest >= first:
            return lowest, _planes(values, axis, lowest - first, None, copy=True)
        start, joined = self._joined(axis, first, values)
        return lowest, _planes(joined, axis, lowest - start, None, copy=True)

    def _joined(self, axis: int, first: int, values: Array) -> tuple[int, Array]:
        """Return the planes kept and those that follow as one, and the number of the first."""
        if self._kept is None:
            return first, values
        start, kept = self._kept
        if isinstance(values, np.ndarray) or isinstance(kept, np.ndarray):  # a device that has no room for some slabs
            return start, np.concatenate([_on_host(kept), _on_host(values)], axis=axis + 1)
        import torch

        return start, torch.cat([kept, values], dim=axis + 1)

    def _fill(self, planes: NDArray[np.bool_], first: int, values: Array, axis: int) -> None:
        """Fill planes of the scan, which follow each other, from values whose first plane has a number."""
        at = np.flatnonzero(planes)
        part = (slice(None),) * axis + (slice(int(at[0]), int(at[-1]) + 1),)
        shift, back = np.eye(4), np.eye(4)
        shift[axis, 3], back[axis, 3] = at[0], -first
        self._fill_box(self._home[part], values, back @ self._to_source @ shift)

    def _fill_all(self, values: Array) -> None:
        self._fill_box(self._home, values, self._to_source)

    def _fill_box(self, home: NDArray[Any], values: Array, to_source: NDArray[np.float64]) -> None:
        """Fill a box of the scan where the values lie, or where a device has no room for that, on the CPU."""
        if not isinstance(values, np.ndarray):
            from medseg.restore import on_gpu

            try:
                on_gpu.fill(home, values, to_source, decide=self._decide, id_of=self._id_of)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            else:
                return
            values = _on_host(values)
        on_cpu.fill(home, values, to_source, decide=self._decide, id_of=self._id_of, straight=self.straight)

    def _gather(self, values: Array, axis: int, first: int) -> None:
        """Keep everything: at an angle a voxel may read any slab."""
        values = _on_host(values)
        if values.shape[1:] == self._source.shape:
            self._kept = 0, values
            return
        if self._kept is None:
            self._kept = 0, np.zeros((len(values), *self._source.shape), values.dtype)
        _planes(self._kept[1], axis, first, first + values.shape[axis + 1])[...] = values


def _on_host(values: Array) -> NDArray[Any]:
    return values if isinstance(values, np.ndarray) else np.asarray(values.cpu().numpy())


def _planes(values: Array, axis: int, start: int, stop: int | None, *, copy: bool = False) -> Array:
    """Return some planes across an axis of values, (F, I, J, K); a copy lets go of the others."""
    part = values[(slice(None),) * (axis + 1) + (slice(start, stop),)]
    if not copy:
        return part
    return part.copy() if isinstance(part, np.ndarray) else part.clone()


def _total(values: Array) -> Any:
    """Return the sum of values, which is NaN or infinite where one of them is, in one pass over them."""
    if isinstance(values, np.ndarray):
        with np.errstate(invalid="ignore", over="ignore"):
            return values.sum(dtype=np.float32)
    import torch

    return values.sum(dtype=torch.float32)

"""Scene: everything the picture, the animation and the page show, found once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.labels import LabelSet
from medseg.overlay.field import cut_air
from medseg.overlay.legend import Legend
from medseg.overlay.planes import Stack
from medseg.overlay.slices import count_ids, count_label
from medseg.overlay.window import Window, find_window
from medseg.volume import LabelMap, Volume


@dataclass(frozen=True, eq=False)
class Scene:
    """A scan with its labels, ready to be drawn.

    Attributes:
        stack: the scan and its label maps, turned for display, the air at its sides left out.
        labels: what is painted, a later label over an earlier one.
        window: the intensities shown.
        title: the case's name, or empty.
        legend: the labels' volumes.
        areas: labelled voxels of each slice in prediction and reference together, shape (slices,).
    """

    stack: Stack
    labels: LabelSet
    window: Window
    title: str
    legend: Legend
    areas: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        volume: Volume,
        label_map: LabelMap,
        labels: LabelSet | None,
        *,
        reference: LabelMap | None,
        plane: str,
        window: tuple[float, float] | None,
        title: str,
    ) -> "Scene":
        """Turn the scan, find its window, count its labels. The arguments and errors are those of `draw_overlay`."""
        stack = Stack.of(volume, label_map, reference, plane)
        maps = [each for each in (label_map, reference) if each is not None]
        labels = LabelSet.from_ids(set().union(*(each.ids() for each in maps))) if labels is None else labels
        for each in maps:
            each.check_ids(labels)
        counts = [count_ids(ids) for ids in (stack.prediction, stack.reference) if ids is not None]
        areas = np.zeros(stack.scan.shape[2], np.int64)
        for label in labels:
            areas += sum(count_label(each, label) for each in counts)
        shown = find_window(stack.scan, window)
        return cls(
            stack=cut_air(stack, shown, areas),
            labels=labels,
            window=shown,
            title=title,
            legend=Legend.of(labels, counts, voxel_ml=stack.geometry.voxel_ml),
            areas=areas,
        )

    @property
    def subtitle(self) -> str:
        """Plane and window, as they stand in the title line."""
        return f"{self.stack.plane}, {self.window}"

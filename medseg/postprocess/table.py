"""CaseTable: what any rules would do to the score of a case, read without looking at its voxels again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.labels import LabelSet
from medseg.postprocess.components import Box, box_around
from medseg.postprocess.pieces import Counts, Objects, Pieces, take_apart
from medseg.postprocess.rules import Rule, Volumes, cleanable
from medseg.volume import LabelMap


@dataclass(frozen=True, eq=False)
class Regions:
    """Objects or holes of a case, n of them.

    Attributes:
        owner: the number of the label whose they are, shape (n,).
        volumes_mm3: shape (n,).
        scored: voxels where the reference is labelled, whatever with, shape (n,).
        hits: voxels to which the reference gives the owner, shape (n,).
    """

    owner: Counts
    volumes_mm3: Volumes
    scored: Counts
    hits: Counts


@dataclass(frozen=True, eq=False)
class CaseTable:
    """A case of a cross-validation, as far as rules are concerned. Labels are numbered from 1.

    Attributes:
        labels: the names of those that rules may be for.
        present: those of them that the reference has, so that they are scored.
        fold: in which the case was held out.
        voxel_mm3: the volume of a voxel.
        objects: the objects of all labels.
        pieces: what objects and background are made of.
        in_reference: voxels of each label in the reference, by its number, shape (labels + 1,).
        scored: voxels of each piece where the reference is labelled, shape (pieces,).
        hits: which labels the reference has there: rows of piece, label and voxels, shape (h, 3).
    """

    labels: tuple[str, ...]
    present: frozenset[str]
    fold: int
    voxel_mm3: float
    objects: Objects
    pieces: Pieces
    in_reference: Counts
    scored: Counts
    hits: Counts

    def number(self, label: str) -> int:
        """Return a label's number."""
        return self.labels.index(label) + 1

    def as_predicted(self) -> Regions:
        """Return the objects before anything is done."""
        belongs = self.pieces.within >= 0
        within, count = self.pieces.within[belongs], len(self.objects.owner)
        piece, label, voxels = self.hits.T
        right = label == self.pieces.owner[piece]
        return Regions(
            owner=self.objects.owner,
            volumes_mm3=self.objects.voxels * self.voxel_mm3,
            scored=summed(within, self.scored[belongs], count),
            hits=summed(self.pieces.within[piece[right]], voxels[right], count),
        )

    def holes(self, rules: Sequence[Rule]) -> Regions:
        """Return the holes that there are after rules removed what they remove."""
        removed = np.zeros(len(self.objects.owner) + 1, np.bool_)  # the last one stands for no object
        for rule in rules:
            own = np.flatnonzero(self.objects.owner == self.number(rule.label))
            removed[own] = rule.removes(self.objects.voxels[own] * self.voxel_mm3, self.objects.largest[own])
        count, group, hole_of = self.pieces.groups((self.pieces.owner == 0) | removed[self.pieces.within])
        piece, label, voxels = self.hits.T
        right = label == hole_of[group[piece]]
        is_hole = (hole_of > 0) & (hole_of <= len(self.labels))
        return Regions(
            owner=hole_of[is_hole],
            volumes_mm3=summed(group, self.pieces.voxels, count)[is_hole] * self.voxel_mm3,
            scored=summed(group, self.scored, count)[is_hole],
            hits=summed(group[piece[right]], voxels[right], count)[is_hole],
        )

    def dice(self, rule: Rule, objects: Regions, holes: Regions | None = None) -> float:
        """Return the Dice of a label under its rule: 2·hits / (voxels + voxels in the reference).

        Args:
            rule: what is done to the label.
            objects: from `as_predicted`.
            holes: from `holes`, with this rule among the rules; None fills none.

        Returns:
            0 to 1, as `medseg.metrics.score_label_map` counts; NaN where neither map shows the label.
        """
        number = self.number(rule.label)
        kept = np.flatnonzero(objects.owner == number)
        kept = kept[~rule.removes(objects.volumes_mm3[kept], self.objects.largest[kept])]
        scored, hits = int(objects.scored[kept].sum()), int(objects.hits[kept].sum())
        if holes is not None:
            filled = (holes.owner == number) & rule.fills(holes.volumes_mm3)
            scored, hits = scored + int(holes.scored[filled].sum()), hits + int(holes.hits[filled].sum())
        whole = int(self.in_reference[number]) + scored
        return 2 * hits / whole if whole else float("nan")


def tabulate(
    prediction: LabelMap, reference: LabelMap, labels: LabelSet, *, fold: int, present: LabelSet | None = None
) -> CaseTable:
    """Return the table of a case. It is small, and neither label map is kept.

    Some twenty bytes are taken for each voxel of the box around all labels.

    Args:
        prediction: label ids, as they were predicted.
        reference: label ids on the same grid, in any order of its axes.
        labels: what the ids mean. Labels that overlap are left alone, as ids that no label has.
        fold: in which the case was held out.
        present: the labels that the reference has, with the ids of voxels that it leaves unlabelled; None is `labels`.

    Raises:
        GridMismatchError: the two lie on different grids.
    """
    present = labels if present is None else present
    names = tuple(label.name for label in cleanable(labels))
    referred = reference.aligned_to(prediction.geometry)
    box, above = _box(prediction, labels), len(names) + 1
    places, pieces, objects = take_apart(numbered(prediction.array[box], labels, others=above), len(names))
    drawn = numbered(referred.array[box], labels, others=0, unlabelled=present.ignored_ids)
    scored, hits = _hits(places, drawn, len(pieces.owner), unlabelled=above)
    return CaseTable(
        labels=names,
        present=frozenset(names).intersection(label.name for label in present),
        fold=fold,
        voxel_mm3=1000 * prediction.geometry.voxel_ml,
        objects=objects,
        pieces=pieces,
        in_reference=_in_reference(referred, labels, present.ignored_ids),
        scored=scored,
        hits=hits,
    )


def _box(label_map: LabelMap, labels: LabelSet) -> Box:
    """Return the box around all labels that rules may be for, or around the first voxel where there are none."""
    from scipy import ndimage

    boxes = [None, *ndimage.find_objects(label_map.array)]
    parts = [part for label in cleanable(labels) for part in label.parts]
    return box_around(boxes[part] for part in parts if part < len(boxes)) or (slice(0, 1),) * 3


def numbered(ids: NDArray[Any], labels: LabelSet, *, others: int, unlabelled: Collection[int] = ()) -> NDArray[Any]:
    """Return the numbers of the labels that ids stand for, of the same shape.

    Args:
        ids: shape (I, J, K).
        labels: those that rules may be for are numbered from 1, and background is 0.
        others: the number of all other ids.
        unlabelled: ids that say that a voxel is not labelled; their number is one more than the last label's.
    """
    own = cleanable(labels)
    number_of = np.full(1 + max([int(ids.max()), *labels.known_ids, *unlabelled]), others, np.uint16)
    number_of[0] = 0
    for number, label in enumerate(own, start=1):
        number_of[list(label.parts)] = number
    number_of[list(unlabelled)] = len(own) + 1
    return np.stack([number_of[plane] for plane in ids])  # all planes at once take eight bytes a voxel


def _hits(places: NDArray[Any], referred: NDArray[Any], count: int, *, unlabelled: int) -> tuple[Counts, Counts]:
    """Count what the reference has where each piece is.

    Args:
        places: the piece of each voxel, by its place among the pieces, shape (I, J, K).
        referred: the number of the reference's label there, of the same shape.
        count: how many pieces there are.
        unlabelled: the number of voxels that the reference leaves unlabelled; they count nowhere.

    Returns:
        `scored` and `hits` of a CaseTable.
    """
    keys, counts = [], []
    for its_places, its_labels in zip(places, referred, strict=True):
        key, voxels = np.unique(its_places.astype(np.int64) * (unlabelled + 1) + its_labels, return_counts=True)
        keys.append(key)
        counts.append(voxels)
    key, which = np.unique(np.concatenate(keys), return_inverse=True)
    piece, label = np.divmod(key, unlabelled + 1)
    rows = np.stack([piece, label, summed(which, np.concatenate(counts), len(key))], axis=1)
    rows = rows[label != unlabelled]
    return summed(rows[:, 0], rows[:, 2], count), rows[rows[:, 1] > 0]


def _in_reference(reference: LabelMap, labels: LabelSet, unlabelled: Collection[int]) -> Counts:
    """Return the voxels of each label, by its number; 0 for background."""
    counts = reference.counts()
    drawn = [
        [part for part in label.parts if part < len(counts) and part not in unlabelled] for label in cleanable(labels)
    ]
    return np.array([0, *(counts[parts].sum() for parts in drawn)], np.int64)


def summed(by: NDArray[np.integer[Any]], values: Counts, count: int) -> Counts:
    """Return the sum of the values that belong to each of `count` numbers, shape (count,)."""
    return np.bincount(by, weights=values, minlength=count).astype(np.int64)

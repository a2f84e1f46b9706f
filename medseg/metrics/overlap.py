"""Overlap of a prediction with its reference: Dice, IoU, precision, recall and volumes.

With TP the voxels that both call the label, FP those only the prediction does and FN those only the reference does:

    Dice = 2·TP / (2·TP + FP + FN)        IoU = TP / (TP + FP + FN)
    precision = TP / (TP + FP)            recall = TP / (TP + FN)

A score whose denominator is 0 is undefined: None, counted in the summary, and in no mean. So a label absent from both
is no success, and one that is missed or invented has a Dice of 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.labels import LabelSet
from medseg.volume import LabelMap


@dataclass(frozen=True)
class CaseScore:
    """How one label of one case was segmented: a row of metrics.csv.

    Attributes:
        case_id: the case.
        label_id: the label's id in label maps.
        label: its name.
        dice: 0 to 1, or None where it is undefined; so are iou, precision and recall.
        iou: intersection over union.
        precision: the part of the prediction that is right.
        recall: the part of the reference that was found.
        hd95_mm: not measured yet; empty.
        assd_mm: not measured yet; empty.
        nsd: not measured yet; empty.
        reference_ml: volume of the reference in millilitres, None for a picture.
        prediction_ml: volume of the prediction in millilitres, where the reference is labelled; None for a picture.
    """

    case_id: str
    label_id: int
    label: str
    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    hd95_mm: float | None = None
    assd_mm: float | None = None
    nsd: float | None = None
    reference_ml: float | None = None
    prediction_ml: float | None = None


def score_label_map(prediction: LabelMap, reference: LabelMap, labels: LabelSet, *, case_id: str) -> list[CaseScore]:
    """Score a case, one row per label.

    Args:
        prediction: label ids.
        reference: label ids on the same grid, in any order of its axes.
        labels: the labels to score, which the reference has; a region counts wherever one of its parts is. Voxels that
            the reference leaves unlabelled (`ignored_ids`) count nowhere, in no volume either.
        case_id: goes into the rows.

    Raises:
        GridMismatchError: the two lie on different grids.
    """
    ids, joint = joint_histogram(reference.array, prediction.aligned_to(reference.geometry).array)
    joint[np.isin(ids, sorted(labels.ignored_ids))] = 0
    ml = reference.geometry.voxel_ml
    rows = []
    for label in labels:
        parts = np.flatnonzero(np.isin(ids, label.parts))
        both = int(joint[np.ix_(parts, parts)].sum())
        in_reference, in_prediction = int(joint[parts].sum()), int(joint[:, parts].sum())
        rows.append(
            CaseScore(
                case_id=case_id,
                label_id=label.id,
                label=label.name,
                dice=ratio(2 * both, in_reference + in_prediction),
                iou=ratio(both, in_reference + in_prediction - both),
                precision=ratio(both, in_prediction),
                recall=ratio(both, in_reference),
                reference_ml=in_reference * ml,
                prediction_ml=in_prediction * ml,
            )
        )
    return rows


def joint_histogram(
    reference: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Count how many voxels have each pair of ids.

    Every overlap score of every label is a sum over this table. Plane by plane, because counting a whole scan at once
    takes sixteen bytes a voxel.

    Returns:
        The n ids that occur, ascending; and the counts, shape (n, n), rows by reference.
    """
    size = int(max(reference.max(initial=0), prediction.max(initial=0))) + 1
    occurs = np.zeros(size, bool)
    for plane in (*reference, *prediction):
        occurs |= np.bincount(plane.ravel(), minlength=size) > 0
    ids, row_of = np.flatnonzero(occurs), np.cumsum(occurs) - 1
    joint = np.zeros(len(ids) ** 2, np.intp)
    for one, other in zip(reference, prediction, strict=True):
        pairs = row_of[one.ravel()] * len(ids) + row_of[other.ravel()]
        joint += np.bincount(pairs, minlength=len(joint))
    return ids, joint.reshape(len(ids), len(ids))


def ratio(part: int, whole: int) -> float | None:
    """Return part / whole, or None where there is no whole."""
    return part / whole if whole else None

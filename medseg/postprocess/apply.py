"""Postprocess: a label map in, the cleaned label map out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.labels import Label, LabelSet
from medseg.postprocess.components import BACKGROUND, OBJECT, Box, box_around, components, is_largest, on_faces
from medseg.postprocess.rules import Rule, check_rules
from medseg.volume import LabelMap


def postprocess(label_map: LabelMap, rules: Sequence[Rule], labels: LabelSet) -> LabelMap:
    """Return a label map cleaned by rules, as `medseg.postprocess.rules` tells.

    It takes a copy of the label map, and some eight bytes for each voxel of the box around one label at a time.

    Args:
        label_map: ids on any grid; it is left as it is. An empty one stays empty.
        rules: at most one for a label; their order does not matter. Labels without one keep their voxels.
        labels: what the ids mean. A label is all of its parts, and its holes get its own id. Ids that no label has are
            neither background nor changed.

    Raises:
        PackageError: a rule for a label that is not there or that overlaps another, or two rules for one.
    """
    check_rules(rules, labels)
    found = _found(label_map, rules, labels)
    highest = max((label.id for _, label, _ in found), default=0)
    ids = label_map.array.astype(np.promote_types(label_map.array.dtype, np.min_scalar_type(highest)))
    voxel_mm3 = 1000 * label_map.geometry.voxel_ml
    for rule, label, box in found:
        if rule.keep_largest or rule.smallest_mm3:
            _remove(ids[box], labels.mask(ids[box], label), rule, voxel_mm3)
    for rule, label, box in found:
        if rule.holes_mm3:
            _fill(ids[box], labels.mask(ids[box], label), rule, voxel_mm3, label.id)
    return LabelMap(ids, label_map.geometry)


def _found(label_map: LabelMap, rules: Sequence[Rule], labels: LabelSet) -> list[tuple[Rule, Label, Box]]:
    """Return the rules whose labels a map shows, each with its label and the box around it."""
    from scipy import ndimage

    boxes = [None, *ndimage.find_objects(label_map.array)]
    by_name = {label.name: label for label in labels}
    found = []
    for rule in rules:
        label = by_name[rule.label]
        box = box_around(boxes[part] for part in label.parts if part < len(boxes))
        if box is not None:
            found.append((rule, label, box))
    return found


def _remove(ids: NDArray[Any], mask: NDArray[np.bool_], rule: Rule, voxel_mm3: float) -> None:
    """Make the objects of a mask that its rule does not keep background."""
    numbers, voxels = components(mask, OBJECT)
    removed = rule.removes(voxels * voxel_mm3, is_largest(numbers, voxels))
    removed[0] = False
    _paint(ids, numbers, removed, 0)


def _fill(ids: NDArray[Any], mask: NDArray[np.bool_], rule: Rule, voxel_mm3: float, id_: int) -> None:
    """Give an id to the holes in a mask that its rule fills.

    The box lies around the mask. Background on its faces is in no hole of it: what lies beyond is more background,
    another label, or nothing.
    """
    numbers, voxels = components(ids == 0, BACKGROUND)
    filled = rule.fills(voxels * voxel_mm3) & ~on_faces(numbers, len(voxels))
    foreign = (ids != 0) & ~mask
    for axis in range(ids.ndim):
        along, others = np.moveaxis(numbers, axis, 0), np.moveaxis(foreign, axis, 0)
        filled[along[1:][others[:-1]]] = False
        filled[along[:-1][others[1:]]] = False
    filled[0] = False
    _paint(ids, numbers, filled, id_)


def _paint(ids: NDArray[Any], numbers: NDArray[Any], chosen: NDArray[np.bool_], id_: int) -> None:
    """Set the voxels whose numbers are chosen; plane by plane, because all at once take eight bytes each."""
    if chosen.any():
        for plane, its_numbers in zip(ids, numbers, strict=True):
            plane[chosen[its_numbers]] = id_

"""Numbering: label maps brought to the ids of one set of labels, by the names that their files have for their ids."""

import numpy as np

from medseg.errors import MedsegError, UnknownLabelError
from medseg.labels import Label, LabelSet
from medseg.volume.label_map import LabelMap, listed
from medseg.volume.read.names import names_in, unlike
from medseg.volume.read.scan import naming
from medseg.volume.source import Source


def numbered(
    label_map: LabelMap, source: Source, labels: LabelSet, *, names: LabelSet | None, declared: bool = False
) -> LabelMap:
    """Return a label map with the ids that a set of labels has for what the label map's own names say.

    Args:
        label_map: what was read of the source.
        source: where it comes from. Of a DICOM file the ids are those of the labels already.
        labels: the labels, each with the id that it gets.
        names: what the source calls its ids; those without a name, and all where it is None, are the labels' own.
        declared: whether the labels were given for the ids of just this file, so that they tell what an id means whose
            name they do not have.

    Returns:
        The label map itself where names and labels agree.

    Raises:
        UnknownLabelError: an id occurs that the labels call otherwise than the source does, or do not know at all.
    """
    if source.kind != "file":
        return label_map
    called = {label.id: label.name for label in names or ()}
    ids = {label.name: label.id for label in labels}
    occurring = sorted(label_map.ids() - {0})
    moves = {id_: ids[called[id_]] for id_ in occurring if called.get(id_) in ids}
    moved = any(id_ != new for id_, new in moves.items())
    for id_ in occurring:
        if id_ not in moves and not _stays(id_, labels, named=id_ in called, moved=moved, declared=declared):
            raise _unlike(id_, source, labels, called.get(id_))
    if moved:
        table = np.arange(occurring[-1] + 1, dtype=np.uint16)
        table[list(moves)] = list(moves.values())
        label_map = LabelMap(table[label_map.array], label_map.geometry)
    try:
        label_map.check_ids(labels)
    except MedsegError as error:
        raise naming(error, source.place) from error
    return label_map


def _stays(id_: int, labels: LabelSet, *, named: bool, moved: bool, declared: bool) -> bool:
    """Return whether an id whose name the labels do not have, or that has none, may be taken for the labels' own.

    It may where no label is concerned, and where the source numbers its labels as the set does. A name that is not
    there speaks against that, unless the label is a merged one, whose parts have names of their own.
    """
    label = _labelled(labels).get(id_)
    if label is None and id_ in labels.known_ids:
        return True
    return not moved and (declared or not named or (label is not None and len(label.parts) > 1))


def _labelled(labels: LabelSet) -> dict[int, Label]:
    """Return id → the label that it is, or is a part of."""
    return {part: label for label in labels for part in label.parts}


def _unlike(id_: int, source: Source, labels: LabelSet, name: str | None) -> UnknownLabelError:
    label = _labelled(labels).get(id_)
    theirs = f"call it {label.name!r}" if label else "do not know the id"
    return UnknownLabelError(
        f"matching the labels of {source.place}",
        found=f"it calls {id_} {name!r}, and the labels have no {name!r} and {theirs}"
        if name
        else f"its names say that it numbers its labels otherwise, and they leave out {id_}",
        remedy="name the labels in --labels as the prediction does",
    )


def completed(labels: LabelSet | None, one: tuple[Source, LabelMap], other: tuple[Source, LabelMap]) -> LabelSet:
    """Return the labels that two sources share (`shared_labels`), with one for each other id that occurs in them.

    Raises:
        UnknownLabelError: one source names its ids, and the other, an image file without names, holds more: whether
            they number their labels alike is not known.
    """
    for (source, label_map), (partner, beside) in ((one, other), (other, one)):
        if labels and source.kind == "file" and (partner.kind != "file" or names_in(source) is None):
            more = label_map.ids() - labels.known_ids - beside.ids()
            if more:
                found = f"{source.place.name} holds {listed(sorted(more))} without a name, beside {partner.place.name}"
                raise unlike(one[0], other[0], f"{found}, which names {listed([label.name for label in labels])}")
    return (labels or LabelSet.from_ids(())).with_ids(one[1].ids() | other[1].ids())

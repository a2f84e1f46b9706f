"""Names: what a source of labels calls them, and what two sources call the same."""

from medseg.errors import UnknownLabelError
from medseg.labels import LabelSet, alike, tidy
from medseg.volume.read.label_table import labels_in_image
from medseg.volume.read.segmentation import Segmentation
from medseg.volume.read.structures import Structures
from medseg.volume.source import Source


def annotation_of(source: Source) -> Segmentation | Structures | None:
    """Return the DICOM SEG or RTSTRUCT of a source, or None for an image file."""
    if source.kind == "segmentation":
        return Segmentation.open(source.paths[0])
    return Structures.open(source.paths[0]) if source.kind == "structures" else None


def names_in(source: Source) -> LabelSet | None:
    """Return the labels that a source names, or None.

    Those of a DICOM SEG or RTSTRUCT have their segment or ROI numbers; of segments with one name the first counts.
    """
    annotation = annotation_of(source)
    if annotation is None:
        return labels_in_image(source.paths[0])
    first = {tidy(name): number for number, name in reversed(annotation.names.items())}
    return LabelSet.from_names({0: "background", **{number: name for name, number in first.items()}})


def shared_labels(one: Source, other: Source) -> LabelSet | None:
    """Return the labels of two sources whose labels are to be compared, or None where ids are all there is.

    The ids of an image file count, and those of DICOM files are matched by their names. Of two DICOM files the labels
    of either are taken.

    Raises:
        UnknownLabelError: an image file does not name its ids, and a DICOM file that it is compared with has names; or
            two image files call their ids differently.
    """
    images = [source for source in (one, other) if source.kind == "file"]
    if not images:
        return _in_either(names_in(one), names_in(other))
    named = [labels for image in images if (labels := names_in(image))]
    if len(images) == 1:
        if not named and names_in(other if images[0] is one else one):
            raise unlike(one, other, f"{images[0].place.name} has ids without names, and a DICOM file numbers anew")
        return named[0] if named else None
    together = {label.id: label for labels in reversed(named) for label in labels}
    differ = [label for labels in named for label in labels if together[label.id].name != label.name]
    if differ or alike(label.name for label in together.values()):
        raise unlike(one, other, "they call their ids differently")
    if not named:
        return None
    return LabelSet(tuple(together.values()), frozenset().union(*(labels.known_ids for labels in named)))


def _in_either(one: LabelSet | None, other: LabelSet | None) -> LabelSet | None:
    """Return the labels of two DICOM files by their names: those that only the second has get numbers of their own."""
    if one is None or other is None:
        return one or other
    known = {label.name for label in one}
    more = [label.name for label in other if label.name not in known]
    numbered = enumerate(more, start=max(one.known_ids) + 1)
    return LabelSet.from_names({**{label.id: label.name for label in one}, **dict(numbered)})


def unlike(one: Source, other: Source, found: str) -> UnknownLabelError:
    """Return the error of two sources whose labels cannot be matched."""
    return UnknownLabelError(
        f"matching the labels of {one.place} and {other.place}",
        found=found,
        remedy="say with --labels what the ids mean",
    )

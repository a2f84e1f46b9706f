"""Read the reference of an image from any source, on the image's own grid."""

from collections import Counter
from pathlib import Path

import numpy as np

from medseg.errors import MedsegError, NoAffineError, UnknownLabelError
from medseg.labels import LabelSet, tidy
from medseg.volume.dicom.context import LONGEST_NAME, name_text, text
from medseg.volume.find import find_label_map
from medseg.volume.geometry import Geometry
from medseg.volume.label_map import LabelMap, listed
from medseg.volume.read.names import annotation_of
from medseg.volume.read.scan import naming, read_label_map
from medseg.volume.read.segmentation import Segmentation
from medseg.volume.read.structures import Structures
from medseg.volume.source import Source


def read_reference(source: Source | Path, *, geometry: Geometry, labels: LabelSet | None = None) -> LabelMap:
    """Read a label map onto the grid of its image.

    Args:
        source: an image file (NIfTI, NRRD, MHA), a DICOM SEG or an RTSTRUCT.
        geometry: the image's grid. A label map may store the same voxels in another order of the axes.
        labels: what is labelled. Segments of DICOM files are matched by their names, and an image's ids are checked.
            None takes the ids as they stand; those of DICOM files are their segment or ROI numbers.

    Returns:
        Label ids. Where segments overlap, the later one in the order of the labels counts.

    Raises:
        GridMismatchError: the labels do not lie on the image's voxels or slices.
        UnknownLabelError: there is an id or a name that the labels do not have.
        FileError, ScanError: as `read_label_map`.
    """
    if isinstance(source, Path):
        source = find_label_map(source)
    try:
        annotation = annotation_of(source)
        if annotation is not None:
            return annotation.paint(geometry, _matched(annotation, labels))
        label_map = read_label_map(source).aligned_to(geometry)
        if labels is not None:
            label_map.check_ids(labels)
    except MedsegError as error:
        raise naming(error, source.place) from error
    return label_map


def read_pair(one: Source, other: Source, labels: LabelSet | None = None) -> tuple[LabelMap, LabelMap]:
    """Read two label maps of one image, which itself is not at hand, onto one grid.

    It is the grid of the image file among them. Two DICOM segmentations have only the slices that show something, and
    are laid on a grid that covers both. The segments of DICOM files are matched with the labels by their names; the ids
    of image files stay as they stand, for `numbered` to look at.

    Raises:
        NoAffineError: neither has a grid, as RTSTRUCT have none.
        MedsegError: as `read_reference`.
    """
    for source, partner in ((one, other), (other, one)):
        if source.kind == "file":
            label_map = read_label_map(source)
            onto = read_reference(
                partner, geometry=label_map.geometry, labels=None if partner.kind == "file" else labels
            )
            return (label_map, onto) if source is one else (onto, label_map)
    grids = [Segmentation.open(source.paths[0]).grid() for source in (one, other) if source.kind == "segmentation"]
    if not grids:
        raise NoAffineError(
            f"comparing {one.place} with {other.place}",
            found="both are RTSTRUCT, which hold contours and no voxels",
            remedy="give one of them as NIfTI or DICOM SEG",
        )
    geometry = grids[0] if len(grids) == 1 else _around(*grids)
    return (
        read_reference(one, geometry=geometry, labels=labels),
        read_reference(other, geometry=geometry, labels=labels),
    )


def _matched(annotation: Segmentation | Structures, labels: LabelSet | None) -> dict[int, int]:
    """Return segment number → label id, in the order in which the labels are painted."""
    if labels is None:
        return {number: number for number in sorted(annotation.names)}
    wanted = {name_text(tidy(label.name)): label for label in labels}
    cut = _cut(labels)
    found = {number: cut.get(tidy(name), tidy(name)) for number, name in annotation.names.items()}
    unknown = sorted(set(found.values()) - wanted.keys())
    if unknown:
        raise UnknownLabelError(
            f"reading the labels of {annotation.path}",
            found=f"it holds {listed(unknown)}, but the labels are {listed(list(wanted))}",
            remedy="call its segments as the labels are called, or name them in the manifest's labels",
        )
    order = list(wanted)
    numbers = sorted(found, key=lambda number: (order.index(found[number]), number))
    return {number: wanted[found[number]].id for number in numbers}


def _cut(labels: LabelSet) -> dict[str, str]:
    """Return names as other programs cut them → as medseg does, where one label only can be meant."""
    names = [tidy(label.name) for label in labels]
    times = Counter(text(name, LONGEST_NAME) for name in names)
    return {cut: name_text(name) for name in names if times[cut := text(name, LONGEST_NAME)] == 1}


def _around(one: Geometry, other: Geometry) -> Geometry:
    """Return the first grid, made larger to cover the second, which has the same voxels elsewhere."""
    corners = np.rint(one.to_voxel(other.corners_world())).astype(int)
    start = np.minimum(corners.min(axis=0), 0)
    stop = np.maximum(corners.max(axis=0) + 1, one.shape)
    return one.crop(start.tolist(), stop.tolist())

"""Pieces: a label map as a graph of what touches what.

A piece is a 6-connected component of the voxels of one label, or of the background. An object, which is 26-connected,
is made up of pieces that meet at edges or corners. Pieces are the finest that rules can change: an object that is
removed becomes background piece by piece, and a hole is then a group of background pieces that share faces.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.postprocess.components import BACKGROUND, OBJECT, components, is_largest, on_faces

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of all labels, n of them.

    Attributes:
        owner: the number of the label, shape (n,).
        voxels: shape (n,).
        largest: whether it is the largest of its label, shape (n,).
    """

    owner: Counts
    voxels: Counts
    largest: NDArray[np.bool_]

    def followed_by(self, other: "Objects") -> "Objects":
        """Return these objects and then those."""
        return Objects(*(np.append(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of a label map, p of them.

    Attributes:
        owner: the number of the label, 0 for background, one above all labels for what rules leave alone; shape (p,).
        voxels: shape (p,); 0 for what rules leave alone.
        within: the object that each is a part of, by its place among them; −1 for none; shape (p,).
        outside: whether it touches a face of the array, shape (p,).
        touching: pairs of pieces that share faces, shape (t, 2).
    """

    owner: Counts
    voxels: Counts
    within: Counts
    outside: NDArray[np.bool_]
    touching: Counts

    def groups(self, empty: NDArray[np.bool_]) -> tuple[int, Counts, Counts]:
        """Return what the background falls into when some pieces are empty.

        Args:
            empty: which pieces are background, shape (p,).

        Returns:
            How many groups there are; the group of each piece, shape (p,), of which those of pieces that are not empty
            mean nothing; and the owner of the pieces that close a group in, 0 where it is no hole, shape (groups,).
        """
        from scipy.sparse import coo_array, csgraph

        one, other = self.touching.T
        joined = empty[one] & empty[other]
        graph = coo_array((joined[joined], (one[joined], other[joined])), shape=(len(empty), len(empty)))
        count, group = csgraph.connected_components(graph, directed=False)
        lowest, highest = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
        for inside, beside in ((one, other), (other, one)):
            wall = empty[inside] & ~empty[beside]
            np.minimum.at(lowest, group[inside[wall]], self.owner[beside[wall]])
            np.maximum.at(highest, group[inside[wall]], self.owner[beside[wall]])
        hole_of = np.where(lowest == highest, lowest, 0)
        hole_of[group[self.outside]] = 0
        return count, group.astype(np.int64), hole_of


def take_apart(owners: NDArray[Any], labels: int) -> tuple[NDArray[np.int32], Pieces, Objects]:
    """Take a map apart.

    Args:
        owners: the number of each voxel's label, 0 for background, 1 to `labels`, and one more for what rules leave
            alone; shape (I, J, K).
        labels: how many there are.

    Returns:
        The piece of each voxel, by its place among the pieces, shape (I, J, K); the pieces, the first of which stands
        for all that rules leave alone; and the objects.
    """
    from scipy import ndimage

    places, voxels = components(owners == 0, BACKGROUND)
    owner, within = np.zeros(len(voxels), np.int64), np.full(len(voxels), -1)
    owner[0] = labels + 1
    objects = Objects(owner[:0], voxels[:0], np.zeros(0, np.bool_))
    for label, box in enumerate(ndimage.find_objects(owners, max_label=labels)[:labels], start=1):
        if box is not None:
            mask = owners[box] == label
            numbers, its_voxels = components(mask, BACKGROUND)  # which they are once they are removed
            its_within, its_objects = _objects(mask, numbers, len(its_voxels), label)
            places[box][mask] = numbers[mask] + len(owner) - 1
            owner = np.append(owner, np.full(len(its_voxels) - 1, label))
            voxels = np.append(voxels, its_voxels[1:])
            within = np.append(within, its_within + len(objects.owner))
            objects = objects.followed_by(its_objects)
    outside, touching = on_faces(places, len(owner)), _touching(places, len(owner))
    return places, Pieces(owner, voxels, within, outside, touching), objects


def _objects(mask: NDArray[np.bool_], pieces: NDArray[np.int32], count: int, label: int) -> tuple[Counts, Objects]:
    """Return the object that each piece of a label is a part of, those numbered from 1 to below `count`; and them."""
    numbers, voxels = components(mask, OBJECT)
    within = np.zeros(count, np.int64)
    within[pieces[mask]] = numbers[mask] - 1
    objects = Objects(np.full(len(voxels) - 1, label), voxels[1:], is_largest(numbers, voxels)[1:])
    return within[1:], objects


def _touching(numbers: NDArray[Any], count: int) -> Counts:
    """Return the pairs of numbers that share faces, the lower one first, shape (t, 2)."""
    pairs = [np.zeros(0, np.int64)]
    for axis in range(numbers.ndim):
        along = np.moveaxis(numbers, axis, 0)
        differ = along[1:] != along[:-1]
        one, other = along[1:][differ].astype(np.int64), along[:-1][differ].astype(np.int64)
        pairs.append(np.unique(np.minimum(one, other) * count + np.maximum(one, other)))
    return np.stack(np.divmod(np.unique(np.concatenate(pairs)), count), axis=1)

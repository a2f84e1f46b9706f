"""Contours: the outlines of a mask as polygons along the pixels' edges, and the mask within polygons.

A polygon that runs along the edges encloses exactly the pixels' area, so that volume and centroid come out as the mask
has them. Only corners are kept. Pixels belong together where they share an edge; where two only touch at a corner, each
outline turns there, and so no outline crosses itself or another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.int64]
# Where a keyhole arrives, and the hole's corners from its own end of it and back there.
Cut = tuple[tuple[int, int], list[tuple[int, int]]]


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the outline of each connected part of a mask; its holes are joined to it by keyholes.

    A keyhole (PS3.3, section C.8.8.6.3) is a cut of no width from the outline to a hole, walked there and back: area by
    the shoelace formula, filling by the even-odd rule and by winding number all leave the hole out.

    Args:
        mask: shape (rows, columns).

    Returns:
        Per part its corners as (row, column), shape (corners, 2), clockwise as pictures are seen (rows count down). The
        centre of pixel (0, 0) is (0, 0), so corners lie at halves. The last corner joins the first. An empty mask has
        no outlines.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    inside = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    corners = _Corners.of(inside)
    loops = corners.loops()
    lines = [corners.points[loop] for loop in loops]
    if any(_doubled_area(line) < 0 for line in lines):
        lines = _with_keyholes(inside, corners, loops)
    # Corner n stands between the padded pixels n and n + 1, which are the pixels n − 1 and n of the box.
    return [line + np.array([rows[0], columns[0]]) - 0.5 for line in lines]


@dataclass(frozen=True, eq=False)
class _Corners:
    """Where the outlines turn.

    Attributes:
        points: (row, column) of each corner on the lattice between pixels, shape (corners, 2); the two that meet where
            pixels touch diagonally stand at one place.
        across: for each corner the other end of its edge along the row.
        along: for each corner the other end of its edge along the column.
        starts: whether the outline leaves the corner along the row, with the mask on its right hand.
        edges: the corners in the order of rows, then columns: two by two they are the ends of the edges along rows.
        edge_of: for each corner the number of its edge along the row.
    """

    points: Points
    across: Points
    along: Points
    starts: NDArray[np.bool_]
    edges: Points
    edge_of: Points

    @classmethod
    def of(cls, inside: NDArray[np.bool_]) -> "_Corners":
        """Find the corners of a mask whose border is empty.

        Sorted along a row of the lattice, corners are by turns beginning and end of an edge; and so along a column.
        """
        above_left, above_right = inside[:-1, :-1], inside[:-1, 1:]
        below_left, below_right = inside[1:, :-1], inside[1:, 1:]
        turns = np.argwhere(above_left ^ above_right ^ below_left ^ below_right)
        diagonal = (above_left == below_right) & (above_right == below_left) & (above_left != above_right)
        touching = np.argwhere(diagonal)
        # Of the two corners at one place, the first ends the edge on the left. It turns up where the pixel above on the
        # left is inside, and otherwise down; the second takes what is left.
        up = above_left[diagonal]
        points = np.concatenate([turns, touching, touching])
        nothing = np.zeros(len(turns), np.int64)
        side = np.concatenate([nothing, np.zeros_like(up, np.int64), np.ones_like(up, np.int64)])
        height = np.concatenate([nothing, np.where(up, 0, 1), np.where(up, 1, 0)])
        edges = np.lexsort((side, points[:, 1], points[:, 0]))
        upright = np.lexsort((height, points[:, 0], points[:, 1]))
        first = points[edges[::2]]
        starts = np.zeros(len(points), np.bool_)
        starts[np.where(inside[first[:, 0] + 1, first[:, 1] + 1], edges[::2], edges[1::2])] = True
        edge_of = np.empty_like(edges)
        edge_of[edges] = np.arange(len(edges)) // 2
        return cls(points, _partners(edges), _partners(upright), starts, edges, edge_of)

    def loops(self) -> list[Points]:
        """Return the outlines, each as the numbers of its corners in their order."""
        following = self.along[self.across].tolist()
        across = self.across.tolist()
        unseen = self.starts.copy()
        loops = []
        for start in np.flatnonzero(self.starts).tolist():
            if not unseen[start]:
                continue
            loop = []
            corner = start
            while unseen[corner]:
                unseen[corner] = False
                loop += [corner, across[corner]]
                corner = following[corner]
            loops.append(np.array(loop))
        return loops


def _partners(order: Points) -> Points:
    """Return for each corner the one that it stands beside, when the order is taken two by two."""
    partners = np.empty_like(order)
    partners[order[::2]], partners[order[1::2]] = order[1::2], order[::2]
    return partners


def _doubled_area(points: Points) -> int:
    """Return twice the area by the shoelace formula; negative for a hole."""
    rows, columns = points[:, 0], points[:, 1]
    return int((columns * np.roll(rows, -1) - np.roll(columns, -1) * rows).sum())


def _with_keyholes(inside: NDArray[np.bool_], corners: _Corners, loops: list[Points]) -> list[Points]:
    """Return the outer outlines as points, each with its holes.

    From a hole's highest corner, the leftmost of them, the cut goes straight up through the mask to the first outline
    above: the outer one, or a hole whose own cut starts higher. So the lowest hole is taken first, and is part of
    the one above when its turn comes. No two cuts meet, because each ends at the first outline.
    """
    width = inside.shape[1]
    both = inside[:, :-1] & inside[:, 1:]
    keys = corners.points[corners.edges] @ np.array([width, 1])
    cuts: dict[int, list[Cut]] = {}
    lines = []
    for loop in sorted(loops, key=lambda loop: -int(corners.points[loop, 0].min())):
        walk = _walk(loop, corners, cuts)
        if _doubled_area(corners.points[loop]) > 0:
            lines.append(np.array(walk))
            continue
        row, column = top = min(walk)
        row -= int(both[row::-1, column].argmin())
        edge = int(np.searchsorted(keys, row * width + column)) // 2
        first = walk.index(top)
        cuts.setdefault(edge, []).append(((row, column), [*walk[first:], *walk[:first], top]))
    return lines


def _walk(loop: Points, corners: _Corners, cuts: dict[int, list[Cut]]) -> list[tuple[int, int]]:
    """Return the points of an outline, with what hangs on its edges along rows where their cuts arrive."""
    walk: list[tuple[int, int]] = []
    for start, stop in zip(loop[::2], loop[1::2], strict=True):
        first, last = (tuple(corners.points[corner].tolist()) for corner in (start, stop))
        walk.append(first)
        for place, hanging in sorted(cuts.get(int(corners.edge_of[start]), ()), reverse=first > last):
            walk += [place] * (place != first) + hanging + [place] * (place != last)
        walk.append(last)
    return walk


def filled(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels' centres lie within polygons, by the even-odd rule over all of them together.

    So a polygon within another is a hole in it, and a keyhole's cut, walked there and back, counts for nothing. A
    centre on an edge counts on the low side and not on the high one, so that polygons side by side share no pixel.

    Args:
        polygons: per polygon its corners as (row, column), shape (corners, 2), with the centre of pixel (0, 0) at
            (0, 0); the last corner joins the first. What lies outside of the mask is cut off.
        shape: rows and columns of the mask.
    """
    if not polygons:
        return np.zeros(shape, np.bool_)
    starts = np.concatenate(polygons)
    stops = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    first = np.ceil(np.minimum(starts[:, 0], stops[:, 0])).clip(0, shape[0]).astype(np.int64)
    last = np.ceil(np.maximum(starts[:, 0], stops[:, 0])).clip(0, shape[0]).astype(np.int64)
    # Every edge crosses the rows from `first` up to, not including, `last`; each crossing toggles the rest of its row.
    crossed = last - first
    edge = np.repeat(np.arange(len(starts)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    begin, end = starts[edge], stops[edge]
    place = begin[:, 1] + (row - begin[:, 0]) / (end[:, 0] - begin[:, 0]) * (end[:, 1] - begin[:, 1])
    column = np.ceil(place).clip(0, shape[1]).astype(np.int64)
    toggles = np.bincount(row * (shape[1] + 1) + column, minlength=shape[0] * (shape[1] + 1))
    return np.asarray(np.cumsum(toggles.reshape(shape[0], shape[1] + 1), axis=1)[:, :-1] % 2 == 1)

"""Contours: the outlines of a mask as polygons along the pixels' edges.

A polygon that runs along the edges encloses exactly the pixels' area, so that volume and centroid come out as the mask
has them. Only corners are kept. Pixels belong together where they share an edge; where two only touch at a corner, each
outline turns there, and so no outline crosses itself or another.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.int64]


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
    holes = np.array([_doubled_area(corners.points[loop]) < 0 for loop in loops])
    lines = _with_keyholes(inside, corners, loops, holes) if holes.any() else [corners.points[loop] for loop in loops]
    # The padding put a row and a column in front, and a corner stands half a pixel before the pixel after it.
    return [line + np.array([rows[0], columns[0]]) - 1.5 for line in lines]


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
    """

    points: Points
    across: Points
    along: Points
    starts: NDArray[np.bool_]
    edges: Points

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
        return cls(points, _partners(edges), _partners(upright), starts, edges)

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


def _with_keyholes(
    inside: NDArray[np.bool_], corners: _Corners, loops: list[Points], holes: NDArray[np.bool_]
) -> list[Points]:
    """Return the outer outlines as points, each with its holes.

    From a hole's highest corner, the leftmost of them, the cut goes straight up through the mask to the first outline
    above: the outer one, or a hole whose own cut starts higher. So the lowest hole is taken first, and is part of
    the one above when its turn comes. No two cuts meet, because each ends at the first outline.
    """
    points = [tuple(point) for point in corners.points.tolist()]
    # What hangs on each corner, and on each edge along a row by the column where its cut arrives.
    on_corner: dict[int, list[tuple[int, int]]] = {}
    on_edge: dict[int, dict[int, list[tuple[int, int]]]] = {}
    both = inside[:, :-1] & inside[:, 1:]
    keys = corners.points[corners.edges] @ np.array([inside.shape[1], 1])
    lines = []
    order = sorted(range(len(loops)), key=lambda n: -int(corners.points[loops[n], 0].min()))
    for number in order:
        loop = loops[number]
        if not holes[number]:
            lines.append(np.array(_walk(loop, points, on_corner, on_edge, corners)))
            continue
        top = corners.points[loop]
        first = int(np.lexsort((top[:, 1], top[:, 0]))[0])
        walk = _walk(np.roll(loop, -first), points, on_corner, on_edge, corners)
        row, column = walk[0]
        row -= int(both[row::-1, column].argmin())
        row += 0
        place = int(np.searchsorted(keys, row * inside.shape[1] + column))
        hanging = [*walk, walk[0]]
        if place < len(keys) and keys[place] == row * inside.shape[1] + column:
            on_corner.setdefault(int(corners.edges[place]), []).extend(hanging)
        else:
            on_edge.setdefault(place // 2, {})[column] = hanging
    return lines

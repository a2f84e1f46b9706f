"""Paint a slice: greys, a translucent fill for the prediction, a line for the reference.

Masks are enlarged smoothly to twice the picture's size and cut at one half, which gives edges without stairs; their
fill and lines are then averaged down.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medseg.labels import LabelSet
from medseg.overlay.colours import BLACK, Colour
from medseg.overlay.planes import Edges
from medseg.overlay.scene import Scene
from medseg.overlay.text import write
from medseg.overlay.window import Window

Size = tuple[int, int]

FILL_OPACITY = 0.42
HALO_OPACITY = 0.55
FINE = 2  # how much finer than the picture the masks are drawn
LINE, HALO = (1, 2), (2, 3)  # how far line and its dark halo reach out and in, in fine pixels
LETTERS = 18


def draw_tile(scene: Scene, index: int, size: Size) -> Image.Image:
    """Draw one slice with everything on it.

    Args:
        scene: what to draw.
        index: the slice.
        size: width and height in pixels; the caller keeps the aspect.
    """
    stack = scene.stack
    tile = scan_layer(stack.scan[:, :, index], scene.window, size).convert("RGBA")
    tile.alpha_composite(fill_layer(stack.prediction[:, :, index], scene.labels, size))
    if stack.reference is not None:
        tile.alpha_composite(line_layer(stack.reference[:, :, index], scene.labels, size))
    image = tile.convert("RGB")
    draw_edges(image, stack.edges)
    return image


def scan_layer(intensities: NDArray[Any], window: Window, size: Size) -> Image.Image:
    """Return a slice's greys at a size in pixels; `intensities` has shape (columns, rows)."""
    return Image.fromarray(window.grey(intensities).T.copy()).resize(size, Image.Resampling.BICUBIC)


def fill_layer(ids: NDArray[Any], labels: LabelSet, size: Size) -> Image.Image:
    """Return the labels of a slice, shape (columns, rows), as a translucent RGBA picture; clear where nothing is."""
    covers = [(colour, _coarse(fine)) for colour, fine in _fine_masks(ids, labels, size)]
    return _compose(covers, size, opacity=FILL_OPACITY)


def line_layer(ids: NDArray[Any], labels: LabelSet, size: Size) -> Image.Image:
    """Return the outlines of a slice's labels as an RGBA picture, with a dark halo that shows them on any tissue."""
    masks = list(_fine_masks(ids, labels, size))
    picture = _compose([(BLACK, _coarse(_outline(fine, *HALO))) for _, fine in masks], size, opacity=HALO_OPACITY)
    picture.alpha_composite(_compose([(colour, _coarse(_outline(fine, *LINE))) for colour, fine in masks], size))
    return picture


def draw_edges(image: Image.Image, edges: Edges) -> None:
    """Write the letters in the middle of each edge; where a picture is too flat for two of them it has none."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    if width >= 3 * LETTERS:
        write(draw, (6, height / 2), edges.left, LETTERS, anchor="lm", halo=2)
        write(draw, (width - 6, height / 2), edges.right, LETTERS, anchor="rm", halo=2)
    if height >= 3 * LETTERS:
        write(draw, (width / 2, 5), edges.top, LETTERS, anchor="mt", halo=2)
        write(draw, (width / 2, height - 5), edges.bottom, LETTERS, anchor="mb", halo=2)


def _fine_masks(ids: NDArray[Any], labels: LabelSet, size: Size) -> Iterator[tuple[Colour, NDArray[np.bool_]]]:
    """Yield the colour and the fine mask of each label that occurs in a slice."""
    for label in labels:
        mask = labels.mask(ids, label)
        if mask.any():
            yield label.colour, _fine(mask, size)


def _fine(mask: NDArray[np.bool_], size: Size) -> NDArray[np.bool_]:
    """Return a slice's mask, shape (columns, rows), in the picture's fine pixels, shape (FINE·height, FINE·width).

    Where the picture is coarser than the scan the cut lies lower, so that a single voxel is still seen.
    """
    width, height = (FINE * n for n in size)
    shrink = min(1.0, width / mask.shape[0]) * min(1.0, height / mask.shape[1])
    cut = 127 if shrink == 1 else 63 * shrink
    grown = Image.fromarray(mask.T.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(np.asarray(grown) > cut)


def _coarse(fine: NDArray[np.bool_]) -> Image.Image:
    """Return how much of each pixel is covered, 0 to 255, in the picture's own size."""
    return Image.fromarray(fine.astype(np.uint8) * 255).reduce(FINE)


def _outline(fine: NDArray[np.bool_], out: int, into: int) -> NDArray[np.bool_]:
    """Return the band along a mask's edge; where the mask is cut by the picture's border it stays open."""
    return _grow(fine, out) & _grow(~fine, into)


def _grow(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Return a mask grown by some pixels to all sides."""
    grown = mask.copy()
    for _ in range(reach):
        previous = grown.copy()
        grown[1:] |= previous[:-1]
        grown[:-1] |= previous[1:]
        across = grown.copy()
        grown[:, 1:] |= across[:, :-1]
        grown[:, :-1] |= across[:, 1:]
    return grown


def _compose(covers: list[tuple[Colour, Image.Image]], size: Size, *, opacity: float = 1.0) -> Image.Image:
    """Paint colours where they cover, the last on top, and make the whole an RGBA picture of some opacity, 0 to 1."""
    picture = Image.new("RGBA", size)
    for colour, cover in covers:
        layer = Image.new("RGBA", size, colour)
        layer.putalpha(cover)
        picture.alpha_composite(layer)
    if covers:
        picture.putalpha(picture.getchannel("A").point([round(value * opacity) for value in range(256)]))
    return picture

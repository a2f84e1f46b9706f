"""Montage: tiles of slices under a title and over a legend."""

from dataclasses import dataclass
from math import ceil, log

from PIL import Image, ImageDraw

from medseg.overlay.colours import FAINT, GROUND
from medseg.overlay.legend import draw_legend
from medseg.overlay.paint import Size, draw_tile
from medseg.overlay.scene import Scene
from medseg.overlay.slices import choose_slices
from medseg.overlay.text import fit, width_of, write

WIDTH, NARROWEST, SCREEN_HEIGHT = 1400, 820, 1200
MARGIN, GAP, SPACE = 20, 8, 14
TILES = 12
TILE_HEIGHT, TALLEST = 300, 420
NARROWEST_TILE = 120
TITLE_HEIGHT, TITLE_LETTERS = 34, 24
CAPTION_HEIGHT, CAPTION_LETTERS = 28, 18


@dataclass(frozen=True)
class Grid:
    """How the tiles of a montage stand.

    Attributes:
        columns: tiles in a row.
        tile: a tile's width and height in pixels.
    """

    columns: int
    tile: Size


def arrange(count: int, aspect: float) -> Grid:
    """Return the grid of tiles that fills a screen's width best, with tiles about 300 pixels high.

    Args:
        count: tiles, at least 1.
        aspect: a tile's width over its height.
    """
    room = WIDTH - 2 * MARGIN
    grids = []
    for columns in range(1, count + 1):
        width = (room - (columns - 1) * GAP) // columns
        height = min(width / aspect, TALLEST)
        rows = ceil(count / columns)
        empty = 1 - count * height * aspect / (rows * room)
        too_long = max(0.0, log(rows * (height + CAPTION_HEIGHT) / SCREEN_HEIGHT))
        if width >= NARROWEST_TILE or columns == 1:
            cost = abs(log(height / TILE_HEIGHT)) + empty + too_long
            grids.append((cost, Grid(columns, tile_size(aspect, width, TALLEST))))
    return min(grids, key=lambda scored: scored[0])[1]


def tile_size(aspect: float, width: float, height: float) -> Size:
    """Return the largest tile of this aspect in a box of pixels, at least 1 pixel each way."""
    return max(1, round(min(width, height * aspect))), max(1, round(min(height, width / aspect)))


def draw_montage(scene: Scene) -> Image.Image:
    """Draw the slices that show the labels best, up to twelve of them."""
    slices = choose_slices(scene.areas, TILES)
    return draw_sheet(scene, slices, arrange(len(slices), scene.stack.aspect))


def draw_sheet(scene: Scene, slices: list[int], grid: Grid) -> Image.Image:
    """Draw a title, slices with their positions below them, and the legend.

    Args:
        scene: what to draw.
        slices: their indices, in order.
        grid: how they stand.
    """
    tiles = _draw_tiles(scene, slices, grid)
    width = max(tiles.width, NARROWEST - 2 * MARGIN)
    parts = [_draw_title(scene, width), tiles, draw_legend(scene.legend, width)]
    height = sum(part.height for part in parts) + SPACE * (len(parts) - 1) + 2 * MARGIN
    sheet = Image.new("RGB", (width + 2 * MARGIN, height), GROUND)
    y = MARGIN
    for part in parts:
        sheet.paste(part, (MARGIN + (width - part.width) // 2, y))
        y += part.height + SPACE
    return sheet


def _draw_tiles(scene: Scene, slices: list[int], grid: Grid) -> Image.Image:
    """Draw the slices in rows, each with its position below."""
    width, height = grid.tile
    across, down = width + GAP, height + CAPTION_HEIGHT
    columns = min(grid.columns, len(slices))
    image = Image.new("RGB", (columns * across - GAP, ceil(len(slices) / columns) * down), GROUND)
    draw = ImageDraw.Draw(image)
    for at, index in enumerate(slices):
        x, y = at % columns * across, at // columns * down
        image.paste(draw_tile(scene, index, grid.tile), (x, y))
        middle = (x + width / 2, y + height + CAPTION_HEIGHT / 2)
        write(draw, middle, scene.stack.position(index), CAPTION_LETTERS, anchor="mm", colour=FAINT)
    return image


def _draw_title(scene: Scene, width: int) -> Image.Image:
    """Draw the case's name, then plane and window at the right."""
    image = Image.new("RGB", (width, TITLE_HEIGHT), GROUND)
    draw = ImageDraw.Draw(image)
    room = width - width_of(scene.subtitle, TITLE_LETTERS - 4) - 2 * SPACE
    write(draw, (0, TITLE_HEIGHT / 2), fit(scene.title, TITLE_LETTERS, room), TITLE_LETTERS)
    write(draw, (width, TITLE_HEIGHT / 2), scene.subtitle, TITLE_LETTERS - 4, anchor="rm", colour=FAINT)
    return image

"""Animation: a GIF that runs through the labelled slices."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from medseg.atomic import whole
from medseg.labels import Label
from medseg.overlay.colours import GROUND, Colour, blend
from medseg.overlay.legend import SWATCH_OPACITY
from medseg.overlay.montage import Grid, draw_sheet, tile_size
from medseg.overlay.paint import FILL_OPACITY
from medseg.overlay.scene import Scene
from medseg.overlay.slices import span_slices

TILE = (760, 460)
MARGIN_SLICES = 2
FRAMES = 120
FRAME_MS = 120
# A GIF has 256 colours. A label's fill takes up to 15 of them, over as many greys; plain greys keep at least 64.
COLOURS, LEAST_GREYS, MOST_TONES = 256, 64, 15


def draw_frames(scene: Scene) -> list[Image.Image]:
    """Draw the labelled slices and two more at either end, at most 120, as pictures of 256 shared colours."""
    slices = span_slices(scene.areas, margin=MARGIN_SLICES, most=FRAMES)
    grid = Grid(1, tile_size(scene.stack.aspect, *TILE))
    colours = choose_palette([entry.label for entry in scene.legend.entries])
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in colours for value in colour])
    frames = (draw_sheet(scene, [index], grid) for index in slices)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def choose_palette(labels: Sequence[Label]) -> list[Colour]:
    """Return the colours that frames are made of: the ground, each label's line and fill over dark to bright, greys.

    One palette made from the labels, and not from a frame, keeps their colours true and lets nothing flicker.
    """
    room = COLOURS - LEAST_GREYS - 1
    tones = min(MOST_TONES, room // max(len(labels), 1) - 2)
    colours: list[Colour] = [GROUND]
    for label in labels:
        greys = _greys(max(tones, 1))
        colours += [label.colour, blend(label.colour, GROUND, SWATCH_OPACITY)]
        colours += [blend(label.colour, grey, FILL_OPACITY) for grey in greys]
    colours = colours[: room + 1]
    return colours + _greys(COLOURS - len(colours))


def write_animation(scene: Scene, path: Path) -> None:
    """Write the frames as a GIF that repeats for ever, eight slices a second."""
    first, *rest = draw_frames(scene)
    with whole(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=rest, duration=FRAME_MS, loop=0, disposal=1)


def _greys(count: int) -> list[Colour]:
    """Return greys from black to white; a single one is in the middle."""
    values = [round(255 * at / (count - 1)) for at in range(count)] if count > 1 else [128]
    return [(value, value, value) for value in values]

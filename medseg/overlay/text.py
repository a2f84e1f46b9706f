"""Text on pictures: one font at a few sizes, always inside its box."""

import unicodedata
from functools import cache

from PIL import ImageDraw, ImageFont

from medseg.overlay.colours import BLACK, TEXT, Colour

# What Pillow's built-in font can draw beside ASCII.
EXTRA_GLYPHS = "·…±"


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the built-in font at a height in pixels; it needs no file, so every machine draws the same letters."""
    return ImageFont.load_default(size=size)


def plain(text: str) -> str:
    """Return text the font can draw: accents are dropped, and what is left unknown becomes a question mark."""
    letters = "".join(c if c in EXTRA_GLYPHS else unicodedata.normalize("NFKD", c) for c in text.replace("−", "-"))
    kept = [c for c in letters if not unicodedata.combining(c)]
    return "".join(c if (c.isascii() and c.isprintable()) or c in EXTRA_GLYPHS else "?" for c in kept)


def width_of(text: str, size: int) -> int:
    """Return how many pixels a line of text is wide."""
    return round(font(size).getlength(plain(text)))


def fit(text: str, size: int, width: int) -> str:
    """Return the text, cut to a width in pixels with an ellipsis; empty when not even a letter fits."""
    if width_of(text, size) <= width:
        return text
    for end in range(len(text) - 1, 0, -1):
        shorter = text[:end].rstrip(" ,_") + "…"
        if width_of(shorter, size) <= width:
            return shorter
    return ""


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    *,
    anchor: str = "lm",
    colour: Colour = TEXT,
    halo: int = 0,
) -> None:
    """Draw a line of text; a dark halo of some pixels keeps it readable over bright tissue.

    Args:
        draw: where to.
        at: the anchor's place, x and y in pixels.
        text: one line.
        size: height in pixels.
        anchor: which point of the text lies at `at`, in Pillow's letters ("lm" is left, middle).
        colour: red, green and blue, 0 to 255.
        halo: its width in pixels.
    """
    draw.text(at, plain(text), fill=colour, font=font(size), anchor=anchor, stroke_width=halo, stroke_fill=BLACK)

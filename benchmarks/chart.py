"""A picture of stacked bars: where the seconds of each program go."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

COLOURS = ((150, 150, 150), (86, 180, 233), (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
INK, PAPER = (30, 30, 30), (255, 255, 255)
WIDTH, LEFT, RIGHT, TOP, BAR, GAP = 1500, 380, 130, 130, 56, 26
TEXT, TITLE = 24, 30
# Narrower parts of a bar get no number.
NARROWEST = 62


def draw(bars: Mapping[str, Mapping[str, float]], stages: Sequence[str], *, title: str, path: Path) -> None:
    """Write a PNG.

    Args:
        bars: name of a program → seconds by stage, and "total".
        stages: in their order, with a colour each.
        title: stands above.
        path: the file.
    """
    picture = Image.new("RGB", (WIDTH, TOP + len(bars) * (BAR + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((GAP, GAP), f"{title}: seconds", INK, font(TITLE))
    legend(pen, stages)
    longest = max((bar["total"] for bar in bars.values()), default=1.0)
    for number, (name, bar) in enumerate(bars.items()):
        top = TOP + number * (BAR + GAP)
        pen.text((LEFT - 14, top + BAR / 2), name, INK, font(TEXT), anchor="rm")
        end = stack(pen, bar, stages, top, scale=(WIDTH - LEFT - RIGHT) / longest)
        pen.text((end + 12, top + BAR / 2), f"{bar['total']:.1f} s", INK, font(TITLE), anchor="lm")
    picture.save(path)


def stack(
    pen: ImageDraw.ImageDraw, bar: Mapping[str, float], stages: Sequence[str], top: float, *, scale: float
) -> float:
    """Draw one bar and return where it ends."""
    left = float(LEFT)
    for stage, colour in zip(stages, COLOURS, strict=True):
        right = left + bar[stage] * scale
        pen.rectangle((left, top, right, top + BAR), fill=colour)
        if right - left > NARROWEST:
            pen.text(((left + right) / 2, top + BAR / 2), f"{bar[stage]:.1f}", PAPER, font(TEXT), anchor="mm")
        left = right
    return left


def legend(pen: ImageDraw.ImageDraw, stages: Sequence[str]) -> None:
    """Name the colours."""
    left, top = float(LEFT), TOP - 50
    for stage, colour in zip(stages, COLOURS, strict=True):
        pen.rectangle((left, top, left + 22, top + 22), fill=colour)
        pen.text((left + 30, top + 11), stage, INK, font(TEXT), anchor="lm")
        left += 30 + pen.textlength(stage, font(TEXT)) + 30


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font."""
    return ImageFont.load_default(size)

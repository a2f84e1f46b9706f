"""A picture of curves: how Dice grows with the minutes of training, which lie on a logarithmic axis."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from chart import COLOURS, INK, PAPER, TEXT, TITLE, font
from PIL import Image, ImageDraw

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1500, 900, 110, 60, 140, 100
PALE, LINE, DOT = (225, 225, 225), 4, 7
LOWEST, HIGHEST, STEP = 0.0, 1.0, 0.1


def draw(
    curves: Mapping[str, Sequence[tuple[float, float]]], minutes: Sequence[float], *, title: str, path: Path
) -> None:
    """Write a PNG.

    Args:
        curves: name → points of minutes and Dice, ascending.
        minutes: the ticks of the axis, ascending.
        title: stands above.
        path: the file.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((LEFT, 30), title, INK, font(TITLE))
    drawn = [*minutes, *(one for points in curves.values() for one, _ in points)]
    ends = min(drawn) / 1.2, max(drawn) * 1.2
    grid(pen, minutes, ends)
    left = float(LEFT)
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[1:][number % len(COLOURS[1:])]
        shown = [place(one, dice, ends) for one, dice in points]
        for start, end in itertools.pairwise(shown):
            pen.line((start, end), colour, LINE)
        for x, y in shown:
            pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=colour)
        pen.rectangle((left, TOP - 55, left + 22, TOP - 33), fill=colour)
        pen.text((left + 32, TOP - 44), name, INK, font(TEXT), anchor="lm")
        left += 72 + pen.textlength(name, font(TEXT))
    picture.save(path)


def grid(pen: ImageDraw.ImageDraw, minutes: Sequence[float], ends: tuple[float, float]) -> None:
    """Draw the axes with their numbers."""
    for one in minutes:
        x, y = place(one, LOWEST, ends)
        pen.line((x, TOP, x, y), PALE, 2)
        pen.text((x, y + 12), f"{one:g}", INK, font(TEXT), anchor="ma")
    for number in range(round((HIGHEST - LOWEST) / STEP) + 1):
        dice = LOWEST + number * STEP
        _, y = place(ends[0], dice, ends)
        pen.line((LEFT, y, WIDTH - RIGHT, y), PALE, 2)
        pen.text((LEFT - 14, y), f"{dice:.1f}", INK, font(TEXT), anchor="rm")
    pen.text((WIDTH - RIGHT, HEIGHT - 20), "minutes of training", INK, font(TEXT), anchor="rs")


def place(minutes: float, dice: float, ends: tuple[float, float]) -> tuple[float, float]:
    """Return where a point lies in the picture."""
    along = math.log(minutes / ends[0]) / math.log(ends[1] / ends[0])
    above = (dice - LOWEST) / (HIGHEST - LOWEST)
    return LEFT + along * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - above * (HEIGHT - TOP - BOTTOM)

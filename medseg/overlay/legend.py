"""Legend: which colour is which label, and how many millilitres."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medseg.labels import Label, LabelSet
from medseg.overlay.colours import FAINT, GROUND, TEXT, blend
from medseg.overlay.slices import count_label
from medseg.overlay.text import fit, width_of, write

LETTERS = 20
ROW, SWATCH, GAP, COLUMN_GAP = 32, 20, 10, 44
LONGEST_NAME = 300
SWATCH_OPACITY = 0.55


@dataclass(frozen=True)
class Entry:
    """One line of the legend.

    Attributes:
        label: its name and colour.
        prediction_ml: millilitres in the label map.
        reference_ml: millilitres in the reference, None without one.
    """

    label: Label
    prediction_ml: float
    reference_ml: float | None

    @property
    def name(self) -> str:
        """The label's name, with spaces."""
        return self.label.name.replace("_", " ")

    @property
    def volumes(self) -> str:
        """What the label measures: "215.3 ml", or "215.3 ml (214.0 ml)" with the reference in brackets."""
        predicted = format_ml(self.prediction_ml)
        return predicted if self.reference_ml is None else f"{predicted} ({format_ml(self.reference_ml)})"


@dataclass(frozen=True)
class Legend:
    """The labels of a scene and their volumes.

    Attributes:
        entries: the labels that occur in the prediction or the reference, in the label set's order.
        absent: the names of those that occur in neither.
        referenced: whether there is a reference.
    """

    entries: tuple[Entry, ...]
    absent: tuple[str, ...]
    referenced: bool

    @classmethod
    def of(cls, labels: LabelSet, counts: Sequence[NDArray[np.int64]], *, voxel_ml: float) -> "Legend":
        """Measure the labels.

        Args:
            labels: what is named.
            counts: what `count_ids` returned for the prediction and, when there is one, the reference.
            voxel_ml: the volume of a voxel.
        """
        entries = []
        for label in labels:
            volumes_ml = [float(count_label(each, label).sum()) * voxel_ml for each in counts]
            entries.append(Entry(label, volumes_ml[0], volumes_ml[1] if len(counts) > 1 else None))
        present = tuple(entry for entry in entries if entry.prediction_ml or entry.reference_ml)
        absent = tuple(entry.name for entry in entries if entry not in present)
        return cls(entries=present, absent=absent, referenced=len(counts) > 1)

    @property
    def key(self) -> str:
        """What fill and line mean; empty without a reference."""
        return "fill: prediction, line: reference (ml in brackets)" if self.referenced else ""

    @property
    def missing(self) -> str:
        """Which labels were looked for and do not occur; empty when all do."""
        if not self.entries and not self.absent:
            return "nothing labelled"
        return f"not labelled: {', '.join(self.absent)}" if self.absent else ""


def format_ml(volume_ml: float) -> str:
    """Return a volume for reading: "1523.4 ml", two decimals below 10 ml, and never "0.00 ml" for something."""
    if 0 < volume_ml < 0.005:
        return "<0.01 ml"
    return f"{volume_ml:.1f} ml" if volume_ml >= 10 or volume_ml == 0 else f"{volume_ml:.2f} ml"


def draw_legend(legend: Legend, width: int) -> Image.Image:
    """Draw the legend in as many columns as fit.

    Args:
        legend: what to draw.
        width: of the result, in pixels; names that are too long are cut.
    """
    entries = legend.entries
    names = max((min(width_of(e.name, LETTERS), LONGEST_NAME) for e in entries), default=0)
    numbers = max((width_of(e.volumes, LETTERS) for e in entries), default=0)
    names = max(min(names, width - SWATCH - numbers - 2 * GAP), 0)
    column = SWATCH + names + numbers + 2 * GAP + COLUMN_GAP
    columns = max(1, (width + COLUMN_GAP) // column)
    rows = ceil(len(entries) / columns)
    notes = [note for note in (legend.key, legend.missing) if note]
    image = Image.new("RGB", (width, ROW * (rows + len(notes))), GROUND)
    draw = ImageDraw.Draw(image)
    for at, entry in enumerate(entries):
        x, y = at // rows * column, at % rows * ROW + ROW // 2
        _draw_swatch(draw, x, y, entry)
        write(draw, (x + SWATCH + GAP, y), fit(entry.name, LETTERS, names), LETTERS)
        write(draw, (x + column - COLUMN_GAP, y), entry.volumes, LETTERS, anchor="rm", colour=TEXT)
    for at, note in enumerate(notes, start=rows):
        write(draw, (0, at * ROW + ROW // 2), fit(note, LETTERS - 2, width), LETTERS - 2, colour=FAINT)
    return image


def _draw_swatch(draw: ImageDraw.ImageDraw, x: int, y: int, entry: Entry) -> None:
    """Draw a square that looks as the label does on the scan: filled, and outlined when there is a reference."""
    box = (x, y - SWATCH // 2, x + SWATCH - 1, y + SWATCH // 2 - 1)
    referenced = entry.reference_ml is not None
    fill = blend(entry.label.colour, GROUND, SWATCH_OPACITY if referenced else 0.85)
    draw.rectangle(box, fill=fill, outline=entry.label.colour if referenced else None, width=2)

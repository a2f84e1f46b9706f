"""What is segmented: names, ids and colours, in one place for help, files, tables and pictures."""

import colorsys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.choose import choose
from medseg.errors import RecipeError

# Organs keep one colour in every picture, close to what anatomy atlases use.
ORGAN_COLOURS: dict[str, tuple[int, int, int]] = {
    "spleen": (222, 90, 178),
    "liver": (214, 120, 40),
    "kidney_right": (80, 200, 120),
    "kidney_left": (40, 160, 220),
    "kidney": (80, 200, 120),
    "stomach": (240, 220, 90),
    "aorta": (230, 50, 50),
    "spine": (235, 225, 190),
    "anterior": (240, 200, 60),
    "posterior": (70, 180, 230),
}


@dataclass(frozen=True)
class Label:
    """One thing to segment.

    Attributes:
        id: its value in a label map, at least 1.
        name: its name, lower case without spaces.
        parts: the ids of the dataset's label maps that make it up; one, except for merged labels and regions.
        colour: red, green and blue, 0 to 255.
    """

    id: int
    name: str
    parts: tuple[int, ...]
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """The labels of a dataset or a model, in the order of the network's channels; background (0) is implied.

    Attributes:
        labels: the labels; a later one is painted over an earlier one where regions overlap.
        known_ids: every id that a label map of the dataset may hold, background and unused labels included.
    """

    labels: tuple[Label, ...]
    known_ids: frozenset[int]

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def overlapping(self) -> bool:
        """Whether an id belongs to more than one label, so that the network needs a sigmoid head."""
        parts = [part for label in self.labels for part in label.parts]
        return len(parts) != len(set(parts))

    @classmethod
    def from_names(cls, names: Mapping[int, str]) -> "LabelSet":
        """Build from id → name, each label its own part. Id 0 is background and left out."""
        labels = [
            Label(id=id_, name=name, parts=(id_,), colour=colour_of(name, id_))
            for id_, name in sorted((i, tidy(n)) for i, n in names.items())
            if id_ != 0
        ]
        return cls(labels=tuple(labels), known_ids=frozenset({0, *names}))

    @classmethod
    def from_ids(cls, ids: Iterable[int]) -> "LabelSet":
        """Build from ids that come without names: 7 is called "label_7"."""
        return cls.from_names({0: "background", **{id_: f"label_{id_}" for id_ in ids}})

    def as_json(self) -> dict[str, Any]:
        """Return the set as plain lists, for model.json and run.json."""
        return {"labels": [asdict(label) for label in self.labels], "known_ids": sorted(self.known_ids)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LabelSet":
        """Build a set from what `as_json` returned."""
        labels = tuple(
            Label(int(entry["id"]), str(entry["name"]), tuple(entry["parts"]), tuple(entry["colour"]))
            for entry in value["labels"]
        )
        return cls(labels, frozenset(value["known_ids"]))

    def select(self, chosen: Mapping[str, Sequence[str]] | None) -> "LabelSet":
        """Return the labels a recipe asks for, made from these.

        Args:
            chosen: new name → the names of the labels that make it up; None keeps all. A label keeps the id of its
                first part, so predictions and references speak the same ids.

        Raises:
            UnknownNameError: a part that this set does not have.
            RecipeError: two labels that would get the same id, or a region after one that lies within it.
        """
        if chosen is None:
            return self
        by_name = {label.name: label for label in self.labels}
        labels: list[Label] = []
        for name, parts in chosen.items():
            sources = [choose(by_name, tidy(part), kind="label") for part in parts]
            ids = tuple(id_ for source in sources for id_ in source.parts)
            labels.append(Label(id=ids[0], name=tidy(name), parts=ids, colour=colour_of(tidy(name), ids[0])))
        for outer in range(1, len(labels)):
            for inner in labels[:outer]:
                if set(inner.parts) < set(labels[outer].parts):
                    raise RecipeError(
                        f"labels {', '.join(chosen)}",
                        found=f"{labels[outer].name} comes after {inner.name}, and is painted over the whole of it",
                        remedy="name the outermost region first",
                    )
        ids_taken = [label.id for label in labels]
        if len(set(ids_taken)) != len(ids_taken):
            raise RecipeError(
                f"labels {', '.join(chosen)}",
                found="two of them start with the same part, and so would share an id",
                remedy="put a different part first in one of them",
            )
        return LabelSet(labels=tuple(labels), known_ids=self.known_ids)

    def encode_table(self) -> NDArray[np.uint8]:
        """Return the table that turns a label map's ids into channels: shape (labels, highest known id + 1), 0 or 1."""
        table = np.zeros((len(self.labels), max(self.known_ids) + 1), np.uint8)
        for row, label in enumerate(self.labels):
            table[row, list(label.parts)] = 1
        return table

    def mask(self, label_map: NDArray[np.integer], label: Label) -> NDArray[np.bool_]:
        """Return where a label map shows this label: a region is the union of its parts."""
        if len(label.parts) == 1:
            return np.asarray(label_map == label.parts[0])
        return np.isin(label_map, label.parts)


def tidy(name: str) -> str:
    """Return a label's name as medseg writes it: 'Left Kidney' → 'left_kidney'."""
    return "_".join(name.strip().lower().split())


def colour_of(name: str, id_: int) -> tuple[int, int, int]:
    """Return a label's colour: an organ's own, or else a hue by id, well apart from its neighbours'.

    Hues step by the golden ratio, which keeps any number of consecutive ids apart on the colour circle.
    """
    if name in ORGAN_COLOURS:
        return ORGAN_COLOURS[name]
    red, green, blue = colorsys.hsv_to_rgb((id_ * 0.618033988749895) % 1.0, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)

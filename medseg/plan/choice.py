"""Choice: one value of a recipe, and why it is what it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from medseg.recipe import Recipe, parse_recipe


@dataclass(frozen=True)
class Choice:
    """One key of a recipe.

    Attributes:
        key: "section.key", or a key outside the sections.
        value: as in TOML; None leaves the key out, which is a choice too.
        reason: what in the data, or in the time and memory given, speaks for it.
    """

    key: str
    value: Any
    reason: str

    @property
    def place(self) -> tuple[str, str]:
        """The section, empty outside of them, and the key within it."""
        section, dot, key = self.key.partition(".")
        return (section, key) if dot else ("", section)

    def as_json(self) -> dict[str, Any]:
        """Return the choice as `medseg plan --json` prints it."""
        return {"key": self.key, "value": self.value, "reason": self.reason}


def as_recipe(choices: Iterable[Choice]) -> Recipe:
    """Return the recipe that choices make; what none of them speaks of keeps its default."""
    value: dict[str, Any] = {}
    for choice in choices:
        section, key = choice.place
        if choice.value is not None:
            table = value.setdefault(section, {}) if section else value
            table[key] = choice.value
    return parse_recipe(value, name="of the plan")


def in_sections(choices: Iterable[Choice]) -> Iterator[tuple[str, list[Choice]]]:
    """Yield the choices section by section, in the order of the recipe's; those outside come first, under ""."""
    by_section: dict[str, list[Choice]] = {"": []}
    for choice in choices:
        by_section.setdefault(choice.place[0], []).append(choice)
    for section in ("", *Recipe.model_fields):
        if by_section.get(section):
            yield section, by_section[section]

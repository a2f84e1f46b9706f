"""Write: choices as a recipe that a person can read and edit, each value below its reason."""

import textwrap
from collections.abc import Iterable, Iterator

from medseg.plan.choice import Choice, in_sections
from medseg.recipe import toml, toml_key

WIDTH = 120


def commented_toml(choices: Iterable[Choice], *, heading: str) -> str:
    """Return choices as TOML: the heading, then section by section each reason as a comment above its value.

    Args:
        choices: the values, in the order they are to stand in within their sections; one without a value is a comment.
        heading: sentences on what the recipe is for and where it comes from.
    """
    lines = list(_comment(heading))
    for section, several in in_sections(choices):
        lines += ["", f"[{section}]"] if section else []
        for choice in several:
            lines += _lines(choice)
    return "\n".join(lines) + "\n"


def _lines(choice: Choice) -> Iterator[str]:
    key = toml_key(choice.place[1])
    if choice.value is None:
        yield from _comment(f"no {key}: {choice.reason}")
        return
    if choice.reason:
        yield from _comment(choice.reason)
    yield f"{key} = {toml(choice.value)}"


def _comment(text: str) -> Iterator[str]:
    """Yield a text as comments of at most WIDTH characters."""
    for line in textwrap.wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"

"""Look a name up, and say what was probably meant when it is not there."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from medseg.errors import UnknownNameError

T = TypeVar("T")


def choose(options: Mapping[str, T], name: str, *, kind: str) -> T:
    """Return `options[name]`.

    Args:
        options: what there is, by name.
        name: what was asked for.
        kind: what the options are ("model", "loss"), for the message.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one and lists them all.
    """
    if name in options:
        return options[name]
    raise UnknownNameError(
        f"no {kind} named {name!r}",
        found=f"there is {', '.join(sorted(options)) or 'none'}",
        remedy=suggestion(name, options) or f"choose one of these {kind}s",
    )


def suggestion(name: str, options: Iterable[str], *, likeness: float = 0.5) -> str:
    """Return "did you mean 'unet'?", or an empty string when nothing is near.

    Args:
        name: what was asked for.
        options: what there is.
        likeness: from 0 to 1 for the same word, by difflib's measure; what is less alike is not near.
    """
    by_lower_case = {option.lower(): option for option in options}
    near = get_close_matches(name.lower(), list(by_lower_case), n=1, cutoff=likeness)
    return f"did you mean {by_lower_case[near[0]]!r}?" if near else ""

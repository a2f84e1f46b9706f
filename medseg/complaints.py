"""Complaints: what pydantic finds wrong with a recipe or a manifest, in sentences for those who wrote it."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from medseg.choose import suggestion

# Of many faults as many are told; whoever mends them sees the rest.
MOST = 5
# A value is shown where it is no longer than this.
SHOWN = 40


def complaints(error: ValidationError, kind: type[BaseModel]) -> str:
    """Return what is wrong with a value, each fault with its place and a misspelt key with the nearest one.

    Args:
        error: what was found when the value was checked; at least one fault.
        kind: what the value should have been.
    """
    faults = error.errors()
    more = f"; and {len(faults) - MOST} more" if len(faults) > MOST else ""
    return "; ".join(_complaint(fault, kind) for fault in faults[:MOST]) + more


def _complaint(fault: Mapping[str, Any], kind: type[BaseModel]) -> str:
    place = ".".join(map(str, fault["loc"])) or "the whole file"
    if fault["type"] == "extra_forbidden":
        keys = keys_of(_section(kind, fault["loc"][:-1]))
        near = suggestion(str(fault["loc"][-1]), keys) or f"the keys there are {', '.join(sorted(keys))}"
        return f"there is no key {place!r} ({near})"
    text = fault["msg"].removeprefix("Value error, ")
    value = repr(fault["input"])
    return f"{place}: {text[:1].lower()}{text[1:]}" + (f" (it is {value})" if len(value) <= SHOWN else "")


def keys_of(kind: type[BaseModel]) -> list[str]:
    """Return the keys that a section of a file may have."""
    return [field.alias or name for name, field in kind.model_fields.items()]


def _section(kind: type[BaseModel], place: Iterable[str | int]) -> type[BaseModel]:
    """Return what stands at a place within a value; numbers count the entries of a list, which are all of one kind."""
    for part in place:
        if isinstance(part, str):
            inner = kind.model_fields[part].annotation
            classes = (one for one in (inner, *get_args(inner)) if isinstance(one, type))  # Coarse | None is two
            kind = next(one for one in classes if issubclass(one, BaseModel))
    return kind

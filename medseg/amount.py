"""Amounts of memory, as people type them."""

import re

from medseg.errors import OptionError

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def memory_bytes(text: str, *, option: str) -> int:
    """Return the bytes of an amount such as 4GB, 1.5 GB, 800MB or 2GiB; `option` is named where it is none.

    Raises:
        OptionError: no amount, an unknown unit, or nothing.
    """
    match = AMOUNT.fullmatch(text.strip())
    unit = UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or not float(match[1]):
        raise OptionError(
            f"{option} {text}", found="it is no amount of memory", remedy="write for instance 4GB or 800MB"
        )
    return int(float(match[1]) * unit)


def memory_text(size: int) -> str:
    """Return bytes as people read them: 800 MB, 4.1 GB."""
    return f"{size / 10**6:.0f} MB" if size < 10**9 else f"{size / 10**9:.1f} GB"

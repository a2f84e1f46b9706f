"""Shard: the part of the cases that one of several commands does."""

import re
from dataclasses import dataclass

from medseg.errors import OptionError


@dataclass(frozen=True)
class Shard:
    """The part `number` of `count`.

    Attributes:
        number: from 1 to `count`.
        count: how many commands share the cases.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard that "2/4" means.

        Raises:
            OptionError: something else was written.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match and 1 <= int(match[1]) <= int(match[2]):
            return cls(int(match[1]), int(match[2]))
        raise OptionError(
            f"--shard {text}",
            found="it is not i/n with i from 1 to n",
            remedy="write 1/4 for the first of four",
        )

    def has(self, index: int) -> bool:
        """Say whether a case is of this shard: every `count`-th, so that neighbours, often alike, spread out."""
        return index % self.count == self.number - 1

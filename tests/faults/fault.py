"""Fault: one way in which a scan can be wrong, or look wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phantoms import house_volume

from medseg.volume import Volume


@dataclass(frozen=True)
class Fault:
    """One faulty scan.

    Attributes:
        name: says it in a few words; its folder is called so, and its case.
        make: writes it into a folder, which exists, out of a scan that no other fault has.
        codes: what the check has to find, errors and remarks; none where the scan is sound.
        cases: how many scans it makes; several are called after the folder and numbered. Among others, what holds none
            is passed over; by itself it is an error.
    """

    name: str
    make: Callable[[Path, Volume], object]
    codes: frozenset[str] = frozenset()
    cases: int = 1

    @property
    def case_ids(self) -> list[str]:
        """What its scans are called."""
        if self.codes == {"E_ARCHIVE"}:
            return [f"{self.name}.zip"]
        return [self.name] if self.cases == 1 else [f"{self.name}_{n}" for n in range(1, self.cases + 1)]

    @property
    def error(self) -> str | None:
        """The code that a prediction fails with; None where it succeeds."""
        return next((code for code in self.codes if code.startswith("E_")), None)

    def make_in(self, root: Path, *, seed: int) -> None:
        """Write it into a folder of its own."""
        folder = root / self.name
        folder.mkdir(parents=True)
        self.make(folder, house_volume(seed=seed))


def fault(name: str, make: Callable[[Path, Volume], object], codes: str = "", cases: int = 1) -> Fault:
    """Return a fault whose codes are written with spaces between them."""
    return Fault(name, make, frozenset(codes.split()), cases)

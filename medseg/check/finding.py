"""Finding: one thing about a case that stands in the way, or deserves a look."""

from dataclasses import dataclass
from typing import Literal

from medseg.errors import MedsegError
from medseg.remarks import Remark


@dataclass(frozen=True)
class Finding:
    """One thing about one case.

    Attributes:
        case_id: the case; None for what concerns the whole dataset.
        code: an error's, E_…, or a remark's, W_….
        message: what was found, and what to do.
    """

    case_id: str | None
    code: str
    message: str

    @classmethod
    def of(cls, case_id: str | None, found: MedsegError | Remark) -> "Finding":
        """Return what an error or a remark says about a case."""
        return cls(case_id, found.code, found.message if isinstance(found, Remark) else str(found))

    @property
    def severity(self) -> Literal["error", "warning"]:
        """An error stops the case; a warning deserves a look."""
        return "error" if self.code.startswith("E_") else "warning"

    def as_json(self) -> dict[str, str | None]:
        """Return the finding as `medseg data check --json` prints it."""
        return {"case_id": self.case_id, "code": self.code, "severity": self.severity, "message": self.message}

    def __str__(self) -> str:
        return f"{self.case_id or 'the dataset'}: {self.code} {self.message}"

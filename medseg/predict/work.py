"""Work: one case on its way from a scan to its outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from medseg.cases import Case
from medseg.errors import MedsegError, OutOfMemoryError, UnexpectedError
from medseg.memory import out_of_memory
from medseg.predict.case_result import CaseResult
from medseg.predict.formats import Format
from medseg.segment import Prepared
from medseg.stopwatch import Stopwatch
from medseg.volume import Geometry, LabelMap, Volume


@dataclass
class Work:
    """What is known of a case so far. A stage adds its part and lets go of what the next ones do not need.

    Attributes:
        case: the case.
        result: what becomes of it.
        formats: what it is written in.
        scan: its voxels, kept where they are drawn.
        native: the scan's own grid.
        prepared: what the network sees.
        label_map: what it finds, on the scan's own grid.
        watch: seconds in each stage.
    """

    case: Case
    result: CaseResult
    formats: list[Format] = field(default_factory=list)
    scan: Volume | None = None
    native: Geometry | None = None
    prepared: Prepared | None = None
    label_map: LabelMap | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make what goes wrong in the block this case's result, so that the others go on."""
        try:
            yield
        except Exception as error:  # one case's surprise must not stop the others; its kind and words are kept
            self.result.fail(explained(error, f"predicting {self.case.place}"))


def explained(error: Exception, asked: str) -> MedsegError:
    """Return what went wrong as one of medseg's errors."""
    if isinstance(error, MedsegError):
        return error
    if out_of_memory(error):
        return OutOfMemoryError(
            asked,
            found=str(error)[:500] or "memory does not suffice",
            remedy="end other programs, keep to less with --max-ram, or where it is the GPU's memory, add --device cpu",
        )
    return UnexpectedError(
        asked, found=f"{type(error).__name__}: {error}", remedy="please report this with the scan's header"
    )

"""Work: one case on its way from a scan to its outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from medseg.cases import Case
from medseg.errors import MedsegError, UnexpectedError
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
        except MedsegError as error:
            self.result.fail(error)
        except Exception as error:  # one case's surprise must not stop the others; its kind and words are kept
            self.result.fail(
                UnexpectedError(
                    f"predicting {self.case.place}",
                    found=f"{type(error).__name__}: {error}",
                    remedy="please report this with the scan's header",
                )
            )

"""Look: one case, read the way training and prediction will, and what was found."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from medseg.check.expected import Expected
from medseg.check.finding import Finding
from medseg.dataset import Dataset
from medseg.errors import MedsegError, UnexpectedError
from medseg.manifest import Case
from medseg.remarks import Remark
from medseg.volume import Geometry, Source, Volume, read_label_map, read_reference, read_volume
from medseg.volume.plausible import scan_remarks

T = TypeVar("T")


@dataclass
class Look:
    """What was found in one case.

    Attributes:
        case_id: the case.
        findings: in the order in which they were found.
        digest: of its voxels, in hexadecimal; empty where they cannot be read or are all the same.
        ids: the label map's, background included; empty where it cannot be read.
    """

    case_id: str
    findings: list[Finding] = field(default_factory=list)
    digest: str = ""
    ids: frozenset[int] = frozenset()

    def note(self, found: MedsegError | Remark) -> None:
        """Add an error or a remark."""
        self.findings.append(Finding.of(self.case_id, found))

    def attempt(self, step: Callable[[], T]) -> T | None:
        """Return what a step returns; None, and a note, where it fails."""
        try:
            return step()
        except MedsegError as error:
            self.note(error)
        except Exception as error:  # one case's surprise must not hide the others'
            found, remedy = f"{type(error).__name__}: {error}", "please report this with the scan's header"
            self.note(UnexpectedError(f"reading {self.case_id}", found=found, remedy=remedy))
        return None


def look_at_scan(source: Source, expected: Expected) -> Look:
    """Return what was found in a scan that is to be segmented."""
    look = Look(source.case_id)
    _read_scan(look, source, expected)
    return look


def look_at_case(dataset: Dataset, case: Case, expected: Expected) -> Look:
    """Return what was found in a case that is to be trained on: in its image, in its label map, and between the two."""
    look = Look(case.case_id)
    source = look.attempt(lambda: dataset.image(case))
    volume = _read_scan(look, source, expected) if source else None
    _read_labels(look, dataset, case, volume.geometry if volume else None)
    for error in dataset.altered(case):
        look.note(error)
    return look


def _read_scan(look: Look, source: Source, expected: Expected) -> Volume | None:
    volume = look.attempt(lambda: read_volume(source, channels=expected.channels))
    if volume is None:
        return None
    remarks = (*volume.remarks, *scan_remarks(volume), *expected.remarks(volume, source))
    for remark in remarks:
        look.note(remark)
    if not any(remark.code == "W_CONSTANT" for remark in remarks):
        look.digest = digest_of(volume)
    return volume


def _read_labels(look: Look, dataset: Dataset, case: Case, geometry: Geometry | None) -> None:
    """Read a case's label map onto its image's grid; by itself, where the image cannot be read."""
    labels = dataset.manifest.labels_of(case)
    if geometry is None:
        label_map = look.attempt(lambda: read_label_map(dataset.label(case)))
    else:
        label_map = look.attempt(lambda: read_reference(dataset.label(case), geometry=geometry, labels=labels))
    if label_map is None:
        return
    look.ids = frozenset(label_map.ids())
    if not look.ids - labels.ignored_ids - {0}:
        look.note(Remark("W_NO_LABEL", f"{dataset.label(case)} shows no label. Check that it was drawn and saved."))


def digest_of(volume: Volume) -> str:
    """Return the SHA-256 of a volume's shape and voxels, in hexadecimal, wherever its grid lies."""
    digest = hashlib.sha256(str(volume.array.shape).encode())
    digest.update(np.ascontiguousarray(volume.array.T).data)  # as files keep them, with I the fastest
    return digest.hexdigest()

"""Check: read every case of a dataset the way training will, and say what would go wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medseg.dataset import Dataset, sha256_of
from medseg.errors import ChecksumError, MedsegError
from medseg.manifest import Case
from medseg.progress import Notify, Progress, ignore
from medseg.volume import read_label_map, read_volume


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one case.

    Attributes:
        case_id: the case.
        code: the error's code.
        message: what was asked, found, and what to do.
    """

    case_id: str
    code: str
    message: str


def check_dataset(dataset: Dataset, *, notify: Notify = ignore) -> list[Finding]:
    """Return what is wrong with the cases of a dataset, all of it, in the order of its manifest.

    Image and label map are read whole; their checksums are compared where the manifest has them; their grids have to
    agree, and the label map's ids have to be the manifest's.
    """
    findings: list[Finding] = []
    for done, case in enumerate(dataset.cases, start=1):
        found = [Finding(case.case_id, error.code, str(error)) for error in _errors(dataset, case)]
        findings += found
        message = "\n".join(f"{finding.case_id}: {finding.code} {finding.message}" for finding in found)
        notify(Progress("check", done, len(dataset.cases), note=case.case_id, message=message))
    return findings


def _errors(dataset: Dataset, case: Case) -> Iterator[MedsegError]:
    """Yield everything that is wrong with one case."""
    volume = label_map = None
    try:
        volume = read_volume(dataset.image(case), channels=dataset.manifest.channels)
    except MedsegError as error:
        yield error
    try:
        label_map = read_label_map(dataset.label(case))
        label_map.check_ids(dataset.manifest.label_set)
    except MedsegError as error:
        yield error
    if volume and label_map:
        try:
            label_map.aligned_to(volume.geometry)
        except MedsegError as error:
            yield error
    for what, checksum in case.sha256.items():
        path = dataset.folder / (case.image[0] if what == "image" else case.label or "")
        if path.is_file() and sha256_of(path) != checksum:
            yield altered(path)


def altered(path: Path) -> ChecksumError:
    """Return the error of a file that is not the manifest's."""
    return ChecksumError(
        f"checking {path}",
        found="its SHA-256 is not the one in the manifest",
        remedy="download it again, or correct the manifest if the change is wanted",
    )

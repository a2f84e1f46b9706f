"""Scans: what a pretraining learns from, labelled or not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.cases import find_cases
from medseg.dataset import Dataset, is_dataset, open_dataset
from medseg.errors import DuplicateCaseError, MedsegError, NoCasesError, OptionError
from medseg.progress import Notify, ignore
from medseg.volume import Source, read_volume
from medseg.volume.source import duplicate_ids

# A scan of every so many patients is held out, where there are enough of them to lose one.
EVERY, ENOUGH = 10, 5


@dataclass(frozen=True)
class Scan:
    """One scan.

    Attributes:
        source: its voxels; they have its case id.
        patient_id: whose it is, as the dataset or a DICOM series says; any other scan is of a patient of its own.
    """

    source: Source
    patient_id: str

    @property
    def case_id(self) -> str:
        """Its id."""
        return self.source.case_id


@dataclass(frozen=True)
class Scans:
    """What was found to learn from.

    Attributes:
        found: the scans.
        datasets: those among the places that were datasets.
        failed: case id → why it cannot be had.
    """

    found: tuple[Scan, ...]
    datasets: tuple[Dataset, ...] = ()
    failed: dict[str, MedsegError] = field(default_factory=dict)

    def channels(self) -> int:
        """Return how many channels the scans have: as their dataset says, or as the first one that can be read has.

        Raises:
            OptionError: the datasets do not agree.
            NoCasesError: there is no dataset, and no scan can be read.
        """
        told = {dataset.manifest.channels for dataset in self.datasets}
        if len(told) > 1:
            raise OptionError(
                "--data of several datasets",
                found=f"their images have {' and '.join(map(str, sorted(told)))} channels",
                remedy="pretrain on images of one kind",
            )
        if told:
            return told.pop()
        first: MedsegError | None = next(iter(self.failed.values()), None)
        for scan in self.found:
            try:
                return read_volume(scan.source, channels=None).channels
            except MedsegError as error:
                first = first or error
        raise NoCasesError(
            "choosing scans",
            found=f"none of {len(self.found) + len(self.failed)} can be read"
            + (f"; the first says {first.code} {first}" if first else ""),
            remedy="give scans as `medseg predict` takes them, or a dataset",
        )


def find_scans(places: Sequence[Path], *, fold: int | None = None, notify: Notify = ignore) -> Scans:
    """Return the scans of datasets (`is_dataset`) and of whatever `find_cases` takes.

    Of a dataset these are the training cases, with and without a label. Its test scans are left alone: a network that
    has learnt from them, labels or not, has seen them.

    Args:
        places: where to look.
        fold: the fold whose cases are left out, of each dataset.
        notify: hears how many were found.

    Raises:
        OptionError: a fold of what is no dataset, or no such fold.
        DuplicateCaseError: a case id stands in two of the places.
        MissingFileError, ManifestError…: a dataset cannot be opened.
    """
    datasets = tuple(open_dataset(place, notify=notify) for place in places if is_dataset(place))
    others = [place for place in places if not is_dataset(place)]
    if fold is not None and others:
        raise OptionError(
            f"--fold {fold}", found=f"{others[0]} is no dataset, so it has no folds", remedy="leave --fold out"
        )
    cases = find_cases(others, notify=notify).own if others else ()
    scans = [Scan(case.source, _patient(case.source) or case.case_id) for case in cases if case.source]
    failed = {case.case_id: case.error for case in cases if case.error}
    for dataset in datasets:
        for case in dataset.sides(fold)[0]:
            try:
                scans.append(Scan(dataset.image(case), case.patient_id))
            except MedsegError as error:
                failed[case.case_id] = error
    if repeated := duplicate_ids([scan.case_id for scan in scans]):
        raise DuplicateCaseError(
            "looking for scans to pretrain on",
            found=f"the case id {sorted(repeated)[0]!r} stands in several places",
            remedy="rename one of the scans",
        )
    return Scans(tuple(scans), datasets, failed)


def hold_out(scans: Sequence[Scan]) -> tuple[list[Scan], list[Scan]]:
    """Return the scans to learn from, and those of every tenth patient; of less than five patients, none are held out.

    Patients are counted in the order of their ids.
    """
    patients = sorted({scan.patient_id for scan in scans})
    chosen = set(patients[::EVERY]) if len(patients) >= ENOUGH else set()
    own = [scan for scan in scans if scan.patient_id not in chosen]
    return own, [scan for scan in scans if scan.patient_id in chosen]


def _patient(source: Source) -> str:
    """Return whose scan a DICOM series is, where that is said; nothing of other files."""
    return source.series.slices[0].patient if source.series and source.series.slices else ""

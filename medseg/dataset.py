"""Dataset: a manifest, the folder its files are in, and the folds its cases belong to."""

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.errors import (
    ChecksumError,
    DuplicateCaseError,
    ManifestError,
    MissingFileError,
    NoCasesError,
    OptionError,
    PatientInTwoFoldsError,
)
from medseg.labels import LabelSet
from medseg.manifest import LISTING, Case, Manifest, read_manifest
from medseg.progress import Notify, Progress, ignore
from medseg.shipped import manifest_path, shipped
from medseg.volume import Source, find_source
from medseg.volume.source import duplicate_ids

FOLDS = 5
# nnU-Net's: its five folds over the sorted cases come out the same here when every patient has one case.
FOLD_SEED = 12345


class Dataset:
    """A manifest and the folder its paths start from.

    Attributes:
        manifest: what the dataset holds.
        folder: where it is.
        shipped: the name of the shipped manifest that this is; None where the dataset brings its own.
        folds: case id → fold, 0 to 4.
    """

    def __init__(self, manifest: Manifest, folder: Path, *, shipped: str | None = None) -> None:
        self.manifest = manifest
        self.folder = folder
        self.shipped = shipped
        self._check_ids()
        self.folds = assign_folds(manifest.training)

    def _check_ids(self) -> None:
        repeated = duplicate_ids([case.case_id for case in self.manifest.training])
        if repeated:
            raise DuplicateCaseError(
                f"reading the manifest {self.manifest.name}",
                found=f"the case id {sorted(repeated)[0]!r} stands there more than once",
                remedy="give each case an id of its own (case_id)",
            )

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases with a reference."""
        return self.manifest.training

    def image(self, case: Case) -> Source:
        """Return where a case's image lies: one file per channel, or a DICOM series (a folder, a file or a zip)."""
        paths = tuple(self.folder / path for path in case.image)
        if len(paths) == 1 and paths[0].exists():
            return replace(find_source(paths[0]), case_id=case.case_id)
        return Source(case.case_id, paths)

    def label(self, case: Case) -> Path:
        """Return where a case's reference lies: an image file, a DICOM SEG or an RTSTRUCT."""
        if case.label is None:
            raise ManifestError(
                f"case {case.case_id}", found="the manifest names no label map for it", remedy="add its label"
            )
        return self.folder / case.label

    def altered(self, case: Case, digests: Mapping[Path, str] | None = None) -> Iterator[ChecksumError]:
        """Yield an error for each of a case's files that can be read and has not the SHA-256 of the manifest.

        Args:
            case: the case.
            digests: file → its SHA-256, where these are known already.
        """
        known = digests or {}
        for what, checksum in case.sha256.items():
            path = self.folder / (case.image[0] if what == "image" else case.label or "")
            readable = path in known or (path.is_file() and os.access(path, os.R_OK))
            if readable and (known.get(path) or sha256_of(path)) != checksum:
                yield ChecksumError(
                    f"checking {path}",
                    found="its SHA-256 is not the one in the manifest",
                    remedy="download it again, or correct the manifest if the change is wanted",
                )

    def split(self, fold: int | None, labels: LabelSet | None = None) -> tuple[list[Case], list[Case]]:
        """Return the cases to train on and those to validate on.

        Args:
            fold: the fold held out; None trains on every case and validates on the same ones, so that the scores are
                scores on training data.
            labels: what is segmented; cases that have none of them are left out. None is every label of the dataset.

        Raises:
            OptionError: no such fold.
            NoCasesError: a side of the split would be empty.
            ManifestError: none of the cases to train on has a label, or one of the labels.
        """
        labels = self.manifest.label_set if labels is None else labels
        sides = self.sides(fold)
        training, held_out = ([case for case in side if self.teaches(case, labels)] for side in sides)
        everywhere = {label for case in training for label in self.present(case, labels)}
        lacking = [label.name for label in labels if label not in everywhere]
        if lacking:
            raise ManifestError(
                f"training on {self.manifest.name}" + ("" if fold is None else f" without fold {fold}"),
                found=f"by their labels_present, none of {len(sides[0])} case(s) has the label {lacking[0]!r}",
                remedy="add a case that has it, or name the other labels in the recipe",
            )
        if not held_out:
            raise NoCasesError(
                f"--fold {fold}",
                found=f"by their labels_present, none of its {len(sides[1])} case(s) has a label to score",
                remedy="hold another fold out",
            )
        return training, held_out

    def present(self, case: Case, labels: LabelSet) -> LabelSet:
        """Return those of some labels that a case has."""
        return labels if case.labels_present is None else labels.present_in(self.manifest.labels_of(case))

    def teaches(self, case: Case, labels: LabelSet) -> bool:
        """Return whether a case has any of some labels."""
        return case.labels_present is None or len(self.present(case, labels)) > 0

    def partial(self, labels: LabelSet) -> bool:
        """Return whether a case lacks any of some labels."""
        return any(len(self.present(case, labels)) < len(labels) for case in self.cases)

    def sides(self, fold: int | None) -> tuple[list[Case], list[Case]]:
        """Return all cases not in a fold, and those in it; all of them twice where the fold is None.

        Raises:
            OptionError: no such fold.
            NoCasesError: the dataset names no case, or a side would be empty.
        """
        if not self.cases:
            raise NoCasesError(
                f"training on {self.manifest.name}",
                found="it names no labelled case",
                remedy=f'list them under "training" in {LISTING}; those of nnU-Net have their label maps in labelsTr',
            )
        if fold is None:
            return list(self.cases), list(self.cases)
        known = sorted(set(self.folds.values()))
        training = [case for case in self.cases if self.folds[case.case_id] != fold]
        held_out = [case for case in self.cases if self.folds[case.case_id] == fold]
        if fold not in known:
            raise OptionError(f"--fold {fold}", found=f"the dataset has the folds {known}", remedy="choose one of them")
        if not training:
            raise NoCasesError(
                f"--fold {fold}",
                found=f"all {len(held_out)} case(s) are in it, and none is left to train on",
                remedy="leave --fold out to train on every case",
            )
        return training, held_out


def assign_folds(cases: tuple[Case, ...]) -> dict[str, int]:
    """Return case id → fold; a patient's cases stay together.

    Cases that name their fold keep it. If none does, the patients are sorted, shuffled once and cut into five even
    parts (fewer when there are fewer patients).

    Raises:
        PatientInTwoFoldsError: the manifest puts one patient into two folds.
    """
    folds = {case.case_id: case.fold for case in cases if case.fold is not None}
    if folds and len(folds) < len(cases):
        lacking = next(case.case_id for case in cases if case.fold is None)
        raise ManifestError(
            "reading the folds", found=f"case {lacking} has none, others have", remedy="give every case a fold, or none"
        )
    if folds:
        _check_patients(cases, folds)
        return folds
    patients = sorted({case.patient_id for case in cases})
    shuffled = np.random.RandomState(FOLD_SEED).permutation(len(patients))
    parts = np.array_split(shuffled, min(FOLDS, max(1, len(patients))))
    by_patient = {patients[index]: fold for fold, part in enumerate(parts) for index in part}
    return {case.case_id: by_patient[case.patient_id] for case in cases}


def _check_patients(cases: tuple[Case, ...], folds: dict[str, int]) -> None:
    """Raise PatientInTwoFoldsError for the first patient whose cases are in several folds."""
    by_patient: dict[str, set[int]] = {}
    for case in cases:
        by_patient.setdefault(case.patient_id, set()).add(folds[case.case_id])
    torn = sorted(patient for patient, several in by_patient.items() if len(several) > 1)
    if torn:
        where = " and ".join(map(str, sorted(by_patient[torn[0]])))
        more = f", and so it is with {len(torn) - 1} more" if len(torn) > 1 else ""
        raise PatientInTwoFoldsError(
            f"reading the folds of patient {torn[0]}",
            found=f"folds {where}: validation would see training data{more}",
            remedy="put all cases of a patient into one fold",
        )


def open_dataset(data: Path, *, manifest: str | None = None, notify: Notify = ignore) -> Dataset:
    """Open a dataset.

    Args:
        data: a folder with a dataset.json; a manifest file, whose paths start from its folder; or a folder without a
            dataset.json that a shipped manifest describes.
        manifest: the shipped manifest's name, from the recipe; None is the one whose files these are.
        notify: hears when a folder is taken for a dataset that comes with medseg.

    Raises:
        MissingFileError, ManifestError, DuplicateCaseError, PatientInTwoFoldsError: what is wrong with it.
    """
    if not data.exists():
        raise MissingFileError(
            f"opening the dataset {data}",
            found="there is nothing at this path",
            remedy="check the path and its spelling",
        )
    if data.is_file():
        return _opened(data, data.parent)
    if (data / LISTING).is_file():
        return _opened(data / LISTING, data)
    if manifest is None and (manifest := shipped_manifest_of(data)):
        told = f"{data} holds the cases of {manifest}, and is taken for that dataset; what else lies there is left out"
        notify(Progress("open", 0, 0, message=told))
    if manifest is None:
        raise ManifestError(
            f"opening the dataset {data}",
            found=f"the folder holds no {LISTING}, nor the files of a manifest that comes with medseg",
            remedy="write one in the Decathlon's form, or give a manifest file",
        )
    return _opened(manifest_path(manifest), data, shipped=manifest)


def is_dataset(path: Path) -> bool:
    """Return whether a path is a dataset by itself: a manifest, or a folder that `open_dataset` takes as it is."""
    return path.suffix == ".json" or (path / LISTING).is_file() or shipped_manifest_of(path) is not None


def shipped_manifest_of(data: Path) -> str | None:
    """Return the name of the shipped manifest whose labelled cases all lie in a folder.

    Returns:
        None where data is a manifest itself, or a folder with a dataset.json, and where no shipped manifest names just
        such files, or several do.
    """
    if not data.is_dir() or (data / LISTING).is_file():
        return None
    found = [name for name, files in _shipped_files() if all((data / file).exists() for file in files)]
    return found[0] if len(found) == 1 else None


@functools.cache
def _shipped_files() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the name of each shipped manifest with labelled cases, and the files of these."""
    manifests = {name: read_manifest(path).training for name, path in shipped("data_manifests", ".json").items()}
    return tuple(
        (name, tuple(file for case in cases for file in (*case.image, case.label) if file))
        for name, cases in manifests.items()
        if cases
    )


def _opened(listing: Path, folder: Path, *, shipped: str | None = None) -> Dataset:
    """Return the dataset that a manifest describes, if at least one of its cases lies in the folder."""
    dataset = Dataset(read_manifest(listing), folder, shipped=shipped)
    images = [image for case in dataset.cases for image in case.image]
    apart = listing.parent != folder
    if any((folder / image).exists() for image in images) or not (images or apart):
        return dataset
    name = listing.stem if apart else listing.name
    raise MissingFileError(
        f"opening the dataset {folder}",
        found=(f"the folder holds no {LISTING}, and " if apart else "")
        + (f"none of the {len(dataset.cases)} case(s) of {name} is there" if images else f"{name} names no case"),
        remedy="give the dataset's own folder" + (f", in which {images[0]} lies" if images else f" with its {LISTING}"),
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Prepare cases once, and find them again under a key of everything they depend on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.atomic import locked, unwritable
from medseg.dataset import Dataset, sha256_of
from medseg.labels import LabelSet
from medseg.manifest import Case
from medseg.prepared_case import PreparedCase, unlabelled
from medseg.preprocess.points import some_points
from medseg.preprocess.prepare import prepare
from medseg.recipe import Preprocess, Sample
from medseg.volume import LabelMap, Source, Volume, find_label_map, read_reference, read_volume, resample

# Raise it when preparing or its files change: it is part of every key, so old entries are no longer found.
PREPARED_FORM = 6


def prepare_case(
    dataset: Dataset, case: Case, *, settings: Preprocess, labels: LabelSet, cache: Path, sample: Sample = "voxels"
) -> Path:
    """Return the folder of a case prepared, made anew only when its files or the settings have changed.

    Args:
        dataset: says where the case's files are.
        case: the case.
        settings: the recipe's `preprocess` section.
        labels: what is segmented.
        cache: the folder of prepared cases; an entry is found by the content of the files and the settings, so a
            changed recipe or file is prepared afresh.
        sample: the recipe's `training.sample`, which the voxels kept for drawing patches follow.

    Raises:
        MedsegError: the image or the label map cannot be used; `errors.py` lists the codes.
    """
    image, reference, named = dataset.image(case), find_label_map(dataset.label(case)), dataset.manifest.labels_of(case)
    channels, digests = dataset.manifest.channels, _digests([*_files(image), *_files(reference)])
    for error in dataset.altered(case, digests):
        raise error
    key = _key(list(digests.values()), settings, labels, named, sample, channels)

    def make() -> PreparedCase:
        volume = read_volume(image, channels=channels)
        label_map = read_reference(reference, geometry=volume.geometry, labels=named)
        present = tuple(label in dataset.present(case, labels) for label in labels)
        return _prepare(case.case_id, volume, label_map, settings, labels, present, sample)

    return _cached(cache / f"{case.case_id}-{key[:16]}", make)


def prepare_scan(source: Source, *, channels: int, settings: Preprocess, cache: Path) -> Path:
    """Return the folder of a scan prepared without labels, made anew only when its files or the settings have changed.

    Args:
        source: the scan.
        channels: how many it has to have.
        settings: the recipe's `preprocess` section.
        cache: the folder of prepared cases.

    Raises:
        MedsegError: the scan cannot be used; `errors.py` lists the codes.
    """
    facts = {"form": PREPARED_FORM, "settings": settings.model_dump(mode="json"), "channels": channels}
    key = _hash(facts | {"files": list(_digests(_files(source)).values())})

    def make() -> PreparedCase:
        volume = read_volume(source, channels=channels)
        prepared = prepare(volume, settings)
        return PreparedCase(
            case_id=source.case_id,
            image=prepared.array,
            label_map=unlabelled(prepared.geometry.shape),
            points_voxel=(),
            geometry=prepared.geometry,
            native=volume.geometry,
            present=(),
        )

    return _cached(cache / f"{source.case_id}-{key[:16]}", make)


def _cached(folder: Path, make: Callable[[], PreparedCase]) -> Path:
    """Return the folder of a prepared case, made where it is not there: by one of several runs, while others wait."""
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    with locked(folder):
        if not folder.is_dir():
            make().save(folder)
    return folder


def _prepare(
    case_id: str,
    volume: Volume,
    label_map: LabelMap,
    settings: Preprocess,
    labels: LabelSet,
    present: tuple[bool, ...],
    sample: Sample,
) -> PreparedCase:
    """Prepare a scan and the label map on its grid."""
    prepared = prepare(volume, settings)
    array = label_map.array.astype(np.promote_types(label_map.array.dtype, np.min_scalar_type(labels.beyond)))
    ids = resample(array, source=volume.geometry, target=prepared.geometry, order=0, fill=labels.beyond)
    masks = (labels.mask(ids, label) & known for label, known in zip(labels, present, strict=True))
    ignored = np.isin(ids, sorted(labels.ignored_ids))
    return PreparedCase(
        case_id=case_id,
        image=prepared.array,
        label_map=ids,
        points_voxel=tuple(some_points(mask, sample) for mask in masks),
        geometry=prepared.geometry,
        native=volume.geometry,
        present=present,
        labelled_voxel=some_points(~ignored) if ignored.any() else None,
    )


def _key(
    digests: list[str], settings: Preprocess, labels: LabelSet, named: LabelSet, sample: Sample, channels: int
) -> str:
    """Return a hash of the content of the files and of everything else that a prepared case depends on."""
    facts: dict[str, Any] = {
        "form": PREPARED_FORM,
        "channels": channels,
        "sample": sample,
        "settings": settings.model_dump(mode="json"),
        "labels": [label.parts for label in labels],
        "known_ids": sorted(named.known_ids),
        "ignored_ids": sorted(named.ignored_ids),
        "names": [(label.id, label.name) for label in named],
        "files": digests,
    }
    return _hash(facts)


def _digests(paths: Sequence[Path]) -> dict[Path, str]:
    """Return file → its SHA-256, for each that is there."""
    return {path: sha256_of(path) for path in paths if path.is_file()}


def _hash(facts: dict[str, Any]) -> str:
    """Return a hash of plain facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _files(source: Source) -> list[Path]:
    """Return the files of a source; one that cannot be read fails where it is read."""
    try:
        return source.files
    except OSError:
        return list(source.paths)

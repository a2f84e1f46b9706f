"""Prepare labelled cases once, and find them again under a key of everything they depend on."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.dataset import Dataset, sha256_of
from medseg.labels import LabelSet
from medseg.manifest import Case
from medseg.prepared_case import PreparedCase
from medseg.preprocess.prepare import prepare
from medseg.recipe import Preprocess
from medseg.volume import LabelMap, Source, Volume, find_label_map, read_reference, read_volume, resample

# Raise it when the arithmetic of preparing changes: it is part of every key, so old entries are no longer found.
PREPARED_FORM = 1
# Enough voxels of a label to draw patch centres from; large organs have millions.
POINTS_PER_LABEL = 10_000


def prepare_case(dataset: Dataset, case: Case, *, settings: Preprocess, labels: LabelSet, cache: Path) -> Path:
    """Return the folder of a case prepared, made anew only when its files or the settings have changed.

    Args:
        dataset: says where the case's files are.
        case: the case.
        settings: the recipe's `preprocess` section.
        labels: what is segmented.
        cache: the folder of prepared cases; an entry is found by the content of the files and the settings, so a
            changed recipe or file is prepared afresh.

    Raises:
        MedsegError: the image or the label map cannot be used; `errors.py` lists the codes.
    """
    image, reference, named = dataset.image(case), find_label_map(dataset.label(case)), dataset.manifest.label_set
    folder = cache / f"{case.case_id}-{_key([*_files(image), *_files(reference)], settings, labels, named)[:16]}"
    if not folder.is_dir():
        volume = read_volume(image, channels=dataset.manifest.channels)
        label_map = read_reference(reference, geometry=volume.geometry, labels=named)
        _prepare(case.case_id, volume, label_map, settings=settings, labels=labels).save(folder)
    return folder


def _prepare(
    case_id: str, volume: Volume, label_map: LabelMap, *, settings: Preprocess, labels: LabelSet
) -> PreparedCase:
    """Prepare a scan and the label map on its grid."""
    prepared = prepare(volume, settings)
    ids = resample(label_map.array, source=volume.geometry, target=prepared.geometry, order=0)
    return PreparedCase(
        case_id=case_id,
        image=prepared.array,
        label_map=ids,
        points_voxel=tuple(_some_points(labels.mask(ids, label)) for label in labels),
        geometry=prepared.geometry,
        native=volume.geometry,
    )


def _key(paths: list[Path], settings: Preprocess, labels: LabelSet, named: LabelSet) -> str:
    """Return a hash of the content of the files and of everything else that a prepared case depends on."""
    facts: dict[str, Any] = {
        "form": PREPARED_FORM,
        "settings": settings.model_dump(mode="json"),
        "labels": [label.parts for label in labels],
        "known_ids": sorted(labels.known_ids),
        "names": [(label.id, label.name) for label in named],
        "files": [sha256_of(path) for path in paths if path.is_file()],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _files(source: Source) -> list[Path]:
    """Return the files of a source; one that cannot be read fails where it is read."""
    try:
        return source.files
    except OSError:
        return list(source.paths)


def _some_points(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return up to POINTS_PER_LABEL voxels of a mask, evenly picked, shape (n, 3)."""
    hits = np.flatnonzero(mask)
    if len(hits) > POINTS_PER_LABEL:
        hits = hits[np.linspace(0, len(hits) - 1, POINTS_PER_LABEL).astype(np.intp)]
    return np.stack(np.unravel_index(hits, mask.shape), axis=1).astype(np.int32)

"""Look: read every case of a dataset once, and keep what a recipe depends on."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.axes import Sides
from medseg.dataset import Dataset
from medseg.errors import ManifestError, MedsegError, NoCasesError, OutOfMemoryError
from medseg.labels import Label, LabelSet
from medseg.manifest import Case
from medseg.plan.facts import CaseFacts, Facts, Intensities, LabelFacts, Point, Spacing
from medseg.preprocess.prepare import prepared_geometry
from medseg.processor import cores
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Preprocess
from medseg.volume import Geometry, Volume, find_label_map, read_reference, read_volume
from medseg.volume.plausible import hu_remarks

# Reading waits for the disk and inflates outside Python's lock; more threads than these hold too many scans at once.
MOST_READERS = 4
# Below every tissue but lung and above air, so that a body's box hardly depends on the window a recipe will have.
BODY_HU = -200.0
# Of each label in each case, so that a large organ does not drown a small one; fewer where labels and cases are many.
VOXELS_PER_LABEL, LEAST_PER_LABEL, MOST_SAMPLES = 2_000, 20, 10_000_000

Samples = NDArray[np.float32]  # intensities inside labels, shape (C, n)


def look_at(dataset: Dataset, *, notify: Notify = ignore) -> Facts:
    """Read every case with a reference and return the facts of them all.

    Args:
        dataset: its cases may be in any format and orientation.
        notify: hears of each case, and of each that cannot be read, which is left out.

    Raises:
        NoCasesError: the dataset has no labelled case, or none can be read.
        ManifestError: no case shows any of the labels.
        OutOfMemoryError: the cases are too large for the memory there is.
    """
    dataset.sides(None)
    started = time.perf_counter()
    cases: list[CaseFacts] = []
    samples: dict[str, Samples] = {}
    left_out: dict[str, str] = {}
    for case, seen in _each(dataset, dataset.cases, notify):
        if isinstance(seen, MedsegError):
            left_out[case.case_id] = f"{seen.code} {seen}"
        else:
            cases.append(seen[0])
            samples[case.case_id] = seen[1]
    if not cases:
        raise NoCasesError(
            f"looking at {dataset.manifest.name}",
            found=f"none of {len(left_out)} case(s) can be read; the first says {next(iter(left_out.values()))}",
            remedy="mend the cases; `medseg data check` lists what is wrong with each",
        )
    labels = dataset.manifest.label_set
    fold, held_out = _held_out(dataset, {name for case in cases for name in case.labels}, left_out)
    facts = Facts(
        name=dataset.manifest.name,
        manifest=dataset.shipped,
        modalities=tuple(name for _, name in sorted(dataset.manifest.modality.items())),
        labels=tuple(label.name for label in labels),
        cases=tuple(cases),
        intensities=_intensities(cases, samples),
        partial=dataset.partial(labels),
        masked=dataset.partial(labels) or bool(labels.ignored_ids),
        fold=fold,
        held_out=held_out,
        left_out=left_out,
        seconds=time.perf_counter() - started,
    )
    if not facts.found:
        raise ManifestError(
            f"looking at {facts.name}",
            found=f"none of {len(cases)} label map(s) shows a label",
            remedy="check that they were drawn and saved, and that the manifest names their ids",
        )
    return facts


def _held_out(dataset: Dataset, found: Collection[str], left_out: Collection[str]) -> tuple[int | None, int]:
    """Return the first fold without which training has cases and every label that is found, and how many it scores.

    None where there is no such fold; every case is scored then.
    """
    labels = dataset.manifest.label_set.select({name: [name] for name in found})
    for fold in sorted(set(dataset.folds.values())):
        with suppress(ManifestError, NoCasesError):
            sides = dataset.split(fold, labels)
            training, scored = ([case for case in side if case.case_id not in left_out] for side in sides)
            if training and scored:
                return fold, len(scored)
    return None, len(dataset.cases) - len(left_out)


def _each(
    dataset: Dataset, cases: Sequence[Case], notify: Notify
) -> Iterator[tuple[Case, tuple[CaseFacts, Samples] | MedsegError]]:
    """Yield each case with what is seen of it, in their order, some read at a time."""
    several = max(1, len(cases) * len(dataset.manifest.label_set))
    most = max(LEAST_PER_LABEL, min(VOXELS_PER_LABEL, MOST_SAMPLES // several))

    def look(case: Case) -> tuple[CaseFacts, Samples] | MedsegError:
        try:
            return look_at_case(dataset, case, samples_per_label=most)
        except MemoryError as error:
            raise OutOfMemoryError(
                f"looking at case {case.case_id}",
                found=str(error) or "memory does not suffice",
                remedy="end other programs, or plan on a machine with more memory",
            ) from error
        except MedsegError as error:
            return error

    pool = ThreadPoolExecutor(min(MOST_READERS, cores()))
    try:
        for done, (case, seen) in enumerate(zip(cases, pool.map(look, cases), strict=True), start=1):
            failed = isinstance(seen, MedsegError)
            message = f"{case.case_id} is left out: {seen.code} {seen}" if isinstance(seen, MedsegError) else ""
            notify(Progress("look", done, len(cases), note="" if failed else case.case_id, message=message))
            yield case, seen
    finally:
        pool.shutdown(cancel_futures=True)


def look_at_case(
    dataset: Dataset, case: Case, *, samples_per_label: int = VOXELS_PER_LABEL
) -> tuple[CaseFacts, Samples]:
    """Return the facts of one case, and some intensities from inside each of its labels, shape (C, n).

    Raises:
        MedsegError: the image or the label map cannot be used.
    """
    manifest = dataset.manifest
    labels = manifest.labels_of(case)
    volume = read_volume(dataset.image(case), channels=manifest.channels)
    ids = read_reference(find_label_map(dataset.label(case)), geometry=volume.geometry, labels=labels).array
    tomograms = all(name.strip().upper() == "CT" for name in manifest.modality.values())
    whole = prepared_geometry(volume, Preprocess())
    window_hu = (BODY_HU, BODY_HU + 1) if tomograms else None
    inside = prepared_geometry(volume, Preprocess(crop="foreground", window_hu=window_hu))
    facts = CaseFacts(
        case_id=case.case_id,
        shape=whole.shape,
        inside=inside.shape,
        labelled=labelled_box(ids, labels, volume.geometry),
        spacing_mm=whole.spacing_mm,
        middle_mm=point(volume.geometry, (np.array(volume.geometry.shape) - 1) / 2),
        hounsfield=tomograms and not hu_remarks(volume),
        labels=label_facts(ids, labels, volume.geometry),
    )
    return facts, _samples(volume, ids, labels, most=samples_per_label)


def labelled_box(ids: NDArray[Any], labels: LabelSet, geometry: Geometry) -> Sides:
    """Return the sides of the box around all labels of a label map, its axes turned to RAS; 0 without any."""
    shown = np.isin(ids, [label.id for label in labels])
    if not shown.any():
        return 0, 0, 0
    return prepared_geometry(Volume(shown[None].astype(np.uint8), geometry), Preprocess(crop="foreground")).shape


def label_facts(ids: NDArray[Any], labels: LabelSet, geometry: Geometry) -> dict[str, LabelFacts]:
    """Return name → facts of every label that a label map, shape (I, J, K), shows."""
    spacing_mm = geometry.spacing_mm
    found: dict[str, LabelFacts] = {}
    for label, box in _boxes(ids, labels):
        mask = ids[box] == label.id
        voxels = int(mask.sum())
        volume_mm3 = voxels * float(np.prod(spacing_mm))
        found[label.name] = LabelFacts(
            voxels=voxels,
            volume_ml=volume_mm3 / 1000,
            components=int(ndimage.label(mask)[1]),
            thickness_mm=4 * volume_mm3 / surface_mm2(mask, spacing_mm, within=ids.shape),
            centre_mm=point(geometry, centre(mask) + [part.start for part in box]),
        )
    return found


def _boxes(ids: NDArray[Any], labels: LabelSet) -> Iterator[tuple[Label, tuple[slice, ...]]]:
    """Yield the labels that a label map, shape (I, J, K), shows, each with the box around it."""
    boxes = ndimage.find_objects(ids)
    for label in labels:
        if label.id <= len(boxes) and boxes[label.id - 1] is not None:
            yield label, boxes[label.id - 1]


def centre(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return where the voxels of a mask lie in the mean; it has at least one."""
    axes = range(mask.ndim)
    counts = [mask.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    return np.array([np.average(np.arange(len(along)), weights=along) for along in counts])


def point(geometry: Geometry, voxel: NDArray[np.float64]) -> Point:
    """Return where a place among the voxels lies in the world."""
    x, y, z = map(float, geometry.to_world(voxel))
    return x, y, z


def surface_mm2(mask: NDArray[np.bool_], spacing_mm: Spacing, *, within: Sequence[int]) -> float:
    """Return the area of the voxel faces between a mask, shape (I, J, K), and what is around it; 0 for an empty one.

    Along an axis of which the scan it is `within`, of three sides, has one slice only, nothing is known of what is
    around it, and there are no faces; a scan of one voxel has all of its six.
    """
    padded = np.pad(mask, 1)
    area = float(np.prod(spacing_mm))
    known = [axis for axis, side in enumerate(within) if side > 1] or range(3)
    return sum(float(np.count_nonzero(np.diff(padded, axis=axis))) * area / spacing_mm[axis] for axis in known)


def _samples(volume: Volume, ids: NDArray[Any], labels: LabelSet, *, most: int) -> Samples:
    """Return intensities inside the labels, of each up to so many, evenly picked, shape (C, n)."""
    picked = [np.zeros((volume.channels, 0), np.float32)]
    for label, box in _boxes(ids, labels):
        hits = np.flatnonzero(ids[box] == label.id)
        if len(hits) > most:
            hits = hits[np.linspace(0, len(hits) - 1, most).astype(np.intp)]
        picked.append(volume.array[(slice(None), *box)].reshape(volume.channels, -1)[:, hits].astype(np.float32))
    return np.concatenate(picked, axis=1)


def _intensities(cases: Sequence[CaseFacts], samples: Mapping[str, Samples]) -> tuple[Intensities, ...]:
    """Return the percentiles of each channel; nothing where there are no samples.

    Of CTs those count that are in Hounsfield units, unless none of these shows a label.
    """
    proper = [samples[case.case_id] for case in cases if case.hounsfield]
    several = proper if any(some.size for some in proper) else list(samples.values())
    if not any(some.size for some in several):
        return ()
    channels = (np.concatenate(channel).astype(np.float64) for channel in zip(*several, strict=True))
    return tuple(Intensities(*map(float, np.percentile(channel, [0.5, 50, 99.5]))) for channel in channels)

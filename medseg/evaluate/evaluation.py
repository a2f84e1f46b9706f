"""Evaluate: predictions and references in, metrics.csv and summary.json out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.atomic import write_json
from medseg.errors import DuplicateCaseError, MedsegError, MissingFileError, PackageError
from medseg.labels import LabelSet
from medseg.metrics import CaseScore, score_label_map, summarise, write_metrics
from medseg.progress import Notify, Progress, ignore
from medseg.run import Run
from medseg.volume import Source, find_label_map, look_through, read_pair, shared_labels
from medseg.volume.find import empty
from medseg.volume.source import duplicate_ids


@dataclass(frozen=True)
class Evaluation:
    """The scores, and what could not be scored.

    Attributes:
        rows: one per case and label.
        summary: as in summary.json.
        failed: case id → why it has no scores.
        unpredicted: references without a prediction.
    """

    rows: list[CaseScore]
    summary: dict[str, Any]
    failed: dict[str, MedsegError]
    unpredicted: list[str]


def evaluate(
    predictions: Path,
    references: Path,
    folder: Path,
    *,
    labels: LabelSet | None = None,
    partial: Mapping[str, LabelSet] | None = None,
    notify: Notify = ignore,
) -> Evaluation:
    """Score predictions, and write metrics.csv and summary.json.

    Args:
        predictions: a label map (an image file, a DICOM SEG or an RTSTRUCT), or a folder of them.
        references: a label map, or a folder with one of the same case id for each prediction.
        folder: where the results go.
        labels: what to score; None takes the labels that the predictions' run.json names, or else those that the files
            of the case name, by which they are matched, and every other id that occurs.
        partial: case id → the labels that its reference has, where it lacks some; it is scored on these alone.
        notify: hears of each case.

    Raises:
        MissingFileError, EmptyFolderError: there is nothing to score.
        DuplicateCaseError: a folder holds a case id twice.
        PackageError: the predictions are a run of pretraining, which segments nothing.
        UnwritableError: the results cannot be written.
    """
    _refuse_pretrained(predictions)
    Run(folder)
    pairs, failed, unpredicted = _pairs(predictions, references)
    labels = labels or run_labels(predictions)
    rows: list[CaseScore] = []
    for case_id, error in failed.items():
        notify(Progress("evaluate", 0, len(pairs), message=f"{case_id}: {error.code} {error}"))
    for done, (case_id, prediction, reference) in enumerate(pairs, start=1):
        message = ""
        try:
            rows += _score(case_id, prediction, reference, labels, (partial or {}).get(case_id))
        except MedsegError as error:
            failed[case_id] = error
            message = f"{case_id}: {error.code} {error}"
        notify(Progress("evaluate", done, len(pairs), note=case_id, message=message))
    summary = {
        "predictions": str(predictions),
        "references": str(references),
        "n_failed": len(failed),
        "n_unpredicted": len(unpredicted),
        "failed": {case_id: error.as_json() for case_id, error in failed.items()},
        "unpredicted": unpredicted,
        **summarise(rows),
    }
    write_metrics(folder / "metrics.csv", rows)
    write_json(folder / "summary.json", summary)
    return Evaluation(rows, summary, failed, unpredicted)


def run_labels(predictions: Path) -> LabelSet | None:
    """Return the labels of the run that made a folder of predictions, or None where it left no run.json."""
    try:
        return LabelSet.from_json(_record(predictions)["labels"])
    except (ValueError, KeyError, TypeError):
        return None


def _record(predictions: Path) -> Any:
    """Return what the run.json beside predictions says; nothing where there is none that can be read."""
    record = predictions / "run.json" if predictions.is_dir() else predictions.parent / "run.json"
    try:
        return json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _refuse_pretrained(predictions: Path) -> None:
    """Raise PackageError for a run that has pretrained a network, which segments nothing yet."""
    record = _record(predictions)
    if isinstance(record, dict) and record.get("command") == "pretrain":
        raise PackageError(
            f"evaluating {predictions}",
            found="it is a run of pretraining, whose network tells no labels",
            remedy=f"train it on labelled cases: medseg train RECIPE --data DATASET --from {predictions}",
        )


Pair = tuple[str, Source, Source]


def _pairs(predictions: Path, references: Path) -> tuple[list[Pair], dict[str, MedsegError], list[str]]:
    """Match predictions and references by case id; two files are a pair whatever their names."""
    if predictions.is_file() and references.is_file():
        prediction, reference = find_label_map(predictions), find_label_map(references)
        return [(prediction.case_id, prediction, reference)], {}, []
    predicted, referred = _by_case(predictions), _by_case(references)
    failed: dict[str, MedsegError] = {
        case_id: MissingFileError(
            f"evaluating {source.place}",
            found=f"there is no reference of the case id {case_id!r} in {references}",
            remedy="name the reference like the prediction",
        )
        for case_id, source in predicted.items()
        if case_id not in referred
    }
    pairs = [(case_id, source, referred[case_id]) for case_id, source in predicted.items() if case_id in referred]
    return pairs, failed, sorted(set(referred) - set(predicted))


def _by_case(path: Path) -> dict[str, Source]:
    """Return the label maps at a path by their case; of a case in several forms the most exact is taken."""
    found = look_through(path)
    if found.refused:
        raise found.refused[0][1]
    segmented = {source.case_id for source in found.annotations if source.kind == "segmentation"}
    sources = [s for s in found.label_maps if s.kind != "structures" or s.case_id not in segmented]
    if not sources:
        raise empty(path, found)
    repeated = duplicate_ids([source.case_id for source in sources])
    if repeated:
        raise DuplicateCaseError(
            f"evaluating {path}",
            found=f"the case id {sorted(repeated)[0]!r} stands there more than once",
            remedy="give each file a name of its own",
        )
    return {source.case_id: source for source in sources}


def _score(
    case_id: str, prediction: Source, reference: Source, labels: LabelSet | None, present: LabelSet | None
) -> Sequence[CaseScore]:
    named = labels or shared_labels(prediction, reference)
    images = prediction.kind == reference.kind == "file"
    predicted, referred = read_pair(prediction, reference, labels if images else named)
    if labels is None:
        named = (named or LabelSet.from_ids(())).with_ids(predicted.ids() | referred.ids())
    assert named is not None
    if present is not None:
        referred.check_ids(present)
        named = named.present_in(present)
    return score_label_map(predicted, referred, named, case_id=case_id)

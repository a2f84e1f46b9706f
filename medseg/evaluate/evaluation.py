"""Evaluate: predictions and references in, metrics.csv and summary.json out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.atomic import write_json
from medseg.errors import MedsegError, PackageError
from medseg.evaluate.pairs import Pair, find_pairs
from medseg.labels import LabelSet
from medseg.metrics import CaseScore, score_label_map, summarise, write_metrics
from medseg.progress import Notify, Progress, ignore
from medseg.run import Run, read_record
from medseg.volume import LabelMap, completed, names_in, numbered, read_pair, shared_labels


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
        labels: what to score, and what the references' ids mean; None takes the labels that the predictions' run.json
            names, or else those that the files of the case name, and every other id that occurs. Predictions and
            references that name their ids are matched with them by these names.
        partial: case id, or a reference's name → the labels that it has, where it lacks some; it is scored on these
            alone.
        notify: hears of each case.

    Raises:
        MissingFileError, EmptyFolderError: there is nothing to score.
        NoCasesError: no prediction is called like a reference.
        DuplicateCaseError: a folder holds a case id twice.
        PackageError: the predictions are a run of pretraining, which segments nothing.
        UnwritableError: the results cannot be written.
    """
    _refuse_pretrained(predictions)
    pairs = find_pairs(predictions, references)
    failed, unpredicted = pairs.failed, pairs.unpredicted
    Run(folder)
    made_with, known = run_labels(predictions), partial or {}
    rows: list[CaseScore] = []
    for case_id, error in failed.items():
        notify(Progress("evaluate", 0, len(pairs.found), message=f"{case_id}: {error.code} {error}"))
    for done, pair in enumerate(pairs.found, start=1):
        case_id = pair.case_id
        message = ""
        try:
            rows += _score(pair, labels, made_with, known.get(case_id, known.get(pair.reference.case_id)))
        except MedsegError as error:
            failed[case_id] = error
            message = f"{case_id}: {error.code} {error}"
        notify(Progress("evaluate", done, len(pairs.found), note=case_id, message=message))
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


def _record(predictions: Path) -> dict[str, Any]:
    """Return what the run.json beside predictions says; nothing where there is none."""
    return read_record(predictions if predictions.is_dir() else predictions.parent)


def _refuse_pretrained(predictions: Path) -> None:
    """Raise PackageError for a run that has pretrained a network, which segments nothing yet."""
    if _record(predictions).get("command") == "pretrain":
        raise PackageError(
            f"evaluating {predictions}",
            found="it is a run of pretraining, whose network tells no labels",
            remedy=f"train it on labelled cases: medseg train RECIPE --data DATASET --from {predictions}",
        )


def _score(
    pair: Pair, labels: LabelSet | None, made_with: LabelSet | None, present: LabelSet | None
) -> Sequence[CaseScore]:
    """Score a case on the labels asked for, or else on those of the run, as far as its reference has them."""
    named, predicted, referred = _read(pair, labels, made_with)
    if present is not None:
        referred.check_ids(present)
        named = named.present_in(present)
    return score_label_map(predicted, referred, named, case_id=pair.case_id)


def _read(pair: Pair, labels: LabelSet | None, made_with: LabelSet | None) -> tuple[LabelSet, LabelMap, LabelMap]:
    """Return the labels to score, and the prediction and the reference in their ids."""
    one, other = pair.prediction, pair.reference
    known = labels or made_with
    named = known or shared_labels(one, other)
    predicted, referred = read_pair(one, other, named)
    if known is None:
        return completed(named, (one, predicted), (other, referred)), predicted, referred
    predicted = numbered(predicted, one, known, names=names_in(one) or made_with)
    referred = numbered(referred, other, known, names=names_in(other), declared=labels is not None)
    return known, predicted, referred

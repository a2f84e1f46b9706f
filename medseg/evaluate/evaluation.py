"""Evaluate: predictions and references in, metrics.csv and summary.json out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.atomic import write_json
from medseg.errors import MedsegError, OptionError, PackageError
from medseg.evaluate.naming import Naming, record_of
from medseg.evaluate.pairs import Pair, find_pairs
from medseg.labels import LabelSet
from medseg.metrics import CaseScore, score_label_map, summarise, write_metrics
from medseg.progress import Notify, Progress, ignore
from medseg.run import VALIDATION, Run, read_record
from medseg.volume import LabelMap, completed, names_in, numbered, read_pair, shared_labels


@dataclass(frozen=True)
class Evaluation:
    """The scores, and what could not be scored.

    Attributes:
        rows: one per case and label.
        summary: as in summary.json.
        failed: case id → why it has no scores.
        unpredicted: references without a prediction.
        unlabelled: cases in which neither shows a label, where none is named that they could lack: they have no row.
    """

    rows: list[CaseScore]
    summary: dict[str, Any]
    failed: dict[str, MedsegError]
    unpredicted: list[str]
    unlabelled: list[str]


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
        labels: what to score, and what the references' ids mean; where the run's recipe made its labels of these,
            merged ones and regions, they are scored. None takes the labels that the predictions' run.json names, or
            else those that the files of the case name, and every other id that occurs. Predictions and references that
            name their ids are matched with them by these names.
        partial: case id, or a reference's name → the labels that it has, where it lacks some; it is scored on these
            alone.
        notify: hears of each case.

    Raises:
        MissingFileError, EmptyFolderError: there is nothing to score.
        NoCasesError: no prediction is called like a reference.
        DuplicateCaseError: a folder holds a case id twice.
        PackageError: the predictions are a run of pretraining, which segments nothing.
        OptionError: the folder is a training's, which keeps its own scores.
        UnwritableError: the results cannot be written.
    """
    _refuse_pretrained(predictions)
    _refuse_training(folder)
    pairs = find_pairs(predictions, references)
    failed, unpredicted = pairs.failed, pairs.unpredicted
    Run(folder)
    naming, known = Naming.of(predictions, labels), partial or {}
    rows: dict[str, list[CaseScore]] = {}
    unnamed: dict[str, LabelSet] = {}
    for case_id, error in failed.items():
        notify(Progress("evaluate", 0, len(pairs.found), message=f"{case_id}: {error.code} {error}"))
    for done, pair in enumerate(pairs.found, start=1):
        case_id = pair.case_id
        message = ""
        try:
            present = known.get(case_id, known.get(pair.reference.case_id))
            named, rows[case_id] = _score(pair, naming, present)
            if naming.scored is None and present is None and named.nameless:
                unnamed[case_id] = named
        except MedsegError as error:
            failed[case_id] = error
            message = f"{case_id}: {error.code} {error}"
        notify(Progress("evaluate", done, len(pairs.found), note=case_id, message=message))
    _add_absent(rows, unnamed)
    every = [row for own in rows.values() for row in own]
    unlabelled = [case_id for case_id, own in rows.items() if not own]
    summary = {
        "predictions": str(predictions),
        "references": str(references),
        "n_failed": len(failed),
        "n_unpredicted": len(unpredicted),
        "failed": {case_id: error.as_json() for case_id, error in failed.items()},
        "unpredicted": unpredicted,
        "unlabelled": unlabelled,
        **summarise(every),
    }
    write_metrics(folder / "metrics.csv", every)
    write_json(folder / "summary.json", summary)
    return Evaluation(every, summary, failed, unpredicted, unlabelled)


def _refuse_pretrained(predictions: Path) -> None:
    """Raise PackageError for a run that has pretrained a network, which segments nothing yet."""
    if record_of(predictions).get("command") == "pretrain":
        raise PackageError(
            f"evaluating {predictions}",
            found="it is a run of pretraining, whose network tells no labels",
            remedy=f"train it on labelled cases: medseg train RECIPE --data DATASET --from {predictions}",
        )


def _refuse_training(folder: Path) -> None:
    """Raise OptionError for a run of training, and for the folder of its scores."""
    whole = folder.resolve()
    for run, kept in ((whole, whole), (whole.parent, whole.parent / VALIDATION)):
        if whole == kept and read_record(run).get("command") == "train":
            raise OptionError(
                f"--out {folder}",
                found=f"{run} is a training, which keeps its own scores",
                remedy="choose another folder",
            )


def _add_absent(rows: dict[str, list[CaseScore]], unnamed: Mapping[str, LabelSet]) -> None:
    """Add to cases without names a row for each label that only others of them show: it is absent there."""
    shown = {(row.label_id, row.label) for case_id in unnamed for row in rows[case_id]}
    for case_id, labels in unnamed.items():
        absent = [label for label in sorted(shown) if label[0] not in labels.known_ids]
        rows[case_id] += [
            CaseScore(case_id, id_, name, None, None, None, None, reference_ml=0.0, prediction_ml=0.0)
            for id_, name in absent
        ]
        rows[case_id].sort(key=lambda row: row.label_id)


def _score(pair: Pair, naming: Naming, present: LabelSet | None) -> tuple[LabelSet, list[CaseScore]]:
    """Score a case on the labels asked for, or else on those of the run, as far as its reference has them.

    Returns:
        The labels, and a row for each.
    """
    named, predicted, referred = _read(pair, naming)
    if present is not None:
        referred.check_ids(present)
        named = named.present_in(present)
    return named, score_label_map(predicted, referred, named, case_id=pair.case_id)


def _read(pair: Pair, naming: Naming) -> tuple[LabelSet, LabelMap, LabelMap]:
    """Return the labels to score, and the prediction and the reference in their ids."""
    one, other = pair.prediction, pair.reference
    scored, drawn = naming.scored, naming.drawn or naming.scored
    if scored is None or drawn is None:
        named = shared_labels(one, other)
        predicted, referred = read_pair(one, other, named)
        return completed(named, (one, predicted), (other, referred)), predicted, referred
    predicted, referred = read_pair(one, other, drawn if one.kind == "file" else scored)
    predicted = numbered(predicted, one, scored, names=names_in(one) or naming.predicted)
    referred = numbered(referred, other, drawn, names=names_in(other), declared=naming.drawn is not None)
    return scored, predicted, referred

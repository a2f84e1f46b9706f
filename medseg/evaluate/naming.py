"""Naming: what the ids of label maps mean, as far as that is said beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.labels import LabelSet
from medseg.run import read_record


@dataclass(frozen=True)
class Naming:
    """What ids mean, as far as that is said beside the files.

    Attributes:
        scored: the labels that are scored; None where the files of each case have to tell.
        drawn: the labels that references were said to have; None where nothing was said.
        predicted: the labels of the run that predicted; None where none is known.
    """

    scored: LabelSet | None
    drawn: LabelSet | None
    predicted: LabelSet | None

    @classmethod
    def of(cls, predictions: Path, labels: LabelSet | None) -> "Naming":
        """Return what the run of predictions says, and the labels asked for.

        Where the run's recipe made labels of those asked for, by their names, its own are scored.
        """
        predicted = run_labels(predictions)
        if labels is None or predicted is None:
            return cls(labels or predicted, labels, predicted)
        try:
            made = labels.select(record_of(predictions)["recipe"]["labels"])
        except (MedsegError, KeyError, TypeError, AttributeError):
            return cls(labels, labels, predicted)
        same = [(label.id, label.parts) for label in made] == [(label.id, label.parts) for label in predicted]
        asked = {label.name for label in labels}
        own = any(len(label.parts) > 1 or label.name not in asked for label in made)  # merged, or called otherwise
        return cls(made if same and own else labels, labels, predicted)


def run_labels(predictions: Path) -> LabelSet | None:
    """Return the labels of the run that made a folder of predictions, or None where it left no run.json."""
    try:
        return LabelSet.from_json(record_of(predictions)["labels"])
    except (ValueError, KeyError, TypeError):
        return None


def record_of(predictions: Path) -> dict[str, Any]:
    """Return what the run.json beside predictions says; nothing where there is none."""
    return read_record(predictions if predictions.is_dir() else predictions.parent)

"""Seen: the labelled cases that a model was trained on, so that nobody takes scores on them for scores on new ones."""

from pathlib import Path
from typing import Any

from medseg.run import MODEL, read_record

# Dataset → case ids.
Seen = dict[str, list[str]]


def seen_by(path: Path) -> Seen:
    """Return the cases that trained the first network of a model, and whatever models that one was started from.

    Args:
        path: a run of training, or its package. Of a cross-validation the first network is the first fold's.

    Returns:
        Nothing for a package without its run, and for one that was pretrained, which was shown no labels.
    """
    record = _record(path)
    if not record and path.resolve().name == MODEL:  # a run's folder may have that name, too
        record = _record(path.resolve().parent)
    if record.get("command") != "train":
        return {}
    seen = {dataset: set(cases) for dataset, cases in record.get("from", {}).get("seen", {}).items()}
    seen.setdefault(record["dataset"], set()).update(record["training_cases"])
    return {dataset: sorted(cases) for dataset, cases in seen.items()}


def _record(folder: Path) -> dict[str, Any]:
    """Return what the run.json of a training says, of a cross-validation the first fold's; nothing where none is."""
    record = read_record(folder)
    return read_record(folder / f"fold_{record['folds'][0]}") if record.get("fold") == "all" else record

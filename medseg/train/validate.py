"""Validation: whole volumes, segmented and scored on their own grids."""

from collections.abc import Iterator, Sequence

from medseg.dataset import Dataset
from medseg.labels import LabelSet
from medseg.manifest import Case
from medseg.metrics import CaseScore, score_label_map
from medseg.prepared_case import PreparedCase
from medseg.segment import Segmenter
from medseg.volume import read_label_map


def validate(
    segmenter: Segmenter,
    cases: Sequence[tuple[Case, PreparedCase]],
    *,
    dataset: Dataset,
    labels: LabelSet,
    flips: bool,
) -> Iterator[list[CaseScore]]:
    """Yield the scores of one case after the other.

    Args:
        segmenter: segments them.
        cases: each with its prepared form.
        dataset: says where the references are.
        labels: what is scored.
        flips: whether to predict the recipe's test-time flips; left out while training.
    """
    for case, prepared in cases:
        logits = segmenter.logits(prepared.image, flips=flips)
        prediction = segmenter.restore(logits, source=prepared.geometry, target=prepared.native)
        reference = read_label_map(dataset.label(case))
        yield score_label_map(prediction, reference, labels, case_id=case.case_id)


def some_of(cases: Sequence[tuple[Case, PreparedCase]], most: int) -> list[tuple[Case, PreparedCase]]:
    """Return up to `most` cases, evenly spaced."""
    if len(cases) <= most:
        return list(cases)
    return [cases[index * len(cases) // most] for index in range(most)]

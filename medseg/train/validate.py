"""Validator: whole volumes, segmented and scored on their own grids."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from medseg.dataset import Dataset
from medseg.labels import LabelSet
from medseg.manifest import Case
from medseg.metrics import CaseScore, score_label_map, summarise
from medseg.prepared_case import PreparedCase
from medseg.segment import Segmenter
from medseg.volume import read_reference

T = TypeVar("T")


class Validator:
    """Scores a network on labelled cases.

    Args:
        segmenter: holds the network.
        cases: each with the folder it was prepared in.
        dataset: says where the references are.
        labels: what is scored.
    """

    def __init__(
        self, segmenter: Segmenter, cases: Sequence[tuple[Case, Path]], dataset: Dataset, labels: LabelSet
    ) -> None:
        self.cases = cases
        self._segmenter = segmenter
        self._dataset = dataset
        self._labels = labels

    def scores(self) -> Iterator[list[CaseScore]]:
        """Yield the rows of one case after the other, predicted as the recipe says."""
        for case, folder in self.cases:
            yield self._score(case, folder, flips=True)

    def dice(self, *, most: int) -> float:
        """Return the mean Dice of up to `most` cases, evenly spaced, without test-time flips.

        Each case counts with the mean of its labels; where nothing is defined, the Dice is 0.
        """
        some = evenly(self.cases, most)
        rows = [row for case, folder in some for row in self._score(case, folder, flips=False)]
        mean = summarise(rows)["overall"]["dice"]["mean"]
        return 0.0 if mean is None else float(mean)

    def _score(self, case: Case, folder: Path, *, flips: bool) -> list[CaseScore]:
        prepared = PreparedCase.load(folder)
        logits = self._segmenter.logits(prepared.image, flips=flips)
        prediction = self._segmenter.restore(logits, source=prepared.geometry, target=prepared.native)
        reference = read_reference(
            self._dataset.label(case), geometry=prepared.native, labels=self._dataset.manifest.label_set
        )
        return score_label_map(prediction, reference, self._labels, case_id=case.case_id)


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return up to `most` items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]

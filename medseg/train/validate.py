"""Validator: whole volumes, segmented and scored on their own grids."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from medseg.across import processes, shared
from medseg.dataset import Dataset
from medseg.errors import NotFiniteError
from medseg.labels import LabelSet
from medseg.manifest import Case
from medseg.metrics import CaseScore, score_label_map, summarise
from medseg.prepared_case import PreparedCase
from medseg.progress import Notify, Progress, ignore
from medseg.segment import Prepared, Segmenter
from medseg.volume import LabelMap, Volume, read_reference, write_image

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

    def scores(self, *, keep: Path, notify: Notify) -> list[CaseScore]:
        """Return the rows of all cases in their order, predicted as the recipe says; processes share the cases.

        Args:
            keep: the folder in which the label maps are kept, as CASE.nii.gz.
            notify: hears of each case of this process.
        """
        own = itertools.count(1)

        def score(item: tuple[Case, Path]) -> list[CaseScore]:
            rows = self._score(*item, averaged=True, keep=keep, notify=notify)
            notify(Progress("validate", next(own), -(-len(self.cases) // processes()), note=item[0].case_id))
            return rows

        return list(itertools.chain.from_iterable(shared(score, self.cases)))

    def dice(self, *, most: int) -> float:
        """Return the mean Dice of up to `most` cases, evenly spaced, without test-time flips and margin.

        Each case counts with the mean of its labels; where nothing is defined, the Dice is 0. Processes share the
        cases.
        """
        scores = shared(lambda item: self._score(*item, averaged=False), evenly(self.cases, most))
        mean = summarise(list(itertools.chain.from_iterable(scores)))["overall"]["dice"]["mean"]
        return 0.0 if mean is None else float(mean)

    def _score(
        self, case: Case, folder: Path, *, averaged: bool, keep: Path | None = None, notify: Notify = ignore
    ) -> list[CaseScore]:
        """Score a case; where what the network says is no number, it has found nothing, and training goes on."""
        prepared = PreparedCase.load(folder)
        image = Prepared(Volume(prepared.image, prepared.geometry))
        try:
            prediction = self._segmenter.predict(image, prepared.native, averaged=averaged)
        except NotFiniteError as error:
            notify(Progress("validate", 0, len(self.cases), message=f"{case.case_id}: {error.code} {error}"))
            prediction = LabelMap(np.zeros(prepared.native.shape, np.uint8), prepared.native)
        if keep:
            write_image(prediction, keep / f"{case.case_id}.nii.gz", self._labels)
        drawn, scored = self._dataset.manifest.labels_of(case), self._dataset.present(case, self._labels)
        reference = read_reference(self._dataset.label(case), geometry=prepared.native, labels=drawn)
        return score_label_map(prediction, reference, scored, case_id=case.case_id)


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return up to `most` items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]

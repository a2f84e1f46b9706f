"""Preflight: read everything that is to be trained on or segmented, and say what would go wrong."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medseg.agreement import chosen_labels
from medseg.cases import find_cases
from medseg.check.expected import Expected
from medseg.check.finding import Finding
from medseg.check.look import Look, look_at_case, look_at_scan
from medseg.check.together import lacking_labels, patients_on_both_sides, same_scans
from medseg.choose import choose
from medseg.dataset import is_dataset, open_dataset
from medseg.errors import MedsegError
from medseg.labels import LabelSet
from medseg.processor import cores
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Recipe
from medseg.shipped import manifest_path

# Reading waits for the disk and inflates outside Python's lock; more threads than these hold too many scans at once.
MOST_READERS = 4

T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """What a preflight found.

    Attributes:
        cases: the ids of those looked at.
        findings: in the order of the cases.
    """

    cases: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def fine(self) -> int:
        """How many cases have no finding."""
        found = {finding.case_id for finding in self.findings}
        return sum(case_id not in found for case_id in self.cases)

    @property
    def passed(self) -> bool:
        """Whether there are cases, and no errors; warnings pass."""
        return bool(self.cases) and not any(finding.severity == "error" for finding in self.findings)


def check(
    paths: Sequence[Path], *, manifest: str | None = None, model: str | None = None, notify: Notify = ignore
) -> Checked:
    """Look over datasets and scans.

    Args:
        paths: datasets (`is_dataset`, and with `manifest` any folder); everything else is looked through for scans to
            segment.
        manifest: the shipped manifest of folders without a dataset.json.
        model: the recipe, run or model package that the scans are for.
        notify: hears of each case.

    Raises:
        UnknownNameError: no recipe or manifest of this name.
        RecipeError, PackageError: `model` cannot be read.
    """
    expected = Expected.by(model) if model else Expected()
    if manifest:
        manifest_path(manifest)
    parts: list[Checked] = []
    scans: list[Path] = []
    for path in paths:
        if is_dataset(path) or (manifest and path.is_dir()):
            parts.append(_check_dataset(path, manifest, expected, notify))
        else:
            scans.append(path)
    if scans:
        parts.append(_check_scans(scans, expected, notify))
    return Checked(
        tuple(case_id for part in parts for case_id in part.cases),
        tuple(finding for part in parts for finding in part.findings),
    )


def _check_dataset(path: Path, manifest: str | None, expected: Expected, notify: Notify) -> Checked:
    """Look over a dataset; where its manifest makes no sense, its cases are not read."""
    try:
        dataset = open_dataset(path, manifest=manifest, notify=notify)
        labels = chosen_labels(expected.recipe, dataset) if expected.recipe else dataset.manifest.label_set
        dataset.split(None, labels)
    except MedsegError as error:
        return Checked((), (Finding.of(None, error),))
    wanted = expected.of_dataset(dataset.manifest)
    looks = list(_each(lambda case: look_at_case(dataset, case, wanted), dataset.cases, notify))
    between = [
        *(_in_recipe(expected.recipe, dataset.manifest.channels, labels) if expected.recipe else ()),
        *patients_on_both_sides(dataset.manifest),
        *same_scans(looks, dataset.folds),
        *lacking_labels(looks, dataset.folds, dataset.manifest.label_set),
    ]
    return _checked(looks, between)


def _in_recipe(recipe: Recipe, channels: int, labels: LabelSet) -> Iterator[Finding]:
    """Yield what is wrong with a recipe by itself: it names what there is not, or its networks cannot be built."""
    from medseg.losses import LOSSES  # these bring torch along, which takes longer than most checks
    from medseg.models import build_network

    coarse = [(recipe.coarse_recipe(()), 1)] if recipe.coarse else []
    for own, count in ((recipe, len(labels)), *coarse):
        try:
            choose(LOSSES, own.training.loss, kind="loss")
            build_network(own, channels=channels, labels=count)
        except MedsegError as error:
            yield Finding.of(None, error)


def _check_scans(paths: Sequence[Path], expected: Expected, notify: Notify) -> Checked:
    """Look over scans that are to be segmented; what holds none, or cannot be opened, is a finding too."""
    cases = find_cases(paths, notify=notify).own
    refused = [Finding.of(case.case_id, case.error) for case in cases if case.error]
    sources = [case.source for case in cases if case.source]
    looks = list(_each(lambda source: look_at_scan(source, expected), sources, notify))
    part = _checked(looks, list(same_scans(looks, {})))
    return Checked((*part.cases, *(finding.case_id or "" for finding in refused)), (*part.findings, *refused))


def _each(look: Callable[[T], Look], items: Sequence[T], notify: Notify) -> Iterator[Look]:
    """Yield a look at each item, in their order, some at a time."""
    pool = ThreadPoolExecutor(min(MOST_READERS, cores()))
    try:
        for done, seen in enumerate(pool.map(look, items), start=1):
            notify(Progress("check", done, len(items), note=seen.case_id))
            yield seen
    finally:
        pool.shutdown(cancel_futures=True)


def _checked(looks: Sequence[Look], between: Sequence[Finding]) -> Checked:
    """Return the findings of cases and between them, case by case, and those of the whole dataset last."""
    order = {look.case_id: number for number, look in enumerate(looks)}
    findings = [*(finding for look in looks for finding in look.findings), *between]
    findings.sort(key=lambda finding: order.get(finding.case_id or "", len(order)))
    return Checked(tuple(look.case_id for look in looks), tuple(findings))

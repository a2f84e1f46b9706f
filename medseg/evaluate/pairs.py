"""Pairs: predictions and references, matched by case id."""

from dataclasses import dataclass
from pathlib import Path

from medseg.errors import DuplicateCaseError, MedsegError, MissingFileError, NoCasesError
from medseg.volume import Source, find_label_map, look_through
from medseg.volume.find import empty
from medseg.volume.label_map import listed
from medseg.volume.source import duplicate_ids

# What nnU-Net puts behind the case's id in the name of an image, but not of a label map: the first channel.
CHANNEL = "_0000"


@dataclass(frozen=True)
class Pair:
    """A case: its prediction and its reference."""

    case_id: str
    prediction: Source
    reference: Source


@dataclass(frozen=True)
class Pairs:
    """What there is to score.

    Attributes:
        found: the cases.
        failed: case id of a prediction → why it has no reference; and the name of a file → why it cannot be opened.
        unpredicted: references without a prediction.
    """

    found: list[Pair]
    failed: dict[str, MedsegError]
    unpredicted: list[str]


def find_pairs(predictions: Path, references: Path) -> Pairs:
    """Match predictions and references by case id; two files are a pair whatever their names.

    Raises:
        MissingFileError, EmptyFolderError: there is no label map at a path.
        DuplicateCaseError: a folder holds a case id twice.
        NoCasesError: no case id is in both.
    """
    if predictions.is_file() and references.is_file():
        prediction, reference = find_label_map(predictions), find_label_map(references)
        return Pairs([Pair(prediction.case_id, prediction, reference)], {}, [])
    (predicted, refused), (referred, refused_too) = _by_case(predictions), _by_case(references)
    if not predicted.keys() & referred.keys():
        raise _nothing_shared(predictions, list(predicted), references, list(referred))
    failed: dict[str, MedsegError] = {
        case_id: MissingFileError(
            f"evaluating {source.place}",
            found=f"there is no reference of the case id {case_id!r} in {references}",
            remedy="name the reference like the prediction",
        )
        for case_id, source in predicted.items()
        if case_id not in referred
    }
    failed |= refused | refused_too
    found = [Pair(case_id, source, referred[case_id]) for case_id, source in predicted.items() if case_id in referred]
    return Pairs(found, failed, sorted(referred.keys() - predicted.keys()))


def _nothing_shared(predictions: Path, predicted: list[str], references: Path, referred: list[str]) -> NoCasesError:
    """Return the error of two folders that name their cases differently."""
    remedy = "name each reference like its prediction"
    if {case_id.removesuffix(CHANNEL) for case_id in predicted}.intersection(referred):
        remedy = f"take {CHANNEL}, which nnU-Net gives to images and not to label maps, off the predictions' names"
    return NoCasesError(
        f"evaluating {predictions} by {references}",
        found=f"no case id is in both: predicted are {listed(predicted, 3)}; the references are {listed(referred, 3)}",
        remedy=remedy,
    )


def _by_case(path: Path) -> tuple[dict[str, Source], dict[str, MedsegError]]:
    """Return the label maps at a path by their case, and by name the errors of files that cannot be opened.

    Of a case in several forms the most exact is taken.
    """
    found = look_through(path)
    segmented = {source.case_id for source in found.annotations if source.kind == "segmentation"}
    sources = [s for s in found.label_maps if s.kind != "structures" or s.case_id not in segmented]
    if not sources:
        raise found.refused[0][1] if found.refused else empty(path, found)
    repeated = duplicate_ids([source.case_id for source in sources])
    if repeated:
        raise DuplicateCaseError(
            f"evaluating {path}",
            found=f"the case id {sorted(repeated)[0]!r} stands there more than once",
            remedy="give each file a name of its own",
        )
    return {source.case_id: source for source in sources}, {place.name: error for place, error in found.refused}

"""What label maps call their ids counts for more than the numbers, and contradictions are refused."""

from pathlib import Path

import numpy as np
import pytest

from medseg.errors import UnknownLabelError
from medseg.labels import LabelSet
from medseg.volume import Geometry, LabelMap, Source, numbered

LABELS = LabelSet.from_names({1: "spleen", 4: "gallbladder", 5: "liver", 6: "stomach"})


def read(
    *ids: int, names: dict[int, str] | None, labels: LabelSet = LABELS, kind: str = "file", declared: bool = False
) -> list[int]:
    """Return what the ids of a source become."""
    label_map = LabelMap(np.array(ids, np.uint8).reshape(-1, 1, 1), Geometry((len(ids), 1, 1), np.eye(4)))
    named = LabelSet.from_names(names) if names is not None else None
    source = Source("a", (Path("a.nii.gz"),), kind)  # type: ignore[arg-type]
    return numbered(label_map, source, labels, names=named, declared=declared).array.ravel().tolist()


def test_ids_follow_their_names_all_at_once() -> None:
    assert read(0, 1, 4, names={1: "liver", 4: "spleen"}) == [0, 5, 1]
    assert read(0, 1, 200, names={1: "liver", 200: "spleen"}) == [0, 5, 1]


@pytest.mark.parametrize("names", [None, {}, {1: "spleen", 4: "gallbladder"}, {1: "spleen"}, {9: "lung"}])
def test_ids_that_agree_or_have_no_name_are_the_labels_own(names: dict[int, str] | None) -> None:
    assert read(0, 1, 4, names=names) == [0, 1, 4]


def test_dicom_files_were_matched_by_names_when_they_were_read() -> None:
    assert read(0, 1, names={1: "liver"}, kind="segmentation") == [0, 1]


@pytest.mark.parametrize(
    ("ids", "names", "said"),
    [
        ([4], {4: "lung"}, "calls 4 'lung', and the labels have no 'lung' and call it 'gallbladder'"),
        ([9], {9: "lung"}, "have no 'lung' and do not know the id"),
        ([1, 5], {1: "liver"}, "numbers its labels otherwise, and they leave out 5"),
        ([9], {}, "it holds 9"),
    ],
)
def test_an_id_that_may_mean_something_else_is_refused(ids: list[int], names: dict[int, str], said: str) -> None:
    with pytest.raises(UnknownLabelError, match=said) as caught:
        read(*ids, names=names)
    assert "a.nii.gz" in caught.value.asked


def test_labels_given_for_a_file_tell_what_its_ids_mean_unless_its_names_contradict() -> None:
    assert read(1, 4, names={1: "segment_1", 4: "segment_4"}, declared=True) == [1, 4]
    with pytest.raises(UnknownLabelError, match="calls 5 'segment_5'"):
        read(1, 5, names={1: "liver", 5: "segment_5"}, declared=True)


def test_the_parts_of_a_merged_label_may_have_names_of_their_own_and_other_ids_any() -> None:
    dataset = LabelSet.from_names({1: "right", 2: "left", 3: "liver", 7: "aorta"})
    merged = dataset.select({"kidney": ["right", "left"], "liver": ["liver"]})
    names = {label.id: label.name for label in dataset}
    assert read(1, 2, 3, 7, names=names, labels=merged) == [1, 2, 3, 7]

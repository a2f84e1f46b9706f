"""Label sets: ids, names, merged labels and overlapping regions."""

import json

import numpy as np
import pytest
from pydicom.sr.codedict import codes

from medseg.errors import RecipeError, UnknownNameError
from medseg.labels import (
    ABNORMAL,
    ANATOMY,
    LESION_CODES,
    ORGAN_CODES,
    ORGAN_COLOURS,
    SIDE_CODES,
    TISSUE,
    LabelSet,
    coded,
    colour_of,
    tidy,
)

NAMES = {0: "background", 6: "Liver", 1: "Spleen", 3: "Left  Kidney", 2: "right kidney "}
ORGANS = LabelSet.from_names(NAMES)
# A brain tumour's regions lie one in another: whole tumour ⊃ core ⊃ enhancing.
TUMOUR = LabelSet.from_names({0: "background", 1: "oedema", 2: "necrosis", 4: "enhancing"})
REGIONS = TUMOUR.select(
    {"whole": ["oedema", "necrosis", "enhancing"], "core": ["necrosis", "enhancing"], "enhancing": ["enhancing"]}
)
LABEL_MAP = np.array([[0, 1, 2], [4, 4, 3], [1, 0, 2]], np.uint8)


def test_labels_come_in_the_order_of_their_ids_without_background():
    assert [(label.id, label.name, label.parts) for label in ORGANS] == [
        (1, "spleen", (1,)),
        (2, "right_kidney", (2,)),
        (3, "left_kidney", (3,)),
        (6, "liver", (6,)),
    ]
    assert len(ORGANS) == 4


def test_background_is_known_even_when_nobody_names_it():
    assert LabelSet.from_names({7: "aorta"}).known_ids == {0, 7}
    assert ORGANS.known_ids == {0, 1, 2, 3, 6}


@pytest.mark.parametrize("written", ["Left Kidney", "left_kidney", "  LEFT\tkidney "])
def test_a_name_is_written_one_way(written):
    assert tidy(written) == "left_kidney"


def test_a_recipe_that_chooses_nothing_keeps_every_label():
    assert ORGANS.select(None) is ORGANS


def test_a_merged_label_keeps_the_id_of_its_first_part():
    chosen = ORGANS.select({"Kidneys": ["Left Kidney", "right_kidney"], "spleen": ["spleen"]})
    assert [(label.id, label.name, label.parts) for label in chosen] == [(3, "kidneys", (3, 2)), (1, "spleen", (1,))]


def test_choosing_labels_forgets_no_id_that_the_dataset_may_hold():
    assert ORGANS.select({"spleen": ["spleen"]}).known_ids == ORGANS.known_ids


def test_labels_can_be_chosen_from_chosen_labels():
    kidneys = ORGANS.select({"kidneys": ["left_kidney", "right_kidney"], "liver": ["liver"]})
    assert kidneys.select({"paired": ["kidneys"]}).labels[0].parts == (3, 2)


def test_a_part_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'spleen'"):
        ORGANS.select({"spleen": ["splen"]})


def test_two_labels_cannot_share_an_id():
    with pytest.raises(RecipeError, match="would share an id"):
        TUMOUR.select({"whole": ["oedema", "necrosis"], "all": ["necrosis", "oedema"]})


def test_labels_overlap_only_where_they_share_a_part():
    assert REGIONS.overlapping
    assert not TUMOUR.overlapping
    assert not ORGANS.select({"kidneys": ["left_kidney", "right_kidney"], "liver": ["liver"]}).overlapping


def test_a_region_is_the_union_of_its_parts():
    whole, core, enhancing = (REGIONS.mask(LABEL_MAP, label) for label in REGIONS)
    np.testing.assert_array_equal(whole, np.isin(LABEL_MAP, (1, 2, 4)))
    np.testing.assert_array_equal(core, np.isin(LABEL_MAP, (2, 4)))
    np.testing.assert_array_equal(enhancing, LABEL_MAP == 4)


@pytest.mark.parametrize("labels", [TUMOUR, REGIONS], ids=["exclusive", "regions"])
def test_the_table_of_channels_agrees_with_the_masks(labels):
    array = LABEL_MAP * (LABEL_MAP != 3)  # 3 is no id of this dataset
    channels = labels.encode_table()[:, array]
    assert channels.dtype == np.uint8
    for channel, label in zip(channels, labels, strict=True):
        np.testing.assert_array_equal(channel.astype(bool), labels.mask(array, label))


def test_an_id_that_no_label_uses_has_no_channel():
    table = TUMOUR.select({"core": ["necrosis", "enhancing"]}).encode_table()
    assert table.tolist() == [[0, 0, 1, 0, 1]]


@pytest.mark.parametrize("labels", [ORGANS, REGIONS], ids=["exclusive", "regions"])
def test_a_label_set_survives_json(labels):
    assert LabelSet.from_json(json.loads(json.dumps(labels.as_json()))) == labels


def test_an_organ_has_its_own_colour_whatever_its_id():
    assert colour_of("spleen", 1) == colour_of("spleen", 40) == ORGAN_COLOURS["spleen"]
    assert colour_of("kidney_left", 1) != colour_of("kidney_right", 1)


def test_labels_without_an_organ_colour_are_told_apart():
    colours = [colour_of(f"part_{id_}", id_) for id_ in range(1, 118)]
    assert len(set(colours)) == len(colours)
    neighbours = np.abs(np.diff(np.array(colours), axis=0)).max(axis=1)
    assert neighbours.min() > 60
    assert np.min(colours) >= 0
    assert np.max(colours) <= 255


def test_a_region_that_would_hide_one_within_it_is_refused():
    tumour = LabelSet.from_names({0: "background", 1: "edema", 2: "core", 3: "enhancing"})
    outermost_first = {"whole": ["edema", "core", "enhancing"], "core": ["core", "enhancing"]}
    assert [label.name for label in tumour.select(outermost_first)] == ["whole", "core"]
    with pytest.raises(RecipeError, match="is painted over the whole of it"):
        tumour.select(dict(reversed(outermost_first.items())))


@pytest.mark.parametrize(
    "chosen",
    [
        {"whole": ["enhancing", "oedema", "necrosis"], "core": ["necrosis", "enhancing"]},
        {"whole": ["enhancing", "necrosis", "oedema"], "core": ["enhancing", "necrosis"], "hot": ["enhancing"]},
        {"one": ["oedema", "necrosis"], "other": ["necrosis", "enhancing"]},
        {"one": ["necrosis", "oedema"], "other": ["necrosis", "enhancing"]},
    ],
    ids=["nested", "three", "side by side", "both begin alike"],
)
def test_in_a_label_map_a_regions_id_stands_for_it_alone_and_for_those_around_it(chosen):
    labels = TUMOUR.select(chosen)
    for label in labels:
        shown = {other.name for other in labels if labels.mask(np.array([label.id]), other).any()}
        assert shown == {other.name for other in labels if set(label.parts) <= set(other.parts)}
    assert [label.name for label in labels] == list(chosen)


def test_a_region_without_a_part_of_its_own_is_refused():
    with pytest.raises(RecipeError, match="every part of whole lies in another label"):
        TUMOUR.select({"whole": ["oedema", "necrosis"], "one": ["necrosis"], "other": ["oedema"]})


def test_ids_without_names_are_called_by_their_number():
    labels = LabelSet.from_ids({0, 7, 300})
    assert [(label.id, label.name) for label in labels] == [(7, "label_7"), (300, "label_300")]
    assert labels.known_ids == {0, 7, 300}


def test_every_code_is_one_of_dicoms_with_its_meaning():
    known: dict[str, set[str]] = {}
    for name in codes.SCT.dir():
        concept = getattr(codes.SCT, name)
        known.setdefault(concept.value, set()).add(concept.meaning.lower())
    table = [*ORGAN_CODES.values(), *LESION_CODES.values(), *SIDE_CODES.values(), ANATOMY, ABNORMAL, TISSUE]
    assert [(code, meaning) for code, meaning in table if meaning.lower() not in known.get(code, ())] == []


@pytest.mark.parametrize(
    ("name", "category", "meaning", "side"),
    [
        ("spleen", "Anatomical Structure", "Spleen", None),
        ("kidney_left", "Anatomical Structure", "Kidney", "Left"),
        ("right_kidney", "Anatomical Structure", "Kidney", "Right"),
        ("left_atrium", "Anatomical Structure", "Left atrium", None),
        ("rib_left_8", "Anatomical Structure", "Rib", "Left"),
        ("lung_upper_lobe_right", "Anatomical Structure", "Upper lobe of lung", "Right"),
        ("vertebrae_l5", "Anatomical Structure", "L5 vertebra", None),
        ("kidney_cyst_left", "Morphologically Abnormal Structure", "Cyst", "Left"),
        ("tumour", "Morphologically Abnormal Structure", "Neoplasm", None),
        ("anterior", "Tissue", "Tissue", None),
        ("thing_right", "Tissue", "Tissue", "Right"),
    ],
)
def test_a_label_is_coded_by_its_name_and_side(name, category, meaning, side):
    codes_of = coded(name)
    assert (codes_of.category[1], codes_of.type[1], codes_of.side and codes_of.side[1]) == (category, meaning, side)


@pytest.mark.parametrize("other", ["liver", " Liver ", "LIVER"])
def test_two_labels_of_one_name_are_refused(other):
    with pytest.raises(RecipeError, match="are one name"):
        LabelSet.from_names({0: "background", 1: "liver", 2: other})


def test_the_background_may_be_called_like_a_label():
    assert len(LabelSet.from_names({0: "liver", 1: "liver"})) == 1


def test_two_chosen_labels_of_one_name_are_refused():
    with pytest.raises(RecipeError, match="'organ' and 'Organ' are one name"):
        ORGANS.select({"organ": [NAMES[1]], "Organ": [NAMES[2]]})


# Labels that a case lacks, and voxels that are not labelled


def test_a_case_that_has_only_some_labels_does_not_know_the_ids_of_the_others():
    case = ORGANS.only(["Liver", "spleen"])
    assert [label.name for label in case] == ["spleen", "liver"]
    assert case.known_ids == {0, 1, 6}
    with pytest.raises(UnknownNameError, match="Did you mean 'liver'"):
        ORGANS.only(["livre"])


def test_a_merged_label_is_in_a_case_that_has_all_of_its_parts():
    kidneys = ORGANS.select({"kidneys": ["left_kidney", "right_kidney"], "spleen": ["spleen"]})
    half, whole = ORGANS.only(["left_kidney", "spleen"]), ORGANS.only(["left_kidney", "right_kidney"])
    assert [label.name for label in kidneys.present_in(half)] == ["spleen"]
    assert [label.name for label in kidneys.present_in(whole)] == ["kidneys"]
    assert kidneys.present_in(ORGANS) == kidneys


def test_the_ids_of_voxels_that_are_not_labelled_are_known_and_no_labels():
    sparse = ORGANS.ignoring([9, 255])
    assert sparse.labels == ORGANS.labels
    assert sparse.ignored_ids == {9, 255}
    assert sparse.known_ids == ORGANS.known_ids | {9, 255}
    assert not sparse.encode_table()[:, 255].any()
    assert (sparse.beyond, ORGANS.beyond) == (9, 0)
    for kept in (sparse.select({"spleen": ["spleen"]}), sparse.only(["spleen"]), sparse.with_ids([12])):
        assert kept.ignored_ids == {9, 255}
    assert LabelSet.from_json(json.loads(json.dumps(sparse.as_json()))) == sparse


def test_a_label_set_written_before_ids_could_be_ignored_ignores_none():
    written = ORGANS.as_json()
    del written["ignored_ids"]
    assert LabelSet.from_json(written) == ORGANS

"""Facts about manifests: what is read, which fold a case falls into, and what the shipped ones hold."""

import json
import os
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.dataset import Dataset, assign_folds, open_dataset, sha256_of, shipped_manifest_of
from medseg.errors import (
    DuplicateCaseError,
    ManifestError,
    MissingFileError,
    NoCasesError,
    OptionError,
    PatientInTwoFoldsError,
    UnknownNameError,
)
from medseg.manifest import Case, Manifest, read_manifest
from medseg.shipped import manifest_path, shipped

SHIPPED = shipped("data_manifests", ".json")
DECATHLON = [name for name in SHIPPED if name.startswith("msd_")]

# sklearn.model_selection.KFold(5, shuffle=True, random_state=12345) over 41 cases: what each fold holds out. nnU-Net
# uses the same, so its folds of the 41 spleens are these.
KFOLD_OF_41 = [
    [0, 2, 3, 5, 19, 21, 25, 28, 32],
    [4, 8, 12, 15, 20, 30, 33, 35],
    [6, 7, 10, 11, 13, 17, 24, 26],
    [9, 14, 16, 18, 22, 23, 27, 31],
    [1, 29, 34, 36, 37, 38, 39, 40],
]

# A dataset.json as the Decathlon publishes it: paths that start with ./, test cases as bare strings, a misspelt key.
PUBLISHED = {
    "name": "Spleen",
    "description": "Spleen Segmentation",
    "reference": "Memorial Sloan Kettering Cancer Center",
    "licence": "CC-BY-SA 4.0",
    "relase": "1.0 06/08/2018",
    "tensorImageSize": "3D",
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "spleen"},
    "numTraining": 2,
    "numTest": 1,
    "training": [
        {"image": "./imagesTr/spleen_19.nii.gz", "label": "./labelsTr/spleen_19.nii.gz"},
        {"image": "./imagesTr/spleen_3.nii.gz", "label": "./labelsTr/spleen_3.nii.gz"},
    ],
    "test": ["./imagesTs/spleen_15.nii.gz"],
}

needs_data = pytest.mark.skipif("MEDSEG_TEST_DATA" not in os.environ, reason="MEDSEG_TEST_DATA names no folder")


def real(folder: str) -> Path:
    return Path(os.environ["MEDSEG_TEST_DATA"]) / folder


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def manifest_of(*cases: dict[str, Any]) -> Manifest:
    head = {"name": "phantoms", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}}
    return Manifest.model_validate(head | {"training": list(cases)})


def touch(*paths: Path) -> None:
    """Make empty files, whose content nobody reads."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def cases_of(count: int) -> list[dict[str, Any]]:
    return [{"image": f"images/{i:02d}.nii.gz", "label": f"labels/{i:02d}.nii.gz"} for i in range(count)]


# Reading


def test_a_published_decathlon_list_reads_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "dataset.json", PUBLISHED)
    touch(tmp_path / "imagesTr" / "spleen_3.nii.gz")
    dataset = open_dataset(tmp_path)
    manifest = dataset.manifest
    assert [case.case_id for case in dataset.cases] == ["spleen_19", "spleen_3"]
    assert [case.patient_id for case in dataset.cases] == ["spleen_19", "spleen_3"]
    assert dataset.image(dataset.cases[0]).paths == (tmp_path / "imagesTr" / "spleen_19.nii.gz",)
    assert dataset.label(dataset.cases[0]) == tmp_path / "labelsTr" / "spleen_19.nii.gz"
    assert [(case.case_id, case.label) for case in manifest.test] == [("spleen_15", None)]
    assert (manifest.num_training, manifest.num_test, manifest.channels) == (2, 1, 1)
    assert [(label.id, label.name) for label in manifest.label_set] == [(1, "spleen")]


def test_the_manifests_in_the_readme_are_whole(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    listings = [text for text in re.findall(r"```json\n(.*?)```", readme, re.DOTALL) if '"training"' in text]
    whole, in_part = (read_manifest(write(tmp_path / "dataset.json", json.loads(text))) for text in listings)
    assert assign_folds(whole.training) == {"ann_1": 1, "ann_2": 1, "bert": 0}
    assert set(in_part.partial) == {"a", "a_drawn"}


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(PUBLISHED), encoding="utf-8-sig")
    assert read_manifest(path).name == "Spleen"


def test_a_case_may_have_one_file_per_channel(tmp_path: Path) -> None:
    dataset = Dataset(manifest_of({"image": ["t2/7.nii.gz", "adc/7.nii.gz"], "case_id": "seven"}), tmp_path)
    source = dataset.image(dataset.cases[0])
    assert source.case_id == "seven"
    assert source.paths == (tmp_path / "t2" / "7.nii.gz", tmp_path / "adc" / "7.nii.gz")


def test_a_manifest_files_paths_start_from_its_folder(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr" / "spleen_3.nii.gz")
    dataset = open_dataset(write(tmp_path / "mine.json", PUBLISHED))
    assert dataset.folder == tmp_path


def test_a_folder_without_a_list_is_described_by_the_recipes_manifest(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr" / "hippocampus_003.nii.gz")
    dataset = open_dataset(tmp_path, manifest="msd_hippocampus")
    assert dataset.manifest == read_manifest(manifest_path("msd_hippocampus"))
    assert dataset.folder == tmp_path


def test_a_folder_without_a_list_is_described_by_the_shipped_manifest_whose_files_it_holds(tmp_path: Path) -> None:
    shipped = read_manifest(manifest_path("amos_ct_slab"))
    (case,) = shipped.training
    touch(*(tmp_path / image for image in case.image))
    with pytest.raises(ManifestError, match="nor the files of a manifest"):
        open_dataset(tmp_path)
    touch(tmp_path / str(case.label), tmp_path / "another.nii.gz")
    assert shipped_manifest_of(tmp_path) == "amos_ct_slab"
    assert open_dataset(tmp_path).manifest == shipped
    write(tmp_path / "dataset.json", PUBLISHED)
    assert shipped_manifest_of(tmp_path) is None
    assert shipped_manifest_of(tmp_path / "dataset.json") is None


def test_a_folders_own_list_goes_before_the_recipes_manifest(tmp_path: Path) -> None:
    write(tmp_path / "dataset.json", PUBLISHED)
    touch(tmp_path / "imagesTr" / "spleen_3.nii.gz")
    assert open_dataset(tmp_path, manifest="msd_hippocampus").manifest.name == "Spleen"


def test_a_checksum_is_the_files_sha256(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # The first example of FIPS 180-2, appendix B.1.
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# What cannot be read


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere") as caught:
        open_dataset(tmp_path / "nowhere")
    assert caught.value.code == "E_MISSING"


def test_a_missing_manifest_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nothing\.json"):
        read_manifest(tmp_path / "nothing.json")


def test_a_folder_that_nothing_describes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no dataset\.json") as caught:
        open_dataset(tmp_path)
    assert caught.value.code == "E_MANIFEST"


def test_a_misspelt_shipped_manifest_is_met_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="you mean 'msd_spleen'"):
        open_dataset(tmp_path, manifest="msd_spleeen")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00", b"spleen"], ids=["cut", "empty", "binary", "word"])
def test_broken_json_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"dataset\.json"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"modality": None}, "modality"),
        ({"labels": ["background", "spleen"]}, "labels"),
        ({"labels": {"0": "background", "1": "liver", "2": " Liver"}}, "labels: 'liver' and ' Liver' are one name"),
        ({"training": [{"label": "labels/a.nii.gz"}]}, "training.0: a case needs an image"),
        ({"training": ["a.nii.gz", 7]}, "training.1: a case needs an image"),
        ({"training": [{"image": []}]}, "training.0: a case needs an image"),
        ({"training": [{"image": [3]}]}, "training.0: a case needs an image"),
        ({"training": [{"image": "a.nii.gz", "fold": "first"}]}, "training.0.fold"),
        ({"training": [{"image": "a.nii.gz", "case_id": "../a"}]}, "training.0.case_id"),
        ({"training": [{"image": "a.nii.gz", "case_id": ""}]}, "training.0.case_id"),
        ({"training": [{"image": "a.nii.gz", "labels_present": "spleen"}]}, "training.0.labels_present"),
        ({"training": [{"image": "a.nii.gz", "labels_present": []}]}, "training.0.labels_present: it names no label"),
        ({"training": [{"image": "a.nii.gz", "labels_present": ["spleem"]}]}, "case a has the label 'spleem' present"),
        ({"training": [{"image": "a.nii.gz", "labels_present": ["spleem"]}]}, "did you mean 'spleen'?"),
        ({"training": [{"image": "a.nii.gz", "labels_present": ["background"]}]}, "which is none; there is spleen"),
        ({"labels": {"0": "liver", "1": "spleen"}}, "labels: 0 is background, and cannot be 'liver'"),
        ({"labels": {"0": "background", "-2": "spleen"}}, "labels: -2 ('spleen') is no id"),
        ({"labels": {"0": "background", "70000": "spleen"}}, "labels: 70000 ('spleen') is no id"),
        ({"labels": {"0": "background", "1": " "}}, "labels: the label 1 has no name"),
        ({"modality": {}}, "modality: it names no channel"),
        ({"training": [{"image": "a.nii.gz", "fold": -1}]}, "training.0.fold"),
        ({"training": [{"image": "a.nii.gz", "case_id": "a\nb"}]}, "training.0.case_id"),
        ({"training": [{"image": "a.nii.gz", "sha256": {"imgae": "0" * 64}}]}, "'imgae' is neither"),
        ({"training": [{"image": "a.nii.gz", "sha256": {"image": "0" * 63}}]}, "not 64 hexadecimal digits"),
        ({"ignore": [7, 1]}, "ignore: 1 is 'spleen'"),
        ({"ignore": [0]}, "ignore: 0 is 'background'"),
        ({"ignore": [-1]}, "ignore: -1 is no id"),
        ({"ignore": [65536]}, "ignore: 65536 is no id"),
        ({"ignore": 255}, "ignore: input should be a valid tuple"),
    ],
)
def test_an_entry_of_the_wrong_kind_is_named(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(place)):
        read_manifest(write(tmp_path / "dataset.json", PUBLISHED | change))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"training": [{"image": "a.nii.gz", "label_present": ["spleen"]}]},
            "'training.0.label_present' (did you mean",
        ),
        (
            {"training": [{"image": "a.nii.gz", "patientID": "ann"}]},
            "'training.0.patientID' (did you mean 'patient_id'?)",
        ),
        ({"trainning": []}, "there is no key 'trainning' (did you mean 'training'?)"),
        ({"Labels": {}, "ignored": [7]}, "key 'Labels' (did you mean 'labels'?); there is no key 'ignored' (did you"),
        (
            {"labels": {"a": "b"}, "ignore": 7, "test": [7]},
            "ignore: input should be a valid tuple (it is 7); test.0: a",
        ),
    ],
)
def test_misspelt_keys_are_refused_and_all_mistakes_told(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(found)):
        read_manifest(write(tmp_path / "dataset.json", PUBLISHED | change))


def test_keys_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    case = {"image": "a.nii.gz", "patient_age": 70, "scanner": "x"}
    others = {"training": [case], "converted_by": "me", "testing": [], "license": "MIT"}
    manifest = read_manifest(
        write(tmp_path / "m.json", {k: v for k, v in PUBLISHED.items() if k != "licence"} | others)
    )
    assert manifest.training == (Case(image=("a.nii.gz",)),)
    assert manifest.licence == "MIT"


def test_a_manifest_without_a_name_is_called_after_its_folder_or_its_file(tmp_path: Path) -> None:
    least = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": []}
    assert read_manifest(write(tmp_path / "dataset.json", least)).name == tmp_path.name
    assert read_manifest(write(tmp_path / "mine.json", least)).name == "mine"


def test_a_list_of_cases_none_of_which_is_there_is_an_error_before_any_is_read(tmp_path: Path) -> None:
    with pytest.raises(
        MissingFileError, match=r"no dataset\.json, and none of the 230 case.* of msd_hippocampus is there"
    ):
        open_dataset(tmp_path, manifest="msd_hippocampus")
    with pytest.raises(MissingFileError, match=r"no dataset\.json, and msd_spleen names no case"):
        open_dataset(tmp_path, manifest="msd_spleen")
    write(tmp_path / "dataset.json", PUBLISHED)
    with pytest.raises(
        MissingFileError, match=r"none of the 2 case.* of dataset\.json .*imagesTr/spleen_19\.nii\.gz lies"
    ):
        open_dataset(tmp_path)


def test_a_list_instead_of_an_object_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="the whole file"):
        read_manifest(write(tmp_path / "dataset.json", [PUBLISHED]))


def test_two_cases_of_one_id_are_an_error_that_names_it(tmp_path: Path) -> None:
    manifest = manifest_of({"image": "a/scan.nii.gz"}, {"image": "b/scan.nii.gz"})
    with pytest.raises(DuplicateCaseError, match="'scan'") as caught:
        Dataset(manifest, tmp_path)
    assert caught.value.code == "E_DUPLICATE_CASE"


def test_a_case_without_a_label_is_an_error_once_its_label_is_wanted(tmp_path: Path) -> None:
    dataset = Dataset(manifest_of({"image": "a.nii.gz"}), tmp_path)
    with pytest.raises(ManifestError, match="case a") as caught:
        dataset.label(dataset.cases[0])
    assert caught.value.code == "E_MANIFEST"


# Folds


def test_the_folds_are_those_of_sklearns_shuffled_kfold() -> None:
    folds = assign_folds(manifest_of(*cases_of(41)).training)
    assert [[int(case) for case, fold in folds.items() if fold == k] for k in range(5)] == KFOLD_OF_41


def test_the_order_in_which_cases_are_listed_does_not_move_them() -> None:
    cases = manifest_of(*cases_of(23)).training
    assert assign_folds(cases) == assign_folds(cases[::-1])


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_a_patients_cases_stay_together_and_no_fold_is_empty(patients: list[int]) -> None:
    cases = tuple(Case(image=(f"{i}.nii",), patient_id=f"patient {p}") for i, p in enumerate(patients))
    folds = assign_folds(cases)
    fold_of_patient = {case.patient_id: folds[case.case_id] for case in cases}
    assert all(folds[case.case_id] == fold_of_patient[case.patient_id] for case in cases)
    assert set(folds.values()) == set(range(min(5, len(set(patients)))))


def test_the_five_splits_hold_out_every_case_once_and_never_train_on_it(tmp_path: Path) -> None:
    cases = [case | {"patient_id": f"p{i // 3}"} for i, case in enumerate(cases_of(22))]
    dataset = Dataset(manifest_of(*cases), tmp_path)
    held_out_once: list[str] = []
    for fold in range(5):
        training, held_out = dataset.split(fold)
        assert {case.patient_id for case in training}.isdisjoint({case.patient_id for case in held_out})
        assert len(training) + len(held_out) == 22
        held_out_once += [case.case_id for case in held_out]
    assert sorted(held_out_once) == sorted(case.case_id for case in dataset.cases)


def test_without_a_fold_every_case_is_on_both_sides(tmp_path: Path) -> None:
    dataset = Dataset(manifest_of(*cases_of(3)), tmp_path)
    training, validation = dataset.split(None)
    assert training == validation == list(dataset.cases)


def test_cases_that_name_their_fold_keep_it() -> None:
    cases = [case | {"fold": 4 - i} for i, case in enumerate(cases_of(5))]
    assert list(assign_folds(manifest_of(*cases).training).values()) == [4, 3, 2, 1, 0]


def test_a_patient_in_two_folds_is_an_error_that_names_the_patient(tmp_path: Path) -> None:
    first, second = cases_of(2)
    manifest = manifest_of(first | {"patient_id": "ann", "fold": 0}, second | {"patient_id": "ann", "fold": 1})
    with pytest.raises(PatientInTwoFoldsError, match="ann") as caught:
        Dataset(manifest, tmp_path)
    assert caught.value.code == "E_PATIENT_IN_TWO_FOLDS"


def test_a_fold_named_for_some_cases_only_is_an_error(tmp_path: Path) -> None:
    first, second = cases_of(2)
    with pytest.raises(ManifestError, match="case 01 has none"):
        Dataset(manifest_of(first | {"fold": 0}, second), tmp_path)


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_does_not_exist_is_an_error_that_lists_those_that_do(tmp_path: Path, fold: int) -> None:
    dataset = Dataset(manifest_of(*cases_of(7)), tmp_path)
    with pytest.raises(OptionError, match=re.escape("[0, 1, 2, 3, 4]")) as caught:
        dataset.split(fold)
    assert caught.value.code == "E_OPTION"


def test_a_fold_that_leaves_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    dataset = Dataset(manifest_of(*cases_of(1)), tmp_path)
    with pytest.raises(NoCasesError, match="none is left to train on") as caught:
        dataset.split(0)
    assert caught.value.code == "E_NO_CASES"


def test_a_dataset_without_labelled_cases_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(NoCasesError, match="no labelled case"):
        Dataset(manifest_of(), tmp_path).split(None)


# Datasets labelled in part

ORGANS = {"labels": {"0": "background", "1": "Spleen", "2": "kidney left", "3": "kidney right", "4": "liver"}}


def partial(tmp_path: Path, *present: list[str] | None, **facts: Any) -> Dataset:
    """Return a dataset of cases 00, 01, … in folds 0, 1, …, each with its labels."""
    cases = [
        case | {"fold": fold} | ({} if names is None else {"labels_present": names})
        for fold, (case, names) in enumerate(zip(cases_of(len(present)), present, strict=True))
    ]
    manifest = manifest_of().model_dump(by_alias=True) | ORGANS | {"training": cases} | facts
    return Dataset(Manifest.model_validate(manifest), tmp_path)


def names_of(side: list[Case]) -> list[str]:
    return [case.case_id for case in side]


def test_a_case_has_all_labels_unless_it_names_those_it_has(tmp_path: Path) -> None:
    dataset = partial(tmp_path, None, [" LIVER", "spleen"], ignore=[9])
    manifest = dataset.manifest
    everything, some = (manifest.labels_of(case) for case in dataset.cases)
    assert everything == manifest.label_set
    assert [label.name for label in some] == ["spleen", "liver"]
    assert some.known_ids == {0, 1, 4, 9}
    assert manifest.partial == {"01": some}
    assert dataset.partial(manifest.label_set)
    assert not dataset.partial(manifest.label_set.select({"liver": ["liver"]}))


def test_a_merged_label_is_in_the_cases_that_have_all_of_its_parts(tmp_path: Path) -> None:
    dataset = partial(tmp_path, ["kidney left", "kidney right"], ["kidney left", "liver"])
    labels = dataset.manifest.label_set.select({"kidneys": ["kidney left", "kidney right"], "liver": ["liver"]})
    present = [[label.name for label in dataset.present(case, labels)] for case in dataset.cases]
    assert present == [["kidneys"], ["liver"]]


def test_cases_that_have_none_of_the_labels_are_left_out_of_both_sides(tmp_path: Path) -> None:
    dataset = partial(tmp_path, ["spleen"], ["liver"], None, ["spleen"])
    liver = dataset.manifest.label_set.select({"liver": ["liver"]})
    assert [names_of(side) for side in dataset.split(None, liver)] == [["01", "02"], ["01", "02"]]
    assert [names_of(side) for side in dataset.split(1, liver)] == [["02"], ["01"]]
    assert [names_of(side) for side in dataset.split(1)] == [["00", "02", "03"], ["01"]]
    with pytest.raises(NoCasesError, match="has a label to score"):
        dataset.split(0, liver)


def test_a_label_that_no_case_to_train_on_has_is_named(tmp_path: Path) -> None:
    dataset = partial(tmp_path, ["spleen", "kidney left"], ["liver", "kidney right"])
    labels = dataset.manifest.label_set
    assert len(dataset.split(None, labels)[0]) == 2
    kidneys = labels.select({"spleen": ["spleen"], "kidneys": ["kidney left", "kidney right"]})
    for fold, chosen, name in ((1, labels, "kidney_right"), (None, kidneys, "kidneys")):
        with pytest.raises(ManifestError, match=f"has the label '{name}'") as caught:
            dataset.split(fold, chosen)
        assert caught.value.code == "E_MANIFEST"


# The shipped manifests


def test_all_ten_tasks_of_the_decathlon_are_shipped() -> None:
    assert len(DECATHLON) == 10


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_manifest_says_what_its_dataset_is(name: str) -> None:
    manifest = read_manifest(SHIPPED[name])
    assert manifest.name == name
    assert manifest.description.endswith(".")
    assert manifest.licence
    assert manifest.reference
    assert list(manifest.modality) == list(range(manifest.channels))
    assert list(manifest.labels) == list(range(len(manifest.labels)))
    assert manifest.labels[0] == "background"
    assert len({label.name for label in manifest.label_set}) == len(manifest.labels) - 1


@pytest.mark.parametrize("name", DECATHLON)
def test_a_shipped_decathlon_manifest_says_where_its_archive_lies(name: str) -> None:
    manifest = read_manifest(SHIPPED[name])
    assert re.fullmatch(r"https://\S+/Task\d\d_\w+\.tar", manifest.address)
    assert re.fullmatch(r"[0-9a-f]{32}", manifest.md5)
    assert manifest.licence == "CC-BY-SA 4.0"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_manifests_counts_agree_with_its_cases(name: str) -> None:
    manifest = read_manifest(SHIPPED[name])
    assert manifest.num_training > 0
    assert len(manifest.training) <= manifest.num_training
    assert not manifest.test


@pytest.mark.parametrize("name", SHIPPED)
def test_every_case_of_a_shipped_manifest_is_complete(name: str, tmp_path: Path) -> None:
    dataset = Dataset(read_manifest(SHIPPED[name]), tmp_path)
    for case in dataset.cases:
        assert case.label is not None
        assert case.fold in range(5)
        assert set(case.sha256) == {"image", "label"}
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in case.sha256.values())


@needs_data
def test_the_shipped_hippocampus_folds_are_those_of_the_real_folder() -> None:
    listed = Dataset(read_manifest(manifest_path("msd_hippocampus")), real("msd_hippocampus"))
    computed = open_dataset(real("msd_hippocampus"))
    assert len(listed.cases) == 230
    assert listed.folds == computed.folds


@needs_data
def test_the_shipped_hippocampus_checksums_are_those_of_the_real_files() -> None:
    dataset = Dataset(read_manifest(manifest_path("msd_hippocampus")), real("msd_hippocampus"))
    for case in dataset.cases[::60]:
        assert sha256_of(dataset.image(case).place) == case.sha256["image"]
        assert sha256_of(dataset.label(case)) == case.sha256["label"]


@needs_data
@pytest.mark.parametrize("name", ["organs_ct", "amos_ct_slab"])
def test_a_one_case_datasets_files_are_the_listed_ones_and_hold_only_named_labels(name: str) -> None:
    dataset = Dataset(read_manifest(manifest_path(name)), real(name))
    (case,) = dataset.cases
    assert sha256_of(dataset.image(case).place) == case.sha256["image"]
    assert sha256_of(dataset.label(case)) == case.sha256["label"]
    label_map = np.asarray(nib.load(dataset.label(case)).dataobj)
    assert set(np.unique(label_map).tolist()) <= dataset.manifest.label_set.known_ids

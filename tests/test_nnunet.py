"""nnU-Net's datasets read as they are, and what medseg cannot hold is refused in its words."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from medseg.dataset import open_dataset
from medseg.errors import ManifestError
from medseg.manifest import Case, Manifest, read_manifest

# As nnU-Net writes it (generate_dataset_json), with a class that is not scored.
LISTING: dict[str, Any] = {
    "channel_names": {"0": "T2", "1": "ADC"},
    "labels": {"background": 0, "peripheral zone": 1, "ignore": 3, "transition zone": 2},
    "numTraining": 2,
    "file_ending": ".mha",
    "overwrite_image_reader_writer": "SimpleITKIO",
    "regions_class_order": None,
    "converted_by": "somebody",
    "licence": "CC0",
}


def read(folder: Path, **changes: Any) -> Manifest:
    """Return the manifest of two cases, of one of which the label map has a name that hides it."""
    (folder / "labelsTr").mkdir(exist_ok=True)
    for name in ("b_0001.mha", "a.mha", "._a.mha", "notes.txt"):
        (folder / "labelsTr" / name).touch()
    (folder / "dataset.json").write_text(json.dumps(LISTING | changes))
    return read_manifest(folder / "dataset.json")


def test_names_are_turned_around_and_cases_found_by_their_label_maps(tmp_path: Path) -> None:
    manifest = read(tmp_path)
    assert manifest.name == tmp_path.name
    assert manifest.licence == "CC0"
    assert manifest.modality == {0: "T2", 1: "ADC"}
    assert manifest.labels == {0: "background", 1: "peripheral zone", 2: "transition zone"}
    assert manifest.ignore == (3,)
    assert manifest.num_training == 2
    assert manifest.training == tuple(
        Case(
            case_id=case_id,
            patient_id=case_id,
            image=(f"imagesTr/{case_id}_0000.mha", f"imagesTr/{case_id}_0001.mha"),
            label=f"labelsTr/{case_id}.mha",
        )
        for case_id in ("a", "b_0001")
    )


def test_the_dataset_opens_with_its_channels(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "a_0000.mha").touch()
    read(tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.image(dataset.cases[0]).case_id == "a"
    assert [path.name for path in dataset.image(dataset.cases[0]).paths] == ["a_0000.mha", "a_0001.mha"]
    assert dataset.folds == {"a": 1, "b_0001": 0}


def test_cases_that_are_listed_with_their_paths_are_those(tmp_path: Path) -> None:
    listed = {"c": {"images": ["x/t2.mha", "y/adc.mha"], "label": "z/c.mha"}}
    (case,) = read(tmp_path, dataset=listed).training
    assert (case.case_id, case.image, case.label) == ("c", ("x/t2.mha", "y/adc.mha"), "z/c.mha")


def test_without_label_maps_there_are_no_cases(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(LISTING))
    assert read_manifest(tmp_path / "dataset.json").training == ()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "labels: 'whole' is a region, of the ids [1, 2]"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "labels: 'a' and 'b' are both 1"),
        (
            {"labels": ["background"], "file_ending": ".png"},
            "(it is ['background']); file_ending: medseg reads .nii.gz",
        ),
        ({"channel_names": ["T2"]}, "channel_names: "),
        ({"dataset": {"c": {"images": "c.mha"}}}, "dataset.c.images: "),
    ],
)
def test_what_a_manifest_cannot_hold_is_refused(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(found)) as caught:
        read(tmp_path, **change)
    assert caught.value.code == "E_MANIFEST"

"""The demo's invented patients: plausible, varied, and the same again from the same seed."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import UnwritableError
from medseg.synthetic import LABELS, synthetic_ct, write_synthetic_dataset
from medseg.volume import LabelMap, Volume, read_label_map, read_volume

SEEDS = range(20)
# Adults' usual ranges, a little wider; the spleen's mean is about 225 ml, the liver's 1500 ml.
PLAUSIBLE_ML = {"spleen": (100, 400), "kidney_right": (80, 250), "kidney_left": (80, 250), "liver": (900, 2200)}
# Means over whole organs: rims mix with what lies around them, the kidneys' medulla and the liver's lesions are darker.
PLAUSIBLE_HU = {"spleen": (80, 135), "kidney_right": (125, 200), "kidney_left": (125, 200), "liver": (75, 130)}
IDS = {name: id_ for id_, name in LABELS.items()}

case = cache(synthetic_ct)


def centroid_world(labels: LabelMap, name: str) -> np.ndarray:
    return labels.geometry.to_world(np.argwhere(labels.array == IDS[name]).mean(axis=0))


def obliquity_degrees(scan: Volume) -> float:
    axes = np.abs(scan.geometry.affine[:3, :3]) / scan.geometry.spacing_mm
    return float(np.degrees(np.arccos(axes.max(axis=0).clip(max=1)).max()))


def test_the_same_seed_gives_the_same_voxels_on_the_same_grid():
    (scan, labels), (again, labels_again) = synthetic_ct(3), synthetic_ct(3)
    np.testing.assert_array_equal(scan.array, again.array)
    np.testing.assert_array_equal(labels.array, labels_again.array)
    assert scan.geometry.distance_mm(again.geometry) == 0


def test_two_seeds_give_two_patients():
    shapes_and_sums = {(case(seed)[0].array.shape, int(case(seed)[0].array.sum())) for seed in SEEDS}
    assert len(shapes_and_sums) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_scan_and_label_map_share_a_small_anisotropic_grid(seed):
    scan, labels = case(seed)
    assert scan.array.dtype == np.int16
    assert labels.array.dtype == np.uint8
    assert scan.array.shape == (1, *labels.array.shape)
    assert scan.geometry.matches(labels.geometry)
    assert -1024 <= scan.array.min() < -950
    assert labels.ids() == {0, *LABELS}
    spacing_mm = sorted(scan.geometry.spacing_mm)
    assert 5 <= spacing_mm[0] <= spacing_mm[1] < 6 < spacing_mm[2] <= 8
    assert labels.array.size < 300_000


@pytest.mark.parametrize("name", PLAUSIBLE_ML)
def test_every_patient_has_an_organ_of_a_plausible_volume_and_attenuation(name):
    for seed in SEEDS:
        scan, labels = case(seed)
        organ = labels.array == IDS[name]
        low, high = PLAUSIBLE_ML[name]
        assert low < organ.sum() * labels.geometry.voxel_ml < high, seed
        low, high = PLAUSIBLE_HU[name]
        assert low < scan.array[0][organ].mean() < high, seed


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_lie_where_they_belong_in_the_world(seed):
    _, labels = case(seed)
    spleen, right, left, liver = (centroid_world(labels, name) for name in LABELS.values())
    assert liver[0] > spleen[0] + 100  # x grows to the patient's right
    assert liver[0] > left[0] + 80
    assert right[0] > left[0] + 80
    assert max(right[1], left[1]) < liver[1] - 15  # y to the front
    assert max(right[2], left[2]) < min(liver[2], spleen[2])  # z to the head


@pytest.mark.parametrize("seed", SEEDS)
def test_no_organ_touches_the_edge_of_the_scan(seed):
    _, labels = case(seed)
    inner = labels.array[1:-1, 1:-1, 1:-1]
    assert np.count_nonzero(inner) == np.count_nonzero(labels.array)


def test_noise_and_bone_and_air_are_there():
    for seed in SEEDS:
        scan, labels = case(seed)
        liver = scan.array[0][labels.array == IDS["liver"]].astype(float)
        spread = np.subtract(*np.percentile(liver, [75, 25])) / 1.349  # of the parenchyma, whatever the rim holds
        assert 6 < spread < 40, seed
        assert (scan.array > 300).mean() > 0.003, seed  # bone, which no label covers
        assert not labels.array[scan.array[0] > 300].any(), seed


def test_orientations_differ_between_patients_and_some_are_oblique():
    assert len({case(seed)[0].geometry.orientation for seed in SEEDS}) >= 5
    tilts = [obliquity_degrees(case(seed)[0]) for seed in SEEDS]
    assert sum(tilt > 1.5 for tilt in tilts) >= 3
    assert sum(tilt < 0.01 for tilt in tilts) >= 3
    assert max(tilts) < 7


def test_a_dataset_has_the_decathlons_form_and_every_image_its_label_map(tmp_path: Path):
    folder = write_synthetic_dataset(tmp_path / "demo", cases=3, seed=5)
    assert folder == tmp_path / "demo"
    summary = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert summary["modality"] == {"0": "CT"}
    assert summary["labels"] == {
        "0": "background",
        "1": "spleen",
        "2": "kidney_right",
        "3": "kidney_left",
        "4": "liver",
    }
    assert summary["numTraining"] == len(summary["training"]) == 3
    assert summary["test"] == []
    for entry in summary["training"]:
        scan, labels = read_volume(folder / entry["image"]), read_label_map(folder / entry["label"])
        labels.check_grid(scan.geometry)
        assert labels.ids() == {0, *LABELS}
        assert scan.array.dtype == np.int16
    listed = {entry[kind].removeprefix("./") for entry in summary["training"] for kind in ("image", "label")}
    written = {str(path.relative_to(folder)) for path in folder.rglob("*.nii.gz")}
    assert written == listed
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]  # nothing half-written beside it


def test_datasets_of_two_seeds_share_no_case_and_one_seed_repeats(tmp_path: Path):
    first, again, other = (
        write_synthetic_dataset(tmp_path / name, cases=2, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    scans = [
        [read_volume(path).array.tobytes() for path in sorted((folder / "imagesTr").iterdir())]
        for folder in (first, again, other)
    ]
    assert scans[0] == scans[1]
    assert not set(scans[0]) & set(scans[2])


def test_a_dataset_never_replaces_what_is_there(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("ten years")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(UnwritableError, match="holds something already"):
            write_synthetic_dataset(path, cases=1)
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "ten years"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

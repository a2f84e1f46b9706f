"""Facts about prepared cases: prepared once, found again, and prepared afresh when anything they depend on changed."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotations import on_series, save_slices
from phantoms import house_geometry, house_label_map, house_volume, save_nifti

from medseg.dataset import Dataset, open_dataset, sha256_of
from medseg.errors import (
    ChecksumError,
    DimensionError,
    FractionalLabelError,
    GridMismatchError,
    ManifestError,
    MedsegError,
    MissingFileError,
    UnknownLabelError,
)
from medseg.labels import LabelSet
from medseg.prepared_case import PreparedCase
from medseg.preprocess import cache as cache_module
from medseg.preprocess import points as points_module
from medseg.preprocess import prepare, prepare_case
from medseg.recipe import Preprocess
from medseg.volume import LabelMap, write_rtstruct, write_seg

NAMES = {"0": "background", "1": "spleen", "2": "kidney", "5": "liver"}
SETTINGS = Preprocess(spacing_mm=(1.5, 1.0, 2.0))
FOREVER = {"labels": NAMES, "modality": {"0": "CT"}, "name": "phantoms"}


def write_dataset(folder: Path, *, label: np.ndarray | None = None, **facts: Any) -> Dataset:
    """Write one phantom with its label map, and open the dataset."""
    folder.mkdir(exist_ok=True)
    geometry = house_geometry()
    save_nifti(folder / "image.nii.gz", house_volume().array[0], geometry.affine)
    save_nifti(folder / "label.nii.gz", house_label_map().array if label is None else label, geometry.affine)
    case = {"image": "image.nii.gz", "label": "label.nii.gz", "case_id": "phantom"}
    (folder / "dataset.json").write_text(json.dumps(FOREVER | {"training": [case]} | facts))
    return open_dataset(folder)


def prepared(
    dataset: Dataset, *, labels: LabelSet | None = None, settings: Preprocess = SETTINGS, cache: str = "cache"
) -> PreparedCase:
    folder = prepare_case(
        dataset,
        dataset.cases[0],
        settings=settings,
        labels=labels or dataset.manifest.label_set,
        cache=dataset.folder / cache,
    )
    return PreparedCase.load(folder)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path / "data")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows by a case id whenever the cache reads a scan."""
    read: list[str] = []

    def counting(source: Any, *, channels: int = 1) -> Any:
        read.append(source.case_id)
        return original(source, channels=channels)

    original = cache_module.read_volume
    monkeypatch.setattr(cache_module, "read_volume", counting)
    return read


def entries(dataset: Dataset) -> list[str]:
    """Return the names in the cache, hidden ones included, and locks left out."""
    folder = dataset.folder / "cache"
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"] if folder.is_dir() else []


def test_a_prepared_case_is_the_scan_and_its_labels_on_one_grid(dataset: Dataset) -> None:
    case = prepared(dataset)
    expected = prepare(house_volume(), SETTINGS)
    np.testing.assert_allclose(case.image, expected.array, atol=1e-5)
    assert case.geometry.distance_mm(expected.geometry) < 1e-3
    assert case.native.distance_mm(house_geometry()) < 1e-3
    assert case.case_id == "phantom"
    assert case.image.shape[1:] == case.label_map.shape == case.geometry.shape
    # nearest neighbour: each voxel has the label of the scan's voxel at its place
    at = case.native.to_voxel(case.geometry.to_world(np.moveaxis(np.indices(case.geometry.shape), 0, -1)))
    safe = (np.abs(at - at.round()) < 0.45).all(axis=-1) & (at >= 0).all(axis=-1)
    safe &= (at <= np.array(case.native.shape) - 1).all(axis=-1)
    i, j, k = at[safe].round().astype(int).T
    np.testing.assert_array_equal(case.label_map[safe], house_label_map().array[i, j, k])


def test_the_points_of_each_label_lie_on_it_in_the_order_of_the_labels(dataset: Dataset) -> None:
    case = prepared(dataset)
    assert len(case.points_voxel) == 3
    for points, label in zip(case.points_voxel, dataset.manifest.label_set, strict=True):
        assert len(points) == np.count_nonzero(case.label_map == label.id) > 0
        assert (case.label_map[tuple(points.T)] == label.id).all()


def test_of_a_large_label_some_points_are_kept_and_they_are_spread(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points_module, "POINTS_PER_LABEL", 10)
    case = prepared(dataset)
    points = case.points_voxel[0]
    where = np.argwhere(case.label_map == 1)
    assert len(points) == 10
    assert (case.label_map[tuple(points.T)] == 1).all()
    assert points[0].tolist() == where[0].tolist()
    assert points[-1].tolist() == where[-1].tolist()


def test_a_merged_label_has_the_points_of_all_its_parts_and_an_absent_one_none(dataset: Dataset) -> None:
    merged = dataset.manifest.label_set.select({"both": ["kidney", "liver"]})
    case = prepared(dataset, labels=merged)
    assert set(case.label_map[tuple(case.points_voxel[0].T)].tolist()) == {2, 5}
    absent = LabelSet.from_names({0: "background", 1: "spleen", 2: "kidney", 3: "bladder", 5: "liver"})
    assert prepared(dataset, labels=absent).points_voxel[2].shape == (0, 3)


# Found again


def test_the_second_time_nothing_is_read_and_the_arrays_are_the_same(dataset: Dataset, reads: list[str]) -> None:
    first, second = prepared(dataset), prepared(dataset)
    assert reads == ["phantom"]
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.label_map, second.label_map)
    for one, other in zip(first.points_voxel, second.points_voxel, strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.geometry.distance_mm(second.geometry) == 0
    assert first.native.distance_mm(second.native) == 0


@pytest.mark.skipif(os.name != "posix", reason="needs the locks of POSIX")
def test_two_runs_that_want_a_case_at_the_same_time_prepare_it_once(
    dataset: Dataset, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, first, second = cache_module.read_volume, threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        (second if first.is_set() else first).set()
        second.wait(0.2)
        return read(*arguments, **options)

    monkeypatch.setattr(cache_module, "read_volume", slow)
    with ThreadPoolExecutor() as pool:
        one = pool.submit(prepared, dataset)
        first.wait(10)
        other = pool.submit(prepared, dataset)
        np.testing.assert_array_equal(one.result().image, other.result().image)
    assert reads == ["phantom"]


def test_the_arrays_are_mapped_from_disk_and_cannot_be_changed(dataset: Dataset) -> None:
    case = prepared(dataset)
    assert isinstance(case.image, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        case.image[0, 0, 0, 0] = 1


def test_a_file_with_the_same_content_is_the_same_case(dataset: Dataset, reads: list[str]) -> None:
    prepared(dataset)
    image = dataset.folder / "image.nii.gz"
    image.write_bytes(image.read_bytes())
    prepared(dataset)
    assert len(reads) == 1


def test_a_changed_image_is_prepared_afresh(dataset: Dataset, reads: list[str]) -> None:
    before = prepared(dataset)
    save_nifti(dataset.folder / "image.nii.gz", house_volume(seed=1).array[0], house_geometry().affine)
    after = prepared(dataset)
    assert len(reads) == 2
    assert not np.array_equal(before.image, after.image)


def test_a_changed_label_map_is_prepared_afresh(dataset: Dataset, reads: list[str]) -> None:
    prepared(dataset)
    save_nifti(dataset.folder / "label.nii.gz", np.zeros((11, 8, 6), np.uint8), house_geometry().affine)
    assert not prepared(dataset).label_map.any()
    assert len(reads) == 2


@pytest.mark.parametrize(
    "change",
    [{"spacing_mm": (2.0, 2.0, 2.0)}, {"orientation": "LPS"}, {"window_hu": (-57.0, 164.0)}, {"crop": "foreground"}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_setting_prepares_afresh(dataset: Dataset, reads: list[str], change: dict[str, Any]) -> None:
    prepared(dataset)
    prepared(dataset, settings=SETTINGS.model_copy(update=change))
    assert len(reads) == 2
    prepared(dataset)
    assert len(reads) == 2
    assert len(entries(dataset)) == 2


def test_another_number_of_channels_does_not_find_what_was_prepared(tmp_path: Path) -> None:
    prepared(write_dataset(tmp_path / "data"))
    two = write_dataset(tmp_path / "data", modality={"0": "T1", "1": "T2"})
    with pytest.raises(DimensionError):
        prepared(two)


def test_a_changed_label_set_prepares_afresh(dataset: Dataset, reads: list[str]) -> None:
    prepared(dataset)
    case = prepared(dataset, labels=dataset.manifest.label_set.select({"liver": ["liver"]}))
    assert len(reads) == 2
    assert len(case.points_voxel) == 1


def test_an_id_that_the_manifest_no_longer_names_is_noticed_in_spite_of_the_cache(tmp_path: Path) -> None:
    first = write_dataset(tmp_path / "data")
    kept = {"spleen": ["spleen"]}
    prepared(first, labels=first.manifest.label_set.select(kept))
    second = write_dataset(tmp_path / "data", labels={"0": "background", "1": "spleen", "2": "kidney"})
    with pytest.raises(UnknownLabelError):
        prepared(second, labels=second.manifest.label_set.select(kept))


# Labels that a case lacks, and voxels that are not labelled


def lacking(folder: Path, *present: str, ignore: tuple[int, ...] = (), **facts: Any) -> Dataset:
    """Write the phantom as a case that has some of the labels; its label map shows them only."""
    ids = [int(id_) for id_, name in NAMES.items() if name in present] + list(ignore)
    array = house_label_map().array
    case = {"image": "image.nii.gz", "label": "label.nii.gz", "case_id": "phantom", "labels_present": list(present)}
    shown = np.where(np.isin(array, ids), array, 0).astype(np.uint8)
    facts = {"labels": {id_: name for id_, name in NAMES.items() if int(id_) not in ignore}} | facts
    return write_dataset(folder, label=shown, training=[case], ignore=ignore, **facts)


def test_a_case_knows_which_labels_it_has(tmp_path: Path) -> None:
    assert prepared(write_dataset(tmp_path / "data")).present == (True, True, True)
    dataset = lacking(tmp_path / "data", "spleen", "liver")
    case = prepared(dataset)
    assert case.present == (True, False, True)
    assert [len(points) > 0 for points in case.points_voxel] == [True, False, True]
    assert case.labelled_voxel is None
    assert len(entries(dataset)) == 2


def test_a_merged_label_of_which_a_part_is_lacking_is_drawn_from_nowhere(tmp_path: Path) -> None:
    dataset = lacking(tmp_path / "data", "spleen", "liver")
    merged = dataset.manifest.label_set.select({"both": ["kidney", "liver"], "spleen": ["spleen"]})
    case = prepared(dataset, labels=merged)
    assert case.present == (False, True)
    assert [len(points) > 0 for points in case.points_voxel] == [False, True]


def test_an_id_that_the_case_is_said_to_lack_is_refused(tmp_path: Path) -> None:
    case = {"image": "image.nii.gz", "label": "label.nii.gz", "case_id": "phantom", "labels_present": ["spleen"]}
    with pytest.raises(UnknownLabelError, match=r"it holds 2, 5, but the labels are 0, 1.*labels_present"):
        prepared(write_dataset(tmp_path / "data", training=[case]))


def test_voxels_that_are_not_labelled_keep_their_id_and_no_patch_is_centred_on_them(tmp_path: Path) -> None:
    case = prepared(lacking(tmp_path / "data", "liver", ignore=(1, 2)))
    assert set(np.unique(case.label_map)) == {0, 1, 2, 5}
    assert case.labelled_voxel is not None
    assert len(case.labelled_voxel) == np.count_nonzero(np.isin(case.label_map, [0, 5]))
    assert set(case.label_map[tuple(case.labelled_voxel.T)].tolist()) == {0, 5}


@pytest.mark.parametrize(("ignore", "beyond"), [((), 0), ((300,), 300)], ids=["background", "not labelled"])
def test_where_no_slice_was_nothing_is_labelled(tmp_path: Path, ignore: tuple[int, ...], beyond: int) -> None:
    geometry = house_geometry()
    affine = geometry.affine @ np.array([[1, 0, 0.8, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    dataset = write_dataset(tmp_path / "data", ignore=ignore)
    save_nifti(dataset.folder / "image.nii.gz", house_volume().array[0], affine)
    save_nifti(dataset.folder / "label.nii.gz", np.ones(geometry.shape, np.uint8), affine)
    case = prepared(dataset)
    assert set(np.unique(case.label_map)) == {beyond, 1}


# What is refused


def fractional() -> np.ndarray:
    return house_label_map().array.astype(np.float32) * 0.5


@pytest.mark.parametrize(
    ("label", "error", "code"),
    [
        (house_label_map(ids=(1, 2, 7)).array, UnknownLabelError, "E_UNKNOWN_LABEL"),
        (fractional(), FractionalLabelError, "E_FRACTIONAL_LABEL"),
        (house_label_map(geometry=house_geometry(shape=(11, 8, 7))).array, GridMismatchError, "E_GRID_MISMATCH"),
    ],
    ids=["unknown id", "fractional", "other grid"],
)
def test_a_label_map_that_does_not_fit_is_refused_by_its_code(
    tmp_path: Path, label: np.ndarray, error: type[MedsegError], code: str
) -> None:
    dataset = write_dataset(tmp_path / "data", label=label)
    with pytest.raises(error) as caught:
        prepared(dataset)
    assert caught.value.code == code
    assert entries(dataset) == []


def test_a_label_map_of_the_same_shape_elsewhere_is_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    moved = house_geometry(centre_mm=(31.5, -42.25, 78.125))
    save_nifti(dataset.folder / "label.nii.gz", house_label_map().array, moved.affine)
    with pytest.raises(GridMismatchError, match=r"1\.00 mm"):
        prepared(dataset)


@pytest.mark.parametrize("name", ["image.nii.gz", "label.nii.gz"])
def test_a_missing_file_is_named(dataset: Dataset, name: str) -> None:
    (dataset.folder / name).unlink()
    with pytest.raises(MissingFileError, match=name):
        prepared(dataset)


@pytest.mark.parametrize("name", ["image", "label"])
def test_a_file_that_is_not_the_manifests_is_refused(tmp_path: Path, name: str) -> None:
    dataset = write_dataset(tmp_path / "data")
    digest = sha256_of(tmp_path / "data" / f"{name}.nii.gz")
    case = {"image": "image.nii.gz", "label": "label.nii.gz", "case_id": "phantom"}
    assert prepared(write_dataset(tmp_path / "data", training=[case | {"sha256": {name: digest.upper()}}]))
    (dataset.folder / f"{name}.nii.gz").write_bytes(b"another")
    with pytest.raises(ChecksumError, match=f"{name}.nii.gz"):
        prepared(open_dataset(dataset.folder))


def test_a_case_without_a_reference_is_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", training=[{"image": "image.nii.gz"}])
    with pytest.raises(ManifestError, match="names no label map"):
        prepared(dataset)


def test_a_write_that_is_cut_short_leaves_no_entry_and_the_next_one_is_whole(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = np.save, []

    def dying(path: Path, array: np.ndarray) -> None:
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, array)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            prepared(dataset)
    assert entries(dataset) == []
    case = prepared(dataset)
    assert LabelMap(np.asarray(case.label_map), case.geometry).ids() == {0, 1, 2, 5}


def test_two_channels_from_two_files_stay_in_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    case = {"image": ["image.nii.gz", "other.nii.gz"], "label": "label.nii.gz", "case_id": "phantom"}
    dataset = write_dataset(folder, training=[case], modality={"0": "T1", "1": "T2"})
    save_nifti(folder / "other.nii.gz", house_volume(seed=1).array[0], house_geometry().affine)
    one = prepared(dataset)
    np.testing.assert_allclose(one.image[1], prepare(house_volume(seed=1), SETTINGS).array[0], atol=1e-5)
    swapped = write_dataset(
        folder,
        training=[case | {"image": ["other.nii.gz", "image.nii.gz"]}],
        modality={"0": "T1", "1": "T2"},
    )
    np.testing.assert_array_equal(prepared(swapped).image, one.image[::-1])


@pytest.mark.parametrize("suffix", ["seg", "rtstruct"])
def test_a_dicom_annotation_is_a_reference_like_any_other(tmp_path: Path, suffix: str) -> None:
    grid = house_geometry(orientation="LPS")
    series = save_slices(tmp_path / "data" / "ct", grid)
    truth = on_series(house_label_map(geometry=grid), series)
    labels = LabelSet.from_names({int(id_): name for id_, name in NAMES.items()})
    write = write_seg if suffix == "seg" else write_rtstruct
    write(truth, series, labels, tmp_path / "data" / "a.dcm")
    save_nifti(tmp_path / "data" / "a.nii.gz", truth.array, truth.geometry.affine)
    cases = {}
    for label in ("a.dcm", "a.nii.gz"):
        case = {"image": "ct", "label": label, "case_id": "phantom"}
        (tmp_path / "data" / "dataset.json").write_text(json.dumps(FOREVER | {"training": [case]}))
        cases[label] = prepared(open_dataset(tmp_path / "data"))
    np.testing.assert_array_equal(cases["a.dcm"].label_map, cases["a.nii.gz"].label_map)
    assert set(np.unique(cases["a.dcm"].label_map)) == {0, 1, 2, 5}


def test_a_label_with_another_name_in_the_manifest_is_prepared_afresh(tmp_path: Path) -> None:
    prepared(write_dataset(tmp_path / "data"))
    renamed = write_dataset(tmp_path / "data", labels=NAMES | {"5": "lung"})
    prepared(renamed)
    assert len(entries(renamed)) == 2

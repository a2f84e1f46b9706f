"""Source: which scans a path holds, whatever else lies beside them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from phantoms import SERIES_UID, house_geometry, house_volume, save_dicom_series, save_nifti

from medseg.errors import EmptyFolderError, MissingFileError, OptionError
from medseg.volume import Source, find_source, find_sources, read_volume
from medseg.volume.source import duplicate_ids, stem

SCAN = house_volume(geometry=house_geometry(shape=(5, 4, 3)))


def nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_nifti(path, SCAN.array[0], SCAN.geometry.affine)


def found(*paths: Path) -> list[tuple[str, str, int]]:
    return [(source.case_id, source.kind, len(source.paths)) for source in find_sources(paths)]


def slices(source: Source) -> list[Path]:
    """Return the files of a series in the order of its slices."""
    assert source.series
    return [file.path for file in source.series.files]


@pytest.mark.parametrize(
    ("name", "case_id"),
    [
        ("spleen_8.nii.gz", "spleen_8"),
        ("a.b.nii", "a.b"),
        ("CASE.NII.GZ", "CASE"),
        ("scan.nrrd", "scan"),
        ("scan.mha", "scan"),
        ("scan.mhd", "scan"),
        ("slice.dcm", "slice"),
        ("spleen_8.seg.dcm", "spleen_8"),
        ("spleen_8.rtstruct.dcm", "spleen_8"),
    ],
)
def test_a_case_is_called_after_its_file(name, case_id):
    assert stem(Path("folder.nii") / name) == case_id


def test_a_file_is_one_scan(tmp_path):
    path = nifti(tmp_path / "spleen_8.nii.gz")
    assert find_sources([path]) == [Source("spleen_8", (path,))]
    assert find_source(path).place == path


def test_a_series_folder_is_one_scan_called_after_the_folder(tmp_path):
    files = save_dicom_series(tmp_path / "patient 7", SCAN)
    source = find_source(tmp_path / "patient 7")
    assert (source.case_id, source.kind, slices(source)) == ("patient 7", "dicom", files)
    assert source.place == tmp_path / "patient 7"


def test_a_series_folder_has_its_name_when_it_is_the_working_folder(tmp_path, monkeypatch):
    save_dicom_series(tmp_path / "patient_7", SCAN)
    monkeypatch.chdir(tmp_path / "patient_7")
    assert found(Path()) == [("patient_7", "dicom", 3)]


def test_slices_need_no_suffix(tmp_path):
    save_dicom_series(tmp_path / "ct", SCAN, name="CT.1.2.3.{}".format)
    assert found(tmp_path) == [("ct", "dicom", 3)]


def test_one_slice_is_a_scan_of_its_own(tmp_path):
    files = save_dicom_series(tmp_path / "ct", SCAN)
    (source,) = find_sources([files[1]])
    assert (source.case_id, source.kind, slices(source)) == ("001", "dicom", [files[1]])


def test_a_folder_is_searched_to_its_depths_in_the_order_of_names(tmp_path):
    nifti(tmp_path / "b.nii.gz")
    nifti(tmp_path / "a" / "deep" / "z.nii")
    nifti(tmp_path / "a" / "y.nii.gz")
    save_dicom_series(tmp_path / "c" / "series", SCAN)
    assert found(tmp_path) == [("z", "file", 1), ("y", "file", 1), ("b", "file", 1), ("series", "dicom", 3)]


def test_several_paths_come_in_the_order_given(tmp_path):
    second, first = nifti(tmp_path / "a.nii.gz"), nifti(tmp_path / "b.nii.gz")
    assert [source.case_id for source in find_sources([first, second])] == ["b", "a"]


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    nifti(tmp_path / "scan.nii.gz")
    nifti(tmp_path / ".partial.scan.nii.gz")
    nifti(tmp_path / ".cache" / "scan.nii.gz")
    (tmp_path / "README.txt").write_text("Scans of 2024")
    (tmp_path / "dataset.json").write_text("{}")
    (tmp_path / "Thumbs.db").write_bytes(bytes(1000))
    assert found(tmp_path) == [("scan", "file", 1)]


def test_a_folder_without_scans_says_what_it_holds_instead(tmp_path):
    for name in ("a.png", "b.PNG", "c.tif", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(EmptyFolderError) as caught:
        find_source(tmp_path)
    assert caught.value.found == (
        "no image file and no DICOM series, but 2 .png and 1 .tif file(s), which carry no spacing and 1 other file(s)"
    )


def test_junk_beside_the_slices_is_passed_over(tmp_path):
    files = save_dicom_series(tmp_path / "ct", SCAN)
    (tmp_path / "ct" / "notes.txt").write_text("seen by")
    (tmp_path / "ct" / "VERSION").write_bytes(bytes(200))
    (tmp_path / "ct" / "empty.dcm").touch()
    shutil.copy(files[0], tmp_path / "ct" / ".000.dcm")
    assert slices(find_source(tmp_path / "ct")) == files


def test_two_series_in_one_folder_are_two_scans(tmp_path):
    other = house_volume(geometry=SCAN.geometry, seed=1)
    save_dicom_series(tmp_path / "ct", SCAN, uid=f"{SERIES_UID}.1")
    save_dicom_series(tmp_path / "ct", other, uid=f"{SERIES_UID}.2", name="other{}.dcm".format)
    sources = find_sources([tmp_path / "ct"])
    assert [source.case_id for source in sources] == ["ct_1", "ct_2"]
    for source, scan in zip(sources, (SCAN, other), strict=True):
        np.testing.assert_array_equal(read_volume(source).array, scan.array)


def test_one_scan_cannot_be_read_from_a_folder_of_two(tmp_path):
    nifti(tmp_path / "a.nii.gz")
    nifti(tmp_path / "b.nii.gz")
    with pytest.raises(OptionError, match="it holds 2 scans where one is wanted") as caught:
        find_source(tmp_path)
    assert "name one file or one series folder" in caught.value.remedy


def test_a_path_with_nothing_is_missing(tmp_path):
    nifti(tmp_path / "a.nii.gz")
    with pytest.raises(MissingFileError) as caught:
        find_sources([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])
    assert caught.value.code == "E_MISSING"
    assert str(tmp_path / "b.nii.gz") in str(caught.value)


@pytest.mark.parametrize("content", ["nothing", "junk", "hidden", "empty folders"])
def test_a_folder_without_scans_is_empty(tmp_path, content):
    if content == "junk":
        (tmp_path / "notes.txt").write_text("no scan here")
        (tmp_path / "DICM").write_bytes(b"DICM")
    elif content == "hidden":
        nifti(tmp_path / ".a.nii.gz")
    elif content == "empty folders":
        (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(EmptyFolderError) as caught:
        find_sources([tmp_path])
    assert caught.value.code == "E_EMPTY_FOLDER"
    assert str(tmp_path) in caught.value.asked
    assert ".nii.gz" in caught.value.remedy


def test_cases_of_one_name_are_found():
    assert duplicate_ids(["a", "b", "a", "c", "c", "c"]) == {"a", "c"}
    assert duplicate_ids(["a", "b"]) == set()

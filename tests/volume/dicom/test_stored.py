"""StoredFile: files in zips are read within limits, and nothing is ever written where a zip wants it."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dicom_phantoms import upright
from phantoms import save_dicom_series

from medseg.errors import ArchiveError
from medseg.volume import find_source, find_sources, look_through, read_volume
from medseg.volume.dicom import stored
from medseg.volume.dicom.stored import StoredFile, contents, is_dicom, members, on_disk


def pack(path: Path, files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def zipped_series(path: Path, folder: Path, *, prefix: str = "", seed: int = 0) -> Path:
    files = save_dicom_series(folder, upright(seed=seed))
    return pack(path, {f"{prefix}{file.name}": file.read_bytes() for file in files})


@pytest.mark.parametrize("prefix", ["", "DICOM/PA000001/", "ÄÖ ü/"])
def test_a_zip_of_slices_is_a_scan_called_after_the_zip(tmp_path, prefix):
    path = zipped_series(tmp_path / "anna.zip", tmp_path / "ct", prefix=prefix)
    source = find_source(path)
    assert (source.case_id, source.kind, source.paths, source.place) == ("anna", "dicom", (path,), path)
    np.testing.assert_array_equal(read_volume(source).array, upright().array)
    assert read_volume(source).geometry.matches(upright().geometry)


def test_a_zip_in_a_folder_is_found_and_one_without_scans_is_passed_over(tmp_path):
    (tmp_path / "in").mkdir()
    zipped_series(tmp_path / "in" / "a.zip", tmp_path / "ct")
    pack(tmp_path / "in" / "model.zip", {"model.json": b"{}", "notes.txt": b"no scan" * 100})
    assert [source.case_id for source in find_sources([tmp_path / "in"])] == ["a"]


def test_a_broken_zip_does_not_keep_the_others_from_being_found(tmp_path):
    (tmp_path / "in").mkdir()
    whole = zipped_series(tmp_path / "in" / "a.zip", tmp_path / "ct").read_bytes()
    (tmp_path / "in" / "b.zip").write_bytes(whole[: len(whole) // 2])
    found = look_through(tmp_path / "in")
    assert [source.case_id for source in found.scans] == ["a"]
    assert [(path.name, error.code) for path, error in found.refused] == [("b.zip", "E_ARCHIVE")]


def test_hidden_members_are_passed_over(tmp_path):
    path = pack(tmp_path / "a.zip", {"__MACOSX/._a": b"x", ".DS_Store": b"x", "a": b"x", "b/.c": b"x"})
    assert members(path) == [StoredFile(path, "a")]


def test_the_digest_of_a_scan_is_the_same_in_a_zip_and_in_a_folder(tmp_path):
    path = zipped_series(tmp_path / "a.zip", tmp_path / "ct")
    assert find_source(path).digest() == find_source(tmp_path / "ct").digest()


@pytest.mark.parametrize(
    ("limit", "value", "found"),
    [("MOST_ENTRIES", 5, "6 files"), ("LARGEST_BYTES", 1000, "GiB"), ("HIGHEST_RATIO", 0.1, "times its size")],
)
def test_a_zip_beyond_a_limit_is_refused(tmp_path, monkeypatch, limit, value, found):
    path = zipped_series(tmp_path / "a.zip", tmp_path / "ct")
    monkeypatch.setattr(stored, "RATIO_COUNTS_FROM_BYTES", 0)
    monkeypatch.setattr(stored, limit, value)
    with pytest.raises(ArchiveError, match=found):
        members(path)


@pytest.mark.parametrize("name", ["../out.dcm", "/etc/out.dcm", "a/../../out.dcm", "..\\out.dcm", "C:/out.dcm"])
def test_a_name_that_points_out_of_the_zip_is_refused(tmp_path, name):
    with pytest.raises(ArchiveError, match="points out of it"):
        members(pack(tmp_path / "a.zip", {name: b"x"}))


def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("slice.dcm")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="is a link"):
        members(tmp_path / "a.zip")


def test_an_encrypted_zip_is_refused(tmp_path):
    path = pack(tmp_path / "a.zip", {"a": b"x"}, method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="encrypted"):
        members(path)


def test_a_member_that_lies_about_its_size_or_is_damaged_is_refused(tmp_path):
    path = pack(tmp_path / "a.zip", {"a": bytes(5000)})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 5000), struct.pack("<I", 10)))
    with pytest.raises(ArchiveError, match="damaged"):
        list(contents(members(path)))


def test_members_lie_on_disk_only_as_long_as_they_are_read(tmp_path):
    path = pack(tmp_path / "a.zip", {"x/a": b"one", "y/a": b"two"})
    with on_disk(members(path)) as paths:
        assert [path.read_bytes() for path in paths] == [b"one", b"two"]
    assert not any(path.exists() for path in paths)


def test_plain_files_are_read_where_they_are(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    with on_disk([StoredFile(tmp_path / "a")]) as paths:
        assert paths == [tmp_path / "a"]
    assert list(contents([StoredFile(tmp_path / "a")])) == [(StoredFile(tmp_path / "a"), b"one")]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (bytes(128) + b"DICM" + bytes(8), True),
        (bytes(127) + b"DICM" + bytes(9), False),
        (b"DICM", False),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(130), True),
        (b"\x08\x00\x00\x00\x04\x00\x00\x00" + bytes(140), True),
        (b"\x08\x00\x05\x00cs\x0a\x00ISO_IR 100" + bytes(130), False),
        (b"\x08\x00\x00\x00", False),
        (bytes(140), False),
        (b"\x89PNG\r\n\x1a\n" + bytes(140), False),
    ],
)
def test_dicom_is_known_by_its_first_bytes(start, expected):
    assert is_dicom(start) is expected

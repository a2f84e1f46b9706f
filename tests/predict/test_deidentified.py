"""Deidentified results tell neither patient nor place, and nobody without the key which scan they are of."""

import hashlib
import json
import shutil
import stat
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
from phantoms import house_geometry, house_volume, save_dicom_series

from medseg.cli import main
from medseg.errors import OptionError, UnwritableError
from medseg.predict import CaseResult, Settings, kept_key, new_key
from medseg.volume import find_source

NAME = "Muster"
FORMATS = ("--format", "nifti,dicom-seg,rtstruct")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Series of patients in folders and zips that are called after them; the second and third are broken."""
    volume = house_volume(geometry=house_geometry(shape=(24, 20, 9), orientation="LPS"))
    for number, name in enumerate(("Anna", "Bert", "Carl")):
        folder = tmp_path / "in" / f"{NAME} {name}" / "ST" / "SER"
        tags = {"0010|0010": f"{NAME}^{name}", "0010|0020": f"47{number}"}
        save_dicom_series(folder, volume, tags=tags, uid=f"1.2.3.{number}")
    (tmp_path / "in" / f"{NAME} Bert" / "ST" / "SER" / "004.dcm").unlink()
    with zipfile.ZipFile(tmp_path / "in" / "study.zip", "w") as archive:
        for file in sorted(folder.iterdir()):
            if file.name != "004.dcm":
                archive.write(file, f"{NAME}_CARL/CT 1/{file.name}")
    shutil.rmtree(folder.parents[1])
    with zipfile.ZipFile(tmp_path / "in" / "bad.zip", "w") as archive:
        archive.writestr(f"{NAME}_DORA/../../x", b"")
    save_dicom_series(
        tmp_path / f"{NAME} Emil" / "views" / f"of {NAME}",
        volume,
        tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"},
    )
    return tmp_path / "in"


def predict(run: Path, scans: Path, out: Path, *options: str) -> dict[str, dict[str, Any]]:
    """Run the command and return its lines by case id."""
    inputs = [str(scans), str(scans.parent / f"{NAME} Emil" / "views")]
    main(["predict", str(run), *inputs, "--out", str(out), "--device", "cpu", "--quiet", "--deidentify", *options])
    lines = map(json.loads, (out / "results.jsonl").read_text(encoding="utf-8").splitlines())
    return {line["case_id"]: line for line in lines}


def test_no_file_and_no_word_on_the_screen_names_a_patient_or_a_folder(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = predict(run, scans, tmp_path / "out", *FORMATS)
    assert {case_id: line["error"] and line["error"]["code"] for case_id, line in results.items()} == {
        "SER_1": None,
        "SER_2": "E_MISSING_SLICE",
        "bad.zip": "E_ARCHIVE",
        "study": "E_MISSING_SLICE",
        "views": "E_EMPTY_FOLDER",
    }
    said = capsys.readouterr()
    assert NAME not in said.out + said.err
    assert str(tmp_path) not in said.err
    for path in (tmp_path / "out").iterdir():
        assert NAME.encode() not in path.read_bytes(), path
        assert NAME not in path.name


def test_neither_the_folder_that_is_given_nor_a_series_uid_is_told(run: Path, tmp_path: Path) -> None:
    given, uid = tmp_path / f"{NAME} Anna", "1.2.840.4711.1"
    for orientation in ("LPS", "LIP"):  # two stacks in one series, which is worth a warning
        volume = house_volume(geometry=house_geometry(shape=(24, 20, 9), orientation=orientation))
        save_dicom_series(given / "SER", volume, uid=uid, name=f"{orientation}{{}}.dcm".format)
    main(["predict", str(run), str(given), "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet",
          "--deidentify", *FORMATS])  # fmt: skip
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert b"W_SERIES_SPLIT" in written["results.jsonl"]
    assert {name for name, content in written.items() if NAME.encode() in content or uid.encode() in content} == set()


@pytest.mark.parametrize(
    ("message", "hidden"),
    [
        ("'Anna M/CT/x' points out of it", "'x' points out of it"),
        ("Bad CRC-32 for file 'ANNA/IM 1'", "Bad CRC-32 for file 'IM 1'"),
        ("[Errno 13] Permission denied: '/data/a b/c.nii'", "[Errno 13] Permission denied: 'c.nii'"),
        ("reading /data/ANNA/scan.nii: no", "reading scan.nii: no"),
        ("reading in/Anna M/scan.nii", "reading scan.nii"),
        ("5 mm/s and 1/2 'as it stands'", "5 mm/s and 1/2 'as it stands'"),
    ],
)
def test_messages_keep_the_own_names_of_files_only(message: str, hidden: str) -> None:
    result = CaseResult("a", "a", error={"code": "E", "message": message})
    result.hide(["in/Anna M/"])
    assert result.error == {"code": "E", "message": hidden}


def test_the_record_tells_which_scan_it_was_only_with_the_key(run: Path, scans: Path, tmp_path: Path) -> None:
    line = predict(run, scans, tmp_path / "out", "--key-file", str(tmp_path / "key"))["SER_1"]
    digest = find_source(scans / f"{NAME} Anna").digest()
    key = bytes.fromhex((tmp_path / "key").read_text())
    assert line["input_sha256"] == Settings(key=key).sealed(digest)
    assert digest not in (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8")
    for path in (tmp_path / "out").iterdir():
        assert key.hex().encode() not in path.read_bytes()
        assert key not in path.read_bytes()


def test_one_key_gives_the_same_bytes_and_another_gives_others(run: Path, scans: Path, tmp_path: Path) -> None:
    for name, options in {"a": ("--key-file", "key"), "b": ("--key-file", "key"), "c": ()}.items():
        options = tuple(str(tmp_path / "key") if option == "key" else option for option in options)
        predict(run, scans, tmp_path / name, *FORMATS, *options)
    for suffix in ("seg.dcm", "rtstruct.dcm"):
        first, second, third = (tmp_path / name / f"SER_1.{suffix}" for name in "abc")
        assert first.read_bytes() == second.read_bytes() != third.read_bytes()
        assert pydicom.dcmread(first).StudyInstanceUID != pydicom.dcmread(third).StudyInstanceUID


def test_resuming_with_the_key_leaves_what_was_done_and_without_it_does_all_again(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    def times(*options: str) -> list[int]:
        results = predict(run, scans, tmp_path / "out", *FORMATS, *options)
        return [(tmp_path / "out" / name).stat().st_mtime_ns for name in results["SER_1"]["outputs"]]

    key = ("--key-file", str(tmp_path / "key"))
    first = times(*key)
    assert times("--resume", *key) == first
    assert set(times("--resume")).isdisjoint(first)


def test_a_folder_that_held_the_patients_names_holds_none_after_a_deidentified_command(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    arguments = ["predict", str(run), str(scans), "--out", str(tmp_path / "out"), "--quiet", *FORMATS]
    main([*arguments, "--device", "cpu"])
    assert list((tmp_path / "out").glob(f"{NAME}*.seg.dcm"))
    predict(run, scans, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "SER_1.nii.gz",
        "results.jsonl",
        "run.json",
    ]


def test_a_missing_key_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "key"
    key = kept_key(path, out=tmp_path / "out")
    assert kept_key(path, out=tmp_path / "out") == key
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["key"]
    assert len({new_key(), new_key(), key}) == 3


def test_commands_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: kept_key(tmp_path / "key", out=tmp_path / "out"), range(32)))
    assert len(set(keys)) == 1


@pytest.mark.parametrize("content", ["", "secret", "0" * 63, "g" * 64])
def test_a_file_that_holds_no_key_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(OptionError, match="64 hexadecimal digits"):
        kept_key(tmp_path / "key", out=tmp_path / "out")
    assert (tmp_path / "key").read_text() == content


def test_a_key_beside_the_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="whoever gets the outputs gets the key"):
        kept_key(tmp_path / "out" / "key", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_key_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnwritableError):
        kept_key(tmp_path / "file" / "key", out=tmp_path / "out")


def test_a_key_without_deidentify_is_refused(run: Path, scans: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    assert main(["predict", str(run), str(scans), "--out", str(tmp_path / "out"), "--key-file", str(key)]) == 2
    assert not key.exists()


def test_settings_tell_the_key_by_its_fingerprint() -> None:
    one, other = Settings(key=b"1" * 32), Settings(key=b"2" * 32)
    assert one.as_json()["key"] != other.as_json()["key"]
    assert "111" not in repr(one) + json.dumps(one.as_json())
    assert one.sealed("ab") != other.sealed("ab") != hashlib.sha256(b"ab").hexdigest()
    assert Settings().sealed("ab") == "ab"

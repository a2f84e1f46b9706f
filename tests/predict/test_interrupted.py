"""A command that is killed, terminated or interrupted at any moment leaves whole files, and resuming completes it."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from copies import ended, start, wait
from phantoms import house_geometry, house_volume, save_dicom_series

from medseg.cli import main
from medseg.cli import run as run_command
from medseg.segment import Segmenter
from medseg.volume import write_image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="copies this process, which Windows cannot")

CASES, KILLS = 12, 20
FORMATS = "nifti,dicom-seg,rtstruct"
# OpenVINO's threads do not come along into the copies of this process.
HOW = ("--format", FORMATS, "--device", "cpu", "--engine", "torch")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small scans: eight files, four DICOM series."""
    folder = tmp_path_factory.mktemp("cohort")
    for number in range(CASES):
        geometry = house_geometry(shape=(24, 20, 9), orientation="LPS")
        volume = house_volume(geometry=geometry, seed=number)
        if number % 3 == 1:
            save_dicom_series(folder / f"case_{number:02d}", volume, uid=f"1.2.826.0.1.3680043.2.1125.8.{number}")
        else:
            write_image(volume, folder / f"case_{number:02d}.nii.gz")
    return folder


def predict(model: Path, scans: Path, out: Path, *options: str) -> int:
    """Start segmenting the scans in a copy of this process; return the copy's id."""

    def command() -> None:
        sys.argv = ["medseg", "predict", str(model), str(scans), "--out", str(out), *HOW, *options]
        run_command()

    return start(command, said=out.with_name(f"{out.name}.said"))


def look(out: Path) -> None:
    """Open every file of a folder that is not hidden, and read all of it."""
    for path in sorted(out.glob("[!.]*")):
        if path.name.endswith(".nii.gz"):
            assert np.asarray(nib.load(path).dataobj).size
        elif path.suffix == ".dcm":
            assert pydicom.dcmread(path).SOPClassUID
        elif path.name == "run.json":
            json.loads(path.read_bytes())
        else:
            assert path.name == "results.jsonl"
            for line in path.read_bytes().split(b"\n")[:-1]:
                json.loads(line)


def contents(out: Path) -> dict[str, bytes]:
    """Return the outputs by name; none where the command never came to make its folder."""
    return {path.name: path.read_bytes() for path in out.glob("case_*")}


def lines(out: Path) -> list[dict[str, object]]:
    """Return the lines of results.jsonl."""
    return [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def hidden(out: Path) -> list[str]:
    """Return the hidden files, the lock aside."""
    return [path.name for path in out.glob(".*") if path.name != ".results.jsonl.lock"]


@pytest.fixture(scope="module")
def undisturbed(run: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """What a command writes that nobody disturbs, and the seconds it takes."""
    warm = tmp_path_factory.mktemp("warm")
    assert main(["predict", str(run), str(scans), "--out", str(warm), *HOW]) == 0
    out = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    assert wait(predict(run, scans, out)) == 0
    assert contents(out) == contents(warm)
    return contents(out), time.monotonic() - began


def test_killed_at_any_moment_and_resumed_it_writes_the_same_bytes_and_never_half_a_file(
    run: Path, scans: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    whole, seconds = undisturbed
    assert len(whole) == CASES + 2 * 4
    draw = random.Random(7)
    kills = midway = finished = 0
    while kills < KILLS or midway < KILLS // 4 or not finished:
        out = tmp_path / f"out_{finished}"
        child = predict(run, scans, out, "--resume")
        kill_at = time.monotonic() + draw.uniform(0.2, 1.0) * seconds * (1 + kills // KILLS)
        while (code := ended(child)) is None:
            look(out)
            if time.monotonic() > kill_at:
                os.kill(child, signal.SIGKILL)
                code = wait(child)
                break
            time.sleep(0.01)
        look(out)
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        midway += code != 0 and 0 < len(contents(out)) < len(whole)
        if code == 0:
            finished += 1
            assert contents(out) == whole
            assert hidden(out) == []
            assert [line["case_id"] for line in lines(out)] == [f"case_{number:02d}" for number in range(CASES)]


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_it_between_cases_and_resuming_completes_it(
    how: signal.Signals,
    code: int,
    run: Path,
    scans: Path,
    undisturbed: tuple[dict[str, bytes], float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, _ = undisturbed
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        logits = Segmenter.logits
        patch.setattr(Segmenter, "logits", lambda *args: time.sleep(0.2) or logits(*args))
        child = predict(run, scans, out)
    while not (out / "results.jsonl").is_file() or len(lines(out)) < 2:
        assert ended(child) is None
        time.sleep(0.002)
    os.kill(child, how)
    assert wait(child) == code
    look(out)
    assert hidden(out) == []
    done = lines(out)
    assert 2 <= len(done) < CASES
    assert {line["status"] for line in done} == {"ok"}
    assert sorted(contents(out)) == sorted(name for line in done for name in line["outputs"])  # type: ignore[attr-defined]
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["cases"] == [line["case_id"] for line in done]

    before = {name: (out / name).stat().st_mtime_ns for name in contents(out)}
    assert wait(predict(run, scans, out, "--resume")) == 0
    assert contents(out) == whole
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before


def test_a_second_ctrl_c_spoils_nothing(
    run: Path, scans: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    whole, seconds = undisturbed
    for pause in (0.001, 0.02):
        out = tmp_path / str(pause)
        child = predict(run, scans, out)
        time.sleep(seconds / 2)
        for _ in range(2):
            os.kill(child, signal.SIGINT)
            time.sleep(pause)
        wait(child)
        look(out)
        assert wait(predict(run, scans, out, "--resume")) == 0
        assert contents(out) == whole
        assert hidden(out) == []


def test_two_shards_at_once_make_one_record(
    run: Path, scans: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    children = [predict(run, scans, out, "--shard", f"{number}/2") for number in (1, 2)]
    assert [wait(child) for child in children] == [0, 0]
    ids = [f"case_{number:02d}" for number in range(CASES)]
    assert [line["case_id"] for line in lines(out)] == ids
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["cases"] == ids
    assert contents(out) == undisturbed[0]


def test_one_command_twice_at_once_makes_one_record(
    run: Path, scans: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    children = []
    for _ in range(2):
        children.append(predict(run, scans, out))
        time.sleep(undisturbed[1] / 3)
    assert all(wait(child) in (0, 1) for child in children)
    assert [line["case_id"] for line in lines(out)] == [f"case_{number:02d}" for number in range(CASES)]
    assert contents(out) == undisturbed[0]

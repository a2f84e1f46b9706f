"""Resuming leaves out what was done well, and does everything else again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from phantoms import house_geometry, house_volume, save_dicom_series

from medseg.cases import find_cases
from medseg.cli import main
from medseg.predict.record import Record
from medseg.run import Run
from medseg.volume import write_image

CASES = ("a", "b", "c", "d")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three files and a DICOM series, b."""
    for seed, name in enumerate(CASES):
        volume = house_volume(geometry=house_geometry(orientation="LPS"), seed=seed)
        if name == "b":
            save_dicom_series(tmp_path / "scans" / name, volume)
        else:
            write_image(volume, tmp_path / "scans" / f"{name}.nii.gz")
    return tmp_path / "scans"


def predict(run: Path, scans: Path, out: Path, *options: str) -> int:
    """Run the command and return its exit code."""
    return main(["predict", str(run), str(scans), "--out", str(out), "--device", "cpu", "--quiet", *options])


def lines(out: Path) -> list[dict[str, Any]]:
    """Return the lines of results.jsonl."""
    return [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def record(out: Path) -> dict[str, Any]:
    """Return run.json."""
    value: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return value


def rewrite(out: Path, case_id: str, **changes: object) -> None:
    """Change a line of results.jsonl."""
    changed = [line | changes if line["case_id"] == case_id else line for line in lines(out)]
    (out / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed), encoding="utf-8")


@pytest.fixture
def done_again(run: Path, scans: Path, tmp_path: Path) -> Callable[..., set[str]]:
    """A function that runs the command, changes something, resumes, and returns the cases that were done again."""

    def do(change: Callable[[Path], object], *options: str, first: tuple[str, ...] = ()) -> set[str]:
        out = tmp_path / "out"
        predict(run, scans, out, *first)
        before = {name: (out / name).stat().st_mtime_ns for line in lines(out) for name in line["outputs"]}
        change(out)
        predict(run, scans, out, "--resume", *first, *options)
        assert [line["case_id"] for line in lines(out)] == list(CASES)
        assert record(out)["cases"] == list(CASES)
        return {
            line["case_id"]
            for line in lines(out)
            if any((out / name).stat().st_mtime_ns != before.get(name) for name in line["outputs"])
        }

    return do


def nothing(_: Path) -> None:
    """Change nothing."""


def test_what_was_done_well_is_left_alone(done_again: Callable[..., set[str]]) -> None:
    assert done_again(nothing, first=("--format", "nifti,dicom-seg,rtstruct", "--overlay")) == set()


def test_without_resume_all_begin_anew(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, scans, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    assert predict(run, scans, out) == 0
    assert all(path.stat().st_mtime_ns != before[path.name] for path in out.glob("*.nii.gz"))
    assert len(lines(out)) == len(CASES)


def test_a_picture_that_could_not_be_drawn_is_drawn_when_it_can(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "overlays").write_text("in the way")
    assert predict(run, scans, out, "--overlay") == 0
    (out / "overlays").unlink()
    assert predict(run, scans, out, "--overlay", "--resume") == 0
    assert sorted(path.stem for path in (out / "overlays").iterdir()) == sorted(CASES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(bytes([*path.read_bytes()[:-1], 0xAA])),
    ],
    ids=["missing", "shorter", "changed"],
)
@pytest.mark.parametrize("name", ["c.nii.gz", "overlays/c.png"])
def test_an_output_that_is_not_as_it_was_written_is_made_again(
    name: str, damage: Callable[[Path], object], done_again: Callable[..., set[str]]
) -> None:
    assert done_again(lambda out: damage(out / name), first=("--overlay",)) == {"c"}


def test_an_output_that_does_not_open_is_made_again_though_its_checksum_holds(
    done_again: Callable[..., set[str]],
) -> None:
    def swap(out: Path) -> None:
        from medseg.predict.outputs import fingerprint

        (out / "c.nii.gz").write_bytes(b"words")
        rewrite(out, "c", files={"c.nii.gz": fingerprint(out / "c.nii.gz")})

    assert done_again(swap) == {"c"}


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failed"},
        {"model_sha256": "0" * 64},
        {"input_sha256": None},
        {"outputs": [], "files": {}},
        {"files": {}},
        {"settings": {}},
        {"medseg": "0.0.1"},
    ],
    ids=str,
)
def test_a_line_that_does_not_prove_its_case_is_not_believed(
    changes: dict[str, Any], done_again: Callable[..., set[str]]
) -> None:
    assert "d" in done_again(lambda out: rewrite(out, "d", **changes))


def test_a_scan_that_changed_is_segmented_again(done_again: Callable[..., set[str]], scans: Path) -> None:
    assert done_again(lambda _: write_image(house_volume(seed=9), scans / "a.nii.gz")) == {"a"}


def test_a_series_that_changed_is_segmented_again(done_again: Callable[..., set[str]], scans: Path) -> None:
    def change(_: Path) -> None:
        volume = house_volume(geometry=house_geometry(orientation="LPS"), seed=9)
        save_dicom_series(scans / "b", volume)

    assert done_again(change) == {"b"}


def test_a_scan_whose_voxels_lie_beside_its_header_and_changed_is_segmented_again(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    image = sitk.ReadImage(str(scans / "a.nii.gz"))
    sitk.WriteImage(image, str(scans / "e.mhd"))
    predict(run, scans, tmp_path / "out")
    before = next(line for line in lines(tmp_path / "out") if line["case_id"] == "e")
    sitk.WriteImage(image + 1, str(scans / "e.mhd"))
    predict(run, scans, tmp_path / "out", "--resume")
    after = next(line for line in lines(tmp_path / "out") if line["case_id"] == "e")
    assert after["input_sha256"] != before["input_sha256"]


def test_a_scan_that_became_unreadable_fails_and_is_not_taken_as_done(run: Path, scans: Path, tmp_path: Path) -> None:
    predict(run, scans, tmp_path / "out")
    (scans / "a.nii.gz").write_bytes(b"")
    assert predict(run, scans, tmp_path / "out", "--resume") == 1
    assert [line["status"] for line in lines(tmp_path / "out")] == ["failed", "ok", "ok", "ok"]


@pytest.mark.parametrize(
    "options", [("--overlay",), ("--allow-gaps",), ("--deidentify",), ("--format", "nifti,rtstruct")]
)
def test_other_options_do_all_again(options: tuple[str, ...], done_again: Callable[..., set[str]]) -> None:
    assert done_again(nothing, *options) == set(CASES)


def test_another_model_does_all_again(run: Path, dataset: Path, recipe: Path, scans: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    train = ["train", str(recipe), "--data", str(dataset), "--out", str(other), "--quiet", "--device", "cpu"]
    assert main([*train, "--seed", "1", "--set", "training.epochs=1"]) == 0
    predict(run, scans, out)
    models = {line["model_sha256"] for line in lines(out)}
    assert len(models) == 1
    predict(other, scans, out, "--resume")
    assert models.isdisjoint(line["model_sha256"] for line in lines(out))


def test_a_line_that_a_crash_cut_off_is_done_again_and_the_rest_is_kept(
    done_again: Callable[..., set[str]],
) -> None:
    def cut(out: Path) -> None:
        whole = (out / "results.jsonl").read_bytes()
        (out / "results.jsonl").write_bytes(whole[:-40])

    assert done_again(cut) == {"d"}


def test_lines_that_are_none_are_left_out(done_again: Callable[..., set[str]]) -> None:
    def spoil(out: Path) -> None:
        with (out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write('5\n{"case_id": "a"}\n{"case_id": [], "input": {}}\n[]\nnull\n')

    assert done_again(spoil) == set()


def test_failed_cases_are_tried_again(run: Path, scans: Path, tmp_path: Path) -> None:
    good = (scans / "a.nii.gz").read_bytes()
    (scans / "a.nii.gz").write_bytes(good[:100])
    assert predict(run, scans, tmp_path / "out") == 1
    (scans / "a.nii.gz").write_bytes(good)
    assert predict(run, scans, tmp_path / "out", "--resume") == 0
    assert record(tmp_path / "out")["failed"] == []


def test_a_scan_that_moved_is_known_by_its_content_and_named_by_its_new_place(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(run, scans, tmp_path / "out")
    moved = scans.rename(tmp_path / "moved")
    monkeypatch.setattr("medseg.predict.stages.read_volume", pytest.fail)
    assert predict(run, moved, tmp_path / "out", "--resume") == 0
    assert lines(tmp_path / "out")[0]["input"] == str(moved / "a.nii.gz")


def test_a_missing_input_of_the_same_name_is_not_taken_for_the_case(run: Path, scans: Path, tmp_path: Path) -> None:
    predict(run, scans, tmp_path / "out")
    nowhere = tmp_path / "nowhere" / "a"
    arguments = ["predict", str(run), str(scans), str(nowhere), "--out", str(tmp_path / "out"), "--quiet", "--resume"]
    for _ in range(2):
        assert main([*arguments, "--device", "cpu"]) == 1
        found = {line["case_id"]: (line["input"], line["status"]) for line in lines(tmp_path / "out")}
        assert found["a"] == (str(scans / "a.nii.gz"), "ok")
        assert found["a_1"] == (str(nowhere), "failed")
        assert (tmp_path / "out" / "a.nii.gz").is_file()


def test_results_of_cases_done_before_are_among_those_returned(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(run, scans, tmp_path / "out")
    (tmp_path / "out" / "c.nii.gz").unlink()
    capsys.readouterr()
    predict(run, scans, tmp_path / "out", "--resume", "--json")
    assert [result["case_id"] for result in json.loads(capsys.readouterr().out)] == list(CASES)


def test_temporaries_that_a_killed_command_left_are_removed_and_those_of_others_stay(
    run: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "overlays").mkdir(parents=True)
    ours = [
        ".0123abcd.a.nii.gz",
        ".0123abcd.b.seg.dcm",
        "overlays/.0123abcd.b.png",
        ".89abcdef.results.jsonl",
        ".89abcdef.run.json",
    ]
    others = [".0123abcd.z.nii.gz", ".hidden", ".0123abcd.notes.txt", "notes.txt"]
    for name in (*ours, *others):
        (out / name).write_bytes(b"half")
    assert predict(run, scans, out) == 0
    assert [name for name in ours if (out / name).exists()] == []
    assert [name for name in others if not (out / name).exists()] == []


def test_a_case_that_fails_leaves_no_label_map_of_an_earlier_command(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, scans, out, "--overlay")
    (scans / "a.nii.gz").write_bytes(b"")
    (out / "a.seg.dcm").write_bytes(b"not listed")
    assert predict(run, scans, out) == 1
    assert not (out / "a.nii.gz").exists()
    assert [path.name for path in (out / "overlays").iterdir()] == []
    assert (out / "a.seg.dcm").read_bytes() == b"not listed"
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["b.nii.gz", "c.nii.gz", "d.nii.gz"]


@pytest.mark.parametrize("options", [(), ("--resume",)])
def test_an_output_of_another_format_does_not_outlive_its_case(
    options: tuple[str, ...], run: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(run, scans, out, "--format", "nifti,dicom-seg,rtstruct")
    predict(run, scans, out, "--deidentify", "--format", "nifti", *options)
    assert sorted(path.name for path in out.glob("[!.]*")) == [
        *(f"{case_id}.nii.gz" for case_id in CASES),
        "results.jsonl",
        "run.json",
    ]


def test_a_record_that_names_other_files_has_none_of_them_removed(run: Path, scans: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "precious.nii.gz"
    predict(run, scans, out)
    other.write_bytes(b"precious")
    (out / "mine.txt").write_bytes(b"mine")
    rewrite(out, "a", outputs=["../precious.nii.gz", "mine.txt", "a.nii.gz", str(scans / "c.nii.gz")])
    strange = lines(out)[2] | {"case_id": "../precious", "outputs": ["../precious.nii.gz"]}
    (out / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (*lines(out), strange)))
    assert predict(run, scans, out) == 0
    assert (other.read_bytes(), (out / "mine.txt").read_bytes()) == (b"precious", b"mine")


def test_a_shard_leaves_the_outputs_of_the_others(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, scans, out)
    predict(run, scans, out, "--shard", "2/2", "--format", "rtstruct")
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]


def test_outputs_are_no_scans_of_the_next_command_in_the_same_folder(run: Path, scans: Path) -> None:
    for name in ("a", "c", "d"):
        (scans / f"{name}.nii.gz").unlink()
    for _ in range(2):
        assert predict(run, scans, scans, "--overlay") == 0
        assert [line["case_id"] for line in lines(scans)] == ["b"]
    assert main(["predict", str(run), str(scans / "b.nii.gz"), "--out", str(scans), "--quiet"]) == 1


def test_a_case_that_two_commands_did_at_once_has_one_line(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, scans, out)
    record = Record(Run(out), find_cases([scans]), deidentify=False)
    for result in record.read():
        record.append(replace(result, peak_ram_mb=7))
    record.close()
    assert [(line["case_id"], line["peak_ram_mb"]) for line in lines(out)] == [(case_id, 7) for case_id in CASES]


def test_shards_one_after_the_other_make_one_record(run: Path, scans: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    predict(run, scans, whole)
    for number in (3, 1, 2):
        assert predict(run, scans, parts, "--shard", f"{number}/3") == 0
    assert [line["case_id"] for line in lines(parts)] == list(CASES)
    assert record(parts)["cases"] == list(CASES)
    for case_id in CASES:
        assert (parts / f"{case_id}.nii.gz").read_bytes() == (whole / f"{case_id}.nii.gz").read_bytes()


def test_shards_that_spell_an_input_in_their_own_ways_make_one_record(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.chdir(scans)
    assert predict(run, Path(), out, "--shard", "1/3") == 0
    monkeypatch.chdir(scans.parent)
    assert predict(run, Path(scans.name), out, "--shard", "2/3") == 0
    assert predict(run, scans, out, "--shard", "3/3") == 0
    assert [line["case_id"] for line in lines(out)] == list(CASES)
    assert record(out)["cases"] == list(CASES)


def test_a_shard_done_again_replaces_its_own_lines_only(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        predict(run, scans, out, "--shard", f"{number}/2")
    before = {line["case_id"]: line for line in lines(out)}
    predict(run, scans, out, "--shard", "2/2", "--overlay")
    after = {line["case_id"]: line for line in lines(out)}
    assert list(after) == list(CASES)
    assert {case_id for case_id in CASES if after[case_id] != before[case_id]} == {"b", "d"}


def test_one_more_case_with_resume_leaves_the_record_of_the_others(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, scans, out)
    (out / "c.nii.gz").unlink()
    rewrite(out, "d", model_sha256="0" * 64)
    write_image(house_volume(seed=9), tmp_path / "e.nii.gz")
    assert predict(run, tmp_path / "e.nii.gz", out, "--resume") == 0
    assert [line["case_id"] for line in lines(out)] == ["a", "b", "e"]  # c is gone, d another model's
    assert record(out)["cases"] == ["a", "b", "e"]


def test_a_deidentified_record_keeps_no_line_that_names_folders(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, scans, out)
    write_image(house_volume(seed=9), tmp_path / "e.nii.gz")
    predict(run, tmp_path / "e.nii.gz", out, "--resume", "--deidentify")
    assert [line["case_id"] for line in lines(out)] == ["e"]


def test_an_earlier_commands_other_cases_leave_the_record(run: Path, scans: Path, tmp_path: Path) -> None:
    predict(run, scans, tmp_path / "out")
    (scans / "a.nii.gz").unlink()
    predict(run, scans, tmp_path / "out", "--shard", "1/1")
    assert [line["case_id"] for line in lines(tmp_path / "out")] == ["b", "c", "d"]


def test_label_maps_that_no_record_tells_of_any_more_are_named(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"stay in {tmp_path / 'out'}, and no record tells of them any more: a\n"
    told = ["predict", str(run), str(scans), "--out", str(tmp_path / "out"), "--device", "cpu"]
    predict(run, scans, tmp_path / "out")
    (scans / "a.nii.gz").unlink()
    main([*told, "--resume"])
    assert said not in capsys.readouterr().err  # the record is kept
    main(told)
    assert said in capsys.readouterr().err
    assert (tmp_path / "out" / "a.nii.gz").is_file()

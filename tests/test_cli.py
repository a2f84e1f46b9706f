"""The command line: help, exit codes, results on standard output and everything else on standard error."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from annotations import on_series, save_slices
from phantoms import house_geometry, house_label_map, house_volume
from PIL import Image

from medseg import __version__
from medseg.cli import app, main
from medseg.cli.show import reporting
from medseg.errors import MedsegError
from medseg.labels import LabelSet
from medseg.progress import Progress
from medseg.volume import write_image, write_rtstruct, write_seg

COMMANDS = [
    ["demo"],
    ["train"],
    ["pretrain"],
    ["plan"],
    ["predict"],
    ["evaluate"],
    ["overlay"],
    ["data", "check"],
    ["data", "list"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_every_option(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert "Usage: medseg" in capsys.readouterr().out


def test_no_command_is_left_out_of_these_tests() -> None:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    names = [[command.name] for command in app.registered_commands if command.name]
    names += [[str(name), str(c.name)] for name, group in groups.items() if group for c in group.registered_commands]
    assert sorted(names) == sorted(COMMANDS)


def test_help_imports_neither_torch_nor_monai() -> None:
    program = (
        "import sys; from medseg.cli import main; main(['--help']); "
        "heavy = {'torch', 'monai', 'torchio', 'SimpleITK', 'nibabel', 'scipy', 'numpy'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"medseg {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fly"], 2, "No such command"),
        (["train", "spleen", "--out", "x", "--fould", "0"], 2, "--fold"),
        (["train", "spleeen", "--out", "x"], 2, "Did you mean 'spleen'?"),
        (["train", "spleen", "--out", "x", "--set", "training.epoch=3"], 2, "Did you mean 'epochs'?"),
        (["train", "spleen", "--out", "x", "--data", ".", "--set", "model.name=unett"], 1, "E_"),
        (["train", "spleen", "--out", "x"], 2, "--data"),
        (["train", "spleen", "--out", "x", "--data", "nowhere"], 1, "E_MISSING"),
        (["predict", "no_model", "scan.nii", "--out", "x", "--device", "cpu"], 1, "E_MISSING"),
        (["demo", "--out", "x", "--device", "gpu"], 2, "E_OPTION"),
        (["demo", "--out", "x", "--device", "cuda:99"], 1, "E_DEVICE"),
        (["predict", "no_model", "scan.nii", "--out", "x", "--shard", "3/2"], 2, "--shard 3/2"),
        (["predict", "no_model", "scan.nii", "--out", "x", "--format", "nifty"], 2, "Did you mean 'nifti'?"),
        (["evaluate", "nothing", "nowhere", "--out", "x"], 1, "E_MISSING"),
        (["data", "check", "nowhere"], 1, "E_MISSING"),
    ],
)  # fmt: skip
def test_what_goes_wrong_has_an_exit_code_and_a_sentence(
    arguments: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert said in capsys.readouterr().err


def test_unknown_models_and_losses_are_usage_errors(
    dataset: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for setting, meant in (("model.name=unett", "unet"), ("training.loss=dise", "dice")):
        out = tmp_path / setting
        arguments = ["train", str(recipe), "--data", str(dataset), "--out", str(out), "--set", setting, "--quiet"]
        assert main(arguments) == 2
        assert f"Did you mean {meant!r}?" in capsys.readouterr().err


@pytest.mark.parametrize(("stop", "code"), [("KeyboardInterrupt", 130), ("Terminated", 143)])
def test_signals_have_their_exit_codes(
    stop: str, code: int, dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medseg import cli

    def stopped(*_: object, **__: object) -> None:
        raise {"KeyboardInterrupt": KeyboardInterrupt, "Terminated": cli.Terminated}[stop]

    monkeypatch.setattr("medseg.check.check", stopped)
    assert main(["data", "check", str(dataset), "--quiet"]) == code
    assert "What was finished is kept" in capsys.readouterr().err


def test_results_go_to_standard_output_as_json(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = sorted((dataset / "imagesTr").iterdir())[0]
    assert main(["predict", str(run), str(scan), "--out", str(tmp_path / "out"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["status"] == "ok"


def test_results_go_to_standard_output_as_a_table(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["predict", str(run), str(dataset / "imagesTr"), "--out", str(tmp_path / "out"), "--quiet"])
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "out"), str(dataset / "labelsTr"), "--out", str(tmp_path / "e")]) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("spleen", "kidney_left", "Dice", "IoU", "no reference", "all"))


def test_an_overlay_is_drawn_with_the_labels_of_its_run(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = sorted((dataset / "imagesTr").iterdir())[0]
    main(["predict", str(run), str(scan), "--out", str(tmp_path / "out"), "--quiet"])
    picture = tmp_path / "picture.png"
    code = main([
        "overlay", str(scan), str(tmp_path / "out" / scan.name), "--out", str(picture),
        "--reference", str(dataset / "labelsTr" / scan.name), "--plane", "coronal", "--window", "-160,240",
    ])  # fmt: skip
    assert code == 0
    assert str(picture) in capsys.readouterr().err
    with Image.open(picture) as image:
        assert image.width > 500


@pytest.mark.parametrize("options", [["--window", "wide"], ["--window=5,1"], ["--plane", "oblique"]])
def test_an_overlay_with_impossible_options_is_refused(
    options: list[str], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = sorted((dataset / "imagesTr").iterdir())[0]
    arguments = ["overlay", str(scan), str(dataset / "labelsTr" / scan.name), "--out", str(tmp_path / "x.png")]
    assert main([*arguments, *options]) == 2
    assert not (tmp_path / "x.png").exists()


def test_an_overlay_of_another_grid_is_refused(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = sorted((dataset / "imagesTr").iterdir())[0]
    label_map = nib.load(dataset / "labelsTr" / scan.name)
    moved = label_map.affine.copy()
    moved[:3, 3] += 3
    nib.save(nib.Nifti1Image(np.asarray(label_map.dataobj), moved), tmp_path / "moved.nii.gz")
    code = main(["overlay", str(scan), str(tmp_path / "moved.nii.gz"), "--out", str(tmp_path / "x.png")])
    assert code == 1
    assert "E_GRID_MISMATCH" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["seg", "rtstruct"])
def test_an_overlay_shows_dicom_annotations(form: str, tmp_path: Path) -> None:
    grid = house_geometry(orientation="LPS")
    series = save_slices(tmp_path / "ct", grid)
    labels = LabelSet.from_names({1: "spleen", 2: "liver", 5: "thing"})
    path = tmp_path / f"a.{form}.dcm"
    write = write_seg if form == "seg" else write_rtstruct
    write(on_series(house_label_map(geometry=grid), series), series, labels, path)
    arguments = ["overlay", str(tmp_path / "ct"), str(path), "--reference", str(path)]
    assert main([*arguments, "--out", str(tmp_path / "x.png")]) == 0
    with Image.open(tmp_path / "x.png") as image:
        assert image.width > 500


def test_every_error_ends_a_command_with_its_code(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kinds(of: type[MedsegError]) -> list[type[MedsegError]]:
        return [of, *(kind for below in of.__subclasses__() for kind in kinds(below))]

    for kind in kinds(MedsegError):

        def fail(*_: object, kind: type[MedsegError] = kind, **__: object) -> None:
            raise kind("asking", found="finding", remedy="mend it")

        monkeypatch.setattr("medseg.check.check", fail)
        assert main(["data", "check", str(dataset), "--quiet"]) in (1, 2)
        assert capsys.readouterr().err == f"{kind.code} asking: finding. Mend it.\n"


def test_what_nobody_foresaw_has_a_code_and_keeps_its_trace(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def surprise(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("medseg.check.check", surprise)
    assert main(["data", "check", str(dataset), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("E_UNEXPECTED ZeroDivisionError: of all things.")


def test_a_quiet_command_says_only_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(quiet=True) as notify:
        for text in ("CASE_1: W_TILTED It leans.", "CASE_1: E_CORRUPT It is damaged.", ""):
            notify(Progress("predict", 1, 2, note="1 failed", message=text))
    assert capsys.readouterr().err == "CASE_1: E_CORRUPT It is damaged.\n"


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medseg.cli.show.SECONDS_BETWEEN_LINES", -1.0)
    with reporting(quiet=False) as notify:
        notify(Progress("find", 3, 0))
        notify(Progress("predict", 12, 100, note="1 failed, 3 min left"))
    assert capsys.readouterr().err == "find 3\npredict 12 of 100, 1 failed, 3 min left\n"


def test_a_table_keeps_what_stands_in_brackets(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = sorted((dataset / "imagesTr").iterdir())[0]
    main(["predict", str(run), str(scan), "--out", str(tmp_path / "out"), "--quiet"])
    assert "spleen [ml]" in capsys.readouterr().out


def test_of_many_labels_a_table_says_how_many_were_found(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = sorted((dataset / "imagesTr").iterdir())[0]
    monkeypatch.setattr("medseg.cli.predict.MOST_COLUMNS", 3)
    main(["predict", str(run), str(scan), str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), "--quiet"])
    table = capsys.readouterr().out
    _, line = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines())
    found = sum(ml > 0 for ml in line["volumes_ml"].values())
    assert "spleen" not in table
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in table.splitlines() if "│" in row]
    assert [row[:3] for row in rows] == [["nowhere", "E_MISSING", ""], [line["case_id"], "ok", str(found)]]


def test_an_overlay_shows_the_first_of_several_channels(tmp_path: Path) -> None:
    write_image(house_volume(channels=2), tmp_path / "scan.nii.gz")
    write_image(house_label_map(), tmp_path / "label_map.nii.gz")
    arguments = ["overlay", str(tmp_path / "scan.nii.gz"), str(tmp_path / "label_map.nii.gz")]
    assert main([*arguments, "--out", str(tmp_path / "picture.png")]) == 0
    assert (tmp_path / "picture.png").is_file()

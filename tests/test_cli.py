"""The command line: help, exit codes, results on standard output and everything else on standard error."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rich.markup
import typer
from annotations import on_series, save_slices
from phantoms import house_geometry, house_label_map, house_volume
from PIL import Image

from medseg import __version__
from medseg.cli import app, main
from medseg.cli.show import fits, print_summary, print_table, reporting
from medseg.errors import MedsegError
from medseg.labels import LabelSet
from medseg.metrics import CaseScore, summarise
from medseg.progress import Progress
from medseg.volume import LabelMap, write_image, write_rtstruct, write_seg

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


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_loses_no_word_to_markup(command: list[str]) -> None:
    found: Any = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]
    texts = [found.help or "", *(parameter.help for parameter in found.params if getattr(parameter, "help", None))]
    assert all(str(rich.markup.render(text)) == text for text in texts)


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_who_reads_no_further_ends_nothing(options: tuple[str, ...]) -> None:
    command, pipe = [sys.executable, "-m", "medseg", "data", "list", *options], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as listing:
        assert listing.stdout
        assert listing.stderr
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 0


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
        (["train", "spleen", "--out", "x", "--set", "training.epoch=3"], 2, "did you mean 'epochs'?"),
        (["train", "spleen", "--out", "x", "--data", ".", "--set", "model.name=unett"], 1, "E_"),
        (["train", "spleen", "--out", "x"], 2, "--data"),
        (["train", "spleen", "--out", "x", "--data", "nowhere"], 1, "E_MISSING"),
        (["predict", "no_model", "scan.nii", "--out", "x", "--device", "cpu"], 2, "E_UNKNOWN_NAME"),
        (["train", "no_recipe.toml", "--data", ".", "--out", "x"], 2, "E_UNKNOWN_NAME"),
        (["demo", "--out", "x", "--device", "gpu"], 2, "E_OPTION"),
        (["demo", "--out", "x", "--device", "cuda:99"], 1, "E_DEVICE"),
        (["predict", "no_model", "scan.nii", "--out", "x", "--shard", "3/2"], 2, "--shard 3/2"),
        (["predict", "no_model", "scan.nii", "--out", "x", "--format", "nifty"], 2, "Did you mean 'nifti'?"),
        (["evaluate", "nothing", "nowhere", "--out", "x"], 1, "E_MISSING"),
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
    assert capsys.readouterr().err.endswith("What was finished is kept.\n")  # checking has no --resume


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
    assert all(word in table for word in ("spleen", "kidney_left", "Dice", "IoU", "missed, invented, absent", "all"))


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
    monkeypatch.setattr("medseg.cli.show.FILE_COLUMNS", 60)
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


LONG_NAMES = ("portal_vein_and_splenic_vein", "kidney_right", "liver")


@pytest.mark.parametrize(("columns", "has_recall"), [(80, False), (100, True), (120, True)])
def test_scores_fit_the_terminal_with_each_label_on_a_line(
    columns: int, has_recall: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medseg.cli.show.FILE_COLUMNS", columns)
    missed, invented = (0.0, 0.0, None, 0.0), (0.0, 0.0, 0.0, None)
    scores = [(0.9, 0.8, 0.9, 0.9), missed, missed, invented, (None,) * 4]
    rows = [CaseScore(f"c{i}", j, name, *own) for i, own in enumerate(scores) for j, name in enumerate(LONG_NAMES, 1)]
    print_summary(summarise(rows), as_json=False, title="Scores")
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= columns
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]
    assert [(row[0], row[1], row[2], *row[-2:]) for row in cells] == [
        *((name, "0.225", "0.000–0.675", "5", "2, 1, 1") for name in LONG_NAMES),
        ("all", "0.225", "0.000–0.675", "5", "6, 3, 3"),
    ]
    assert ("recall" in table) == has_recall


def test_a_table_breaks_the_longest_words_only_where_words_have_no_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medseg.cli.show.FILE_COLUMNS", 40)
    columns = ["case", "kidney_right [ml]", "s"]
    assert fits(columns, [["1.2.840.113619.2", "150.0", "1"]])
    assert not fits(["case", "kidney_right", "kidney_left", "liver"], [["a", "1", "2", "3"]])
    print_table("Volumes", columns, [["1.2.840.113619.2", "150.0", "1"]])
    table = capsys.readouterr().out
    assert "kidney_right" in table
    assert "1.2.840.113619.2" in table
    print_table("Volumes", columns, [["1.2.840.113619.2.55.3", "150.0", "1"]])
    assert "│ 1.2.840.113619.2. │" in capsys.readouterr().out


def test_an_overlay_is_painted_with_the_labels_by_what_the_label_map_calls_its_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    painted = []
    monkeypatch.setattr("medseg.overlay.write_overlay", lambda *values, **others: painted.append((values, others)))
    write_image(house_volume(), tmp_path / "scan.nii.gz")
    write_image(house_label_map(), tmp_path / "a.nii.gz", LabelSet.from_names({1: "liver", 2: "spleen", 5: "aorta"}))
    write_image(house_label_map(), tmp_path / "bare.nii.gz")
    listing = {"name": "x", "modality": {"0": "CT"}, "labels": {"0": "none", "1": "spleen", "2": "liver", "5": "aorta"}}
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    arguments = ["overlay", str(tmp_path / "scan.nii.gz"), str(tmp_path / "a.nii.gz"), "--out", str(tmp_path / "x.png")]
    options = ["--labels", str(tmp_path), "--reference", str(tmp_path / "bare.nii.gz")]
    assert main([*arguments, *options]) == 0
    (_, _, shown, named), others = painted[0]
    truth = house_label_map().array
    np.testing.assert_array_equal(shown.array, np.array([0, 2, 1, 0, 0, 5])[truth])
    np.testing.assert_array_equal(others["reference"].array, truth)
    assert [label.name for label in named] == ["spleen", "liver", "aorta"]

    listing["labels"] = {"0": "none", "1": "spleen", "2": "kidney", "5": "aorta"}
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    assert main([*arguments, *options]) == 1
    assert "calls 1 'liver', and the labels have no 'liver'" in capsys.readouterr().err

    fewer = LabelMap(np.minimum(truth, 1), house_label_map().geometry)
    write_image(fewer, tmp_path / "a.nii.gz", LabelSet.from_names({1: "liver"}))
    assert main([*arguments, *options[2:]]) == 1
    assert "bare.nii.gz holds 2, 5 without a name" in capsys.readouterr().err

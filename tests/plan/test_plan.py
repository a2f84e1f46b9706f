"""`medseg plan` writes a recipe with its reasons, which training takes as it is."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from phantoms import real_data

from medseg.cli import main
from medseg.plan import measure
from medseg.plan.choice import Choice, as_recipe
from medseg.plan.write import commented_toml
from medseg.recipe import load_recipe

# So little memory that patches are small.
QUICK = ("--memory", "800MB")


@pytest.fixture(autouse=True)
def at_a_glance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the machine's speed measured in moments."""
    monkeypatch.setattr(measure, "PROBES", {"cpu": (16,)})
    monkeypatch.setattr(measure, "STEPS", 1)


def planned(data: Path, out: Path, *options: str) -> int:
    """Run `medseg plan` on the CPU."""
    return main(["plan", str(data), "--out", str(out), "--device", "cpu", "--quiet", *QUICK, *options])


def test_a_planned_recipe_trains_without_an_edit(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = tmp_path / "recipe.toml", tmp_path / "run"
    assert planned(dataset, path, "--minutes", "1", "--json") == 0
    said = capsys.readouterr()
    assert f"medseg train {path} --data {dataset} --fold 0 --out RUN" in said.err  # as the minutes are counted
    told = json.loads(said.out)
    recipe = load_recipe(str(path))
    assert as_recipe(Choice(**choice) for choice in told["choices"]) == recipe
    assert len(told["facts"]["cases"]) == 5
    assert recipe.preprocess.window_hu is not None
    short = ["training.epochs=1", "training.steps_per_epoch=1", "training.validation_cases=1", "prediction.flips=[]"]
    settings = [part for setting in short for part in ("--set", setting)]
    arguments = ["train", str(path), "--data", str(dataset), "--out", str(run), "--fold", "0", "--device", "cpu", "-q"]
    assert main([*arguments, *settings]) == 0


def test_every_value_stands_below_its_reason(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.toml"
    assert planned(dataset, path) == 0
    assert "spacing_mm" in capsys.readouterr().out
    lines = path.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("# Planned by medseg from 5 case(s) of Synthetic abdomen, for 30 minutes")
    for above, line in pairwise(lines):
        if " = " in line and not line.startswith(("#", "description")):
            assert above.startswith("# "), line
    assert any(line.startswith("# median of 5 cases") for line in lines)


def test_a_recipe_is_not_written_over_another_one(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("# by hand")
    assert planned(dataset, path) == 2
    assert "there already" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "# by hand"
    assert planned(dataset, tmp_path / "recipe") == 2
    assert planned(dataset, tmp_path / "new.toml", "--memory", "lots") == 2
    assert planned(tmp_path / "nowhere", tmp_path / "new.toml") == 1
    assert not (tmp_path / "new.toml").exists()


def test_a_case_that_is_left_out_shows_in_the_exit_code_and_the_recipe(dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "data"))
    min((copy / "labelsTr").iterdir()).unlink()
    assert planned(copy, tmp_path / "recipe.toml") == 1
    assert "(1 could not be read)" in (tmp_path / "recipe.toml").read_text(encoding="utf-8").replace("\n# ", " ")


def test_choices_stand_in_their_sections_and_quoted_where_toml_asks_for_it(tmp_path: Path) -> None:
    choices = [
        Choice("labels.lobe.upper left", ["lobe.upper left"], 'two words, and a "quote"'),
        Choice("training.batch", 3, "why not " * 40),
        Choice("description", "for a test", ""),
        Choice("preprocess.window_hu", None, "it is MR"),
    ]
    text = commented_toml(choices, heading="A heading.")
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    recipe = load_recipe(str(path))
    assert recipe == as_recipe(choices)
    assert recipe.labels == {"lobe.upper left": ["lobe.upper left"]}
    assert text.index("description") < text.index("[labels]") < text.index("# no window_hu: it is MR")
    assert text.startswith("# A heading.\n")


@pytest.mark.parametrize(
    ("name", "manifest", "network", "modality"),
    [("msd_hippocampus", None, "3D", "MRI"), ("amos_ct_slab", "amos_ct_slab", "2D", "CT")],
)
def test_real_datasets_get_recipes(
    name: str, manifest: str | None, network: str, modality: str, tmp_path: Path
) -> None:
    data, path = real_data(name), tmp_path / "recipe.toml"
    options = ["--manifest", manifest] if manifest else []
    assert planned(data, path, *options) == 0
    recipe = load_recipe(str(path))
    assert recipe.two_dimensional == (network == "2D")
    assert (recipe.preprocess.window_hu is None) == (modality == "MRI")
    assert recipe.manifest == manifest


@pytest.mark.parametrize("minutes", ["inf", "nan"])
def test_minutes_are_a_length_of_time(
    minutes: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(dataset, tmp_path / "recipe.toml", "--minutes", minutes) == 2
    assert "--minutes" in capsys.readouterr().err

"""The README keeps up: every command, recipe, model, loss and error code stands in it."""

import re
from pathlib import Path

import pytest

from medseg.cli import app
from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.models import MODELS
from medseg.remarks import REMARKS
from medseg.shipped import shipped

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def leaves(kind: type[MedsegError]) -> list[type[MedsegError]]:
    """Return the errors of a tree that are raised: those without errors below them."""
    below = kind.__subclasses__()
    return [leaf for child in below for leaf in leaves(child)] if below else [kind]


def test_every_command_stands_in_the_readme() -> None:
    for command in app.registered_commands:
        assert f"medseg {command.name}" in README
    for group in app.registered_groups:
        assert group.typer_instance
        for command in group.typer_instance.registered_commands:
            assert f"medseg {group.name} {command.name}" in README


@pytest.mark.parametrize("names", [shipped("pipelines", ".toml"), MODELS, LOSSES], ids=["recipes", "models", "losses"])
def test_every_name_that_can_be_chosen_stands_in_the_readme(names: dict[str, object]) -> None:
    assert [name for name in names if not re.search(rf"\b{name}\b", README)] == []


def test_every_error_code_stands_in_the_readme_with_its_meaning() -> None:
    for error in leaves(MedsegError):
        meaning = (error.__doc__ or "").splitlines()[0].rstrip(".")
        assert f"| `{error.code}` | {meaning} |".lower() in README.lower()


def test_every_remark_stands_in_the_readme_with_its_meaning() -> None:
    assert [code for code, meaning in REMARKS.items() if f"| `{code}` | {meaning} |" not in README] == []


def test_the_test_command_can_be_found_by_the_integration_script() -> None:
    assert re.search(r"<!-- test command -->\n```bash\npip install '\.\[test\]' && pytest\n```", README)

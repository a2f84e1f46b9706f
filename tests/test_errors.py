"""The error tree: drawn, complete, and the same in every process."""

import copy
import inspect
import pickle
import re

import pytest

from medseg import errors
from medseg.errors import CorruptFileError, MedsegError, UnknownNameError

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, MedsegError) and kind.__module__ == errors.__name__
}
BRANCH = re.compile(r"^((?:│   |    )*)[├└]── (\w+)(?: +(.*))?$")


def drawn() -> dict[str, tuple[str, str]]:
    """Return name → (parent, what is written beside it) of the tree in the module's docstring."""
    tree, above = {}, {-1: "MedsegError"}
    for line in inspect.getdoc(errors).splitlines():
        if match := BRANCH.match(line):
            indent, name, beside = match.groups()
            depth = len(indent) // 4
            above[depth] = name
            tree[name] = (above[depth - 1], beside or "")
    return tree


def test_the_drawing_shows_every_error_under_its_parent():
    parents = {name: kind.__mro__[1].__name__ for name, kind in CLASSES.items() if kind is not MedsegError}
    assert {name: parent for name, (parent, _) in drawn().items()} == parents


def test_the_drawing_gives_every_leaf_its_code():
    leaves = {name: kind for name, kind in CLASSES.items() if not kind.__subclasses__()}
    assert {name: drawn()[name][1] for name in leaves} == {name: kind.code for name, kind in leaves.items()}


def test_no_two_errors_share_a_code():
    codes = [kind.code for kind in CLASSES.values()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"E_[A-Z_]+", code) for code in codes)


def test_every_error_says_in_a_sentence_what_it_is():
    assert all(kind.__doc__ and kind.__doc__.strip().endswith(".") for kind in CLASSES.values())


def test_a_message_says_what_was_asked_what_was_found_and_what_to_do():
    error = CorruptFileError("reading a.nii", found="it is empty", remedy="copy it again")
    assert (error.asked, error.found, error.remedy) == ("reading a.nii", "it is empty", "copy it again")
    assert str(error) == "reading a.nii: it is empty. Copy it again."


def test_a_remedy_that_asks_keeps_its_question_mark():
    error = UnknownNameError("no model named 'unte'", found="there is unet", remedy="did you mean 'unet'?")
    assert str(error) == "no model named 'unte': there is unet. Did you mean 'unet'?"


def test_a_foreign_message_of_several_lines_becomes_one():
    error = CorruptFileError("reading a.nrrd", found="expected 630 bytes\n  received 0.\n", remedy="copy it again")
    assert str(error) == "reading a.nrrd: expected 630 bytes received 0. Copy it again."


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_an_error_crosses_to_another_process_whole(kind):
    error = kind("asked", found="found", remedy="remedy")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (twin.asked, twin.found, twin.remedy, str(twin)) == ("asked", "found", "remedy", str(error))

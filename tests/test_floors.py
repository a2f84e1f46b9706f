"""The house keeps its floors: imports go down, and each foreign type stays behind its door."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import medseg

PACKAGE = Path(medseg.__file__).parent
FLOORS = [
    {"errors", "remarks"},
    {
        "across",
        "axes",
        "labels",
        "choose",
        "complaints",
        "shipped",
        "amount",
        "atomic",
        "device",
        "interrupt",
        "memory",
        "modality",
        "pointwise",
        "processor",
        "progress",
        "shard",
        "stopwatch",
    },
    {"volume", "cases", "picture", "nnunet", "manifest", "dataset", "prepared_case", "recipe", "agreement", "run"},
    {"preprocess", "augment", "patches", "models", "engine", "baselines", "losses", "restore", "postprocess", "metrics"}
    | {"overlay", "presets", "synthetic"},
    {"package", "ensemble", "segment"},
    {"train", "plan", "predict", "evaluate", "report", "check"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Foreign library → the only rooms that may import it, lazily or not.
DOORS = {
    "SimpleITK": {"volume"},
    "pydicom": {"volume"},
    "highdicom": {"volume"},
    "nibabel": {"volume"},
    "torchio": {"augment"},
    "typer": {"cli"},
    "rich": {"cli"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    """Return the room a file belongs to: the folder below medseg/, or the file itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted name of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_needed(path: Path) -> set[str]:
    """Return the rooms of medseg that a file imports from, other than its own; `medseg.__version__` is no room."""
    names = [name.split(".") for name in imports(path)]
    rooms = {parts[1] for parts in names if parts[0] == "medseg" and len(parts) > 1}
    return {room for room in rooms if not room.startswith("__")} - {room_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_never_go_up(path):
    floor = FLOOR_OF.get(room_of(path))
    assert floor is not None, f"room {room_of(path)!r} stands on no floor: give it one here and in the README"
    above = {room for room in rooms_needed(path) if FLOOR_OF.get(room, 99) > floor}
    assert not above, f"floor {floor} reaches up to {above}"


@pytest.mark.parametrize("rooms", FLOORS[1:], ids=lambda rooms: "-".join(sorted(rooms)))
def test_no_two_rooms_of_one_floor_need_each_other(rooms):
    needs = {room: set[str]() for room in rooms}
    for path in FILES:
        if room_of(path) in rooms:
            needs[room_of(path)] |= rooms_needed(path) & rooms
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(f"something in {error.args[1]} belongs a floor down")


@pytest.mark.parametrize("library", DOORS)
def test_each_foreign_type_stays_behind_its_door(library):
    rooms = {room_of(path) for path in FILES if any(name.split(".")[0] == library for name in imports(path))}
    assert rooms <= DOORS[library]


def test_only_the_command_line_prints():
    printing = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == {"cli/show.py"}


def test_every_error_is_defined_on_the_ground_floor():
    defined = {
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }
    assert defined == {"errors.py"}

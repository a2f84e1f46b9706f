"""The data files that come with medseg: recipes in `pipelines`, datasets in `data_manifests`."""

from pathlib import Path

from medseg.choose import choose

PACKAGE = Path(__file__).parent


def shipped(kind: str, suffix: str) -> dict[str, Path]:
    """Return the shipped files of a kind by name, sorted.

    Args:
        kind: the folder, "pipelines" or "data_manifests". In a wheel it lies inside the package, in a checkout beside
            it.
        suffix: the files' suffix, ".toml" or ".json".
    """
    inside, beside = PACKAGE / kind, PACKAGE.parent / kind
    folder = inside if inside.is_dir() else beside
    return {path.stem: path for path in sorted(folder.glob(f"*{suffix}"))}


def recipe_path(name: str) -> Path:
    """Return the shipped recipe of this name, or raise UnknownNameError with the nearest one."""
    return choose(shipped("pipelines", ".toml"), name, kind="recipe")


def manifest_path(name: str) -> Path:
    """Return the shipped manifest of this name, or raise UnknownNameError with the nearest one."""
    return choose(shipped("data_manifests", ".json"), name, kind="manifest")

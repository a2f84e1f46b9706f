"""Options that several commands have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medseg.manifest import Manifest

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1… or mps. Auto takes a GPU where there is one.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; failed cases are still named.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]
Labels = Annotated[
    str | None,
    typer.Option(
        help="A dataset.json or shipped manifest that names the labels, and those that cases lack. Left out: the "
        "labels of the run that predicted.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="Of the first weights and of every patch drawn.", min=0, max=2**31 - 1)]


def manifest_of(named: str | None) -> "Manifest | None":
    """Return a manifest file or a shipped manifest."""
    if named is None:
        return None
    from medseg.manifest import read_manifest
    from medseg.shipped import manifest_path

    path = Path(named)
    return read_manifest(path if path.suffix == ".json" else manifest_path(named))

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
        help="A dataset.json, its folder or a shipped manifest: what is scored, what the ids of references mean, and "
        "what cases lack. Files that name their ids are matched with it by these names. Left out: the labels of the "
        "run that predicted, or those that the files name.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="Of the first weights and of every patch drawn.", min=0, max=2**31 - 1)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value, such as training.epochs=50; repeatable.", show_default=False),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="End with the same weights, bit for bit, however often it was broken off and resumed, on one machine "
        "with the same number of threads. Slower on a GPU.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on from the run's last checkpoint, or the one before if that is damaged; a training that has ended is "
        "scored again where the recipe's prediction section has changed.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that draw patches; left out, by the machine's cores.", min=0, show_default=False),
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Where prepared cases are kept; runs may share it. Left out: the run.", show_default=False),
]


def manifest_of(named: str | None) -> "Manifest | None":
    """Return a manifest file, that of a dataset's folder, or a shipped one."""
    if named is None:
        return None
    from medseg.dataset import shipped_manifest_of
    from medseg.manifest import LISTING, read_manifest
    from medseg.shipped import manifest_path, shipped

    path = Path(named)
    listing = path / LISTING
    known = named if named in shipped("data_manifests", ".json") else shipped_manifest_of(path)
    if listing.is_file() or (path.is_dir() and known is None):
        path = listing
    return read_manifest(path if path.suffix == ".json" else manifest_path(known or named))

"""medseg train."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.frame import DONE, FAILED, app, command
from medseg.cli.options import AsJson, Device, Quiet, Seed
from medseg.cli.show import print_summary, reporting, say
from medseg.errors import OptionError


@app.command("train")
@command
def train_command(
    recipe: Annotated[str, typer.Argument(help="A .toml file, or a shipped recipe's name.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The run's folder.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(help="A Decathlon folder (dataset.json) or a manifest .json.", show_default=False),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            help="Hold this fold out and score on it. Left out, every case is trained on, and the scores are those on "
            "training data.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.key=value, such as training.epochs=50; repeatable.", show_default=False),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the run's last checkpoint, or the one before if that is damaged."),
    ] = False,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="End with the same weights, bit for bit, however often it was broken off and resumed, on one machine "
            "with the same number of threads. Slower on a GPU.",
        ),
    ] = False,
    device: Device = "auto",
    seed: Seed = 0,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that draw patches; left out, by the machine's cores.", min=0, show_default=False),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where prepared cases are kept; runs may share it. Left out: the run.", show_default=False),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Train a network, and leave a run: recipe, journal, checkpoint, model package, scores.

    Ctrl-C and SIGTERM end it after the step it is at; --resume goes on from there. On several devices: torchrun
    --nproc-per-node N -m medseg train …, where training.batch is that of all processes together.
    """
    from medseg.across import local_rank, processes, rank
    from medseg.dataset import open_dataset
    from medseg.recipe import load_recipe

    chosen = load_recipe(recipe, settings or [])
    if data is None:
        raise OptionError(
            f"training {recipe}", found="no dataset is named", remedy="add --data with the dataset's folder or manifest"
        )
    dataset = open_dataset(data, manifest=chosen.manifest)

    from medseg.device import choose_device
    from medseg.train import train

    place = local_rank() if processes() > 1 else None
    with reporting(quiet or rank() > 0) as notify:
        result = train(
            chosen,
            dataset,
            out,
            fold=fold,
            device=choose_device(device, place=place),
            seed=seed,
            resume=resume,
            deterministic=deterministic,
            workers=workers,
            cache=cache,
            notify=notify,
        )
    if rank() == 0:
        print_summary(result.summary, as_json=as_json, title=f"Scores on {result.summary['scored_on']}")
        say(f"The run is {out}; `medseg predict {out} SCANS --out DIR` uses its model.")
    return FAILED if result.failed else DONE

"""medseg pretrain."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.frame import DONE, FAILED, app, command
from medseg.cli.options import AsJson, Cache, Deterministic, Device, Quiet, Resume, Seed, Settings, Workers
from medseg.cli.show import number, print_json, print_table, reporting, say


@app.command("pretrain")
@command
def pretrain_command(
    recipe: Annotated[str, typer.Argument(help="A .toml file, or a shipped recipe's name.", show_default=False)],
    data: Annotated[
        list[Path],
        typer.Option(
            metavar="IMAGES",
            help="Scans: files, DICOM series folders or zips, or folders of any number of these; or a dataset (a "
            "folder with dataset.json, or a manifest): its training images, labelled or not. Repeatable.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run's folder.", show_default=False)],
    fold: Annotated[
        int | None,
        typer.Option(
            help="Leave the cases of this fold of a dataset out. A model that starts from here and is scored on a fold "
            "must not have seen its scans, not even without labels.",
            min=0,
            show_default=False,
        ),
    ] = None,
    settings: Settings = None,
    resume: Resume = False,
    deterministic: Deterministic = False,
    device: Device = "auto",
    seed: Seed = 0,
    workers: Workers = None,
    cache: Cache = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Train the recipe's network without labels, to put back hidden blocks of scans; `train --from` starts there.

    What helps is many scans of the kind that will be segmented. A tenth of the patients is held out (none of less than
    five), and the error there is told beside that of a network that has learnt nothing. A scan of which
    neither a dataset nor DICOM says whose it is counts as a patient. Signals, --resume and torchrun work as in `medseg
    train`.
    """
    from medseg.across import local_rank, processes, rank
    from medseg.recipe import load_recipe

    chosen = load_recipe(recipe, settings or [])

    from medseg.device import choose_device
    from medseg.train import find_scans, pretrain

    place = local_rank() if processes() > 1 else None
    with reporting(quiet or rank() > 0) as notify:
        scans = find_scans(data, fold=fold, notify=notify)
        result = pretrain(
            chosen,
            scans,
            out,
            device=choose_device(device, place=place),
            seed=seed,
            resume=resume,
            deterministic=deterministic,
            workers=workers,
            cache=cache,
            notify=notify,
        )
    if rank() > 0:  # as in `train`
        return DONE
    if as_json:
        print_json(result.summary)
    else:
        rows = [
            ["the network", number(result.summary["mse"], 4)],
            ["the mean of what is visible", number(result.summary["mse_of_mean"], 4)],
        ]
        title = f"Reconstruction of masked blocks, {result.summary['scored_on']}"
        print_table(title, ["what is put back", "mean squared error"], rows)
    say(f"The run is {out}; `medseg train RECIPE --data DATASET --out RUN --from {out}` starts from it.")
    return FAILED if result.failed else DONE

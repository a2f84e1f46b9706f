"""medseg train."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from medseg.cli.frame import DONE, FAILED, app, command
from medseg.cli.options import AsJson, Cache, Deterministic, Device, Quiet, Resume, Seed, Settings, Workers
from medseg.cli.show import number, print_summary, print_table, reporting, say
from medseg.errors import OptionError

ALL: Final = "all"


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
        str | None,
        typer.Option(
            help="Hold this fold out and score on it; `all` does so with each fold in turn, scores every case, and "
            "makes an ensemble of their models. Left out, every case is trained on, and the scores are those on "
            "training data.",
            show_default=False,
        ),
    ] = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="With --fold all: also train one model on every case, in RUN/refit, which predicts as many times "
            "faster as there are folds. It has the scores of the folds.",
        ),
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from the weights of a run, of a model package (folder or .zip) or of a run of `pretrain`; the "
            "recipe has to name the same network. Labels of the same name keep what they know, others begin anew, and "
            "channels may differ. Grid and intensities are the recipe's. `--set training.encoder_rate=0.1` holds the "
            "encoder back, 0 freezes it. With --resume it is given again, and the weights come from the checkpoint.",
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
    held_out = _fold(fold, refit=refit)
    with reporting(quiet or rank() > 0) as notify:
        dataset = open_dataset(data, manifest=chosen.manifest, notify=notify)

        from medseg.device import choose_device
        from medseg.train import Start, train, train_folds

        begins = Start.read(start) if start else None
        place = local_rank() if processes() > 1 else None
        begin = partial(train_folds, refit=refit) if held_out == ALL else partial(train, fold=held_out)
        result = begin(
            chosen,
            dataset,
            out,
            start=begins,
            device=choose_device(device, place=place),
            seed=seed,
            resume=resume,
            deterministic=deterministic,
            workers=workers,
            cache=cache,
            notify=notify,
        )
    if rank() > 0:  # the first one, which may still be writing, says how it ended: torchrun ends all when one fails
        return DONE
    if held_out == ALL and not as_json:
        _print_folds(result.summary)
    print_summary(result.summary, as_json=as_json, title=f"Scores on {result.summary['scored_on']}")
    say(f"The run is {out}; `medseg predict {out} SCANS --out DIR` uses its model.")
    return FAILED if result.failed else DONE


def _print_folds(summary: dict[str, Any]) -> None:
    """Print the mean Dice of each fold, and the mean of these."""
    means = {**summary["folds"], "mean": summary["mean_of_folds"]}
    names = list(summary["labels"])
    rows = [[fold, *(number(part["dice"].get(name), 4) for name in names)] for fold, part in means.items()]
    print_table("Mean Dice of each fold", ["fold", *names], rows)


def _fold(text: str | None, *, refit: bool) -> int | Literal["all"] | None:
    """Return a fold's number, all, or None where none is held out."""
    if refit and text != ALL:
        raise OptionError("--refit", found="it is of a cross-validation", remedy="add --fold all, or leave it out")
    if text is None:
        return None
    if text == ALL:
        return ALL
    if not text.isdecimal():
        raise OptionError(f"--fold {text}", found="it is no fold", remedy="write a number, such as 0, or all")
    return int(text)

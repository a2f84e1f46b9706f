"""medseg plan."""

import math
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.frame import DONE, FAILED, app, command
from medseg.cli.options import AsJson, Device, Quiet
from medseg.cli.show import print_json, print_table, reporting, say
from medseg.errors import OptionError


@app.command("plan")
@command
def plan_command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET", help="A Decathlon folder (dataset.json) or a manifest .json.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="The recipe, a .toml file that is not there yet.", show_default=False)],
    memory: Annotated[
        str | None,
        typer.Option(
            help="What training may take of the device's, such as 8GB. Left out: 80 % of what a GPU has free, on a CPU "
            "half of the machine's.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="What training may take on this machine, with one fold held out.", min=0.1)
    ] = 30.0,
    manifest: Annotated[
        str | None,
        typer.Option(
            help="The shipped manifest of a folder without a dataset.json; left out, the one whose files it holds.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Look at a dataset, and write a recipe for it that says why each value is what it is, to be read and edited."""
    from medseg.amount import memory_bytes
    from medseg.atomic import write_text
    from medseg.dataset import open_dataset

    limit = memory_bytes(memory, option="--memory") if memory else None
    if not math.isfinite(minutes):
        raise OptionError(f"--minutes {minutes}", found="it is no length of time", remedy="give a number of minutes")
    if out.suffix != ".toml":
        raise OptionError(f"--out {out}", found="recipes end in .toml", remedy=f"write --out {out}.toml")
    if out.exists():
        raise OptionError(f"--out {out}", found="it is there already", remedy="choose another name, or remove it")
    with reporting(quiet) as notify:
        dataset = open_dataset(data, manifest=manifest, notify=notify)

        from medseg.device import choose_device
        from medseg.plan import plan

        planned = plan(
            dataset,
            minutes=minutes,
            memory_bytes=limit,
            device=choose_device(device),
            notify=notify,
        )
    write_text(out, planned.to_toml())
    if as_json:
        print_json(planned.as_json())
    else:
        rows = [[choice.key, str(choice.value), choice.reason] for choice in planned.choices if choice.reason]
        print_table(f"The plan for {planned.facts.name}", ["key", "value", "reason"], rows)
    held_out = "" if planned.facts.fold is None else f" --fold {planned.facts.fold}"
    say(f"Wrote {out}; `medseg train {out} --data {data}{held_out} --out RUN` trains with it.")
    return FAILED if planned.facts.left_out else DONE

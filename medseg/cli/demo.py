"""medseg demo."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.frame import DONE, FAILED, app, command
from medseg.cli.options import AsJson, Device, Quiet, Seed
from medseg.cli.show import print_summary, reporting, say


@app.command("demo")
@command
def demo_command(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")] = Path("medseg-demo"),
    device: Device = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Make synthetic abdominal CTs, train a 3D U-Net on them, segment new ones, score and draw them. Needs no data."""
    from medseg.demo import demo
    from medseg.device import choose_device

    with reporting(quiet) as notify:
        result = demo(out, device=choose_device(device), seed=seed, notify=notify)
    print_summary(result.evaluation.summary, as_json=as_json, title="Dice and IoU on scans that training never saw")
    say(f"Open {result.report} to see them; the trained model is {result.training.run.folder}.")
    return FAILED if result.evaluation.failed else DONE

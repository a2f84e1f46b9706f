"""medseg evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.frame import DONE, FAILED, app, command
from medseg.cli.options import AsJson, Labels, Quiet, manifest_of
from medseg.cli.show import counted, print_summary, reporting, say, shortened


@app.command("evaluate")
@command
def evaluate_command(
    predictions: Annotated[Path, typer.Argument(help="A label map, or a folder of them.", show_default=False)],
    references: Annotated[Path, typer.Argument(help="The same, matched by case id.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where metrics.csv and summary.json go.", show_default=False)],
    labels: Labels = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Score label maps against references: Dice, IoU, precision and recall per volume and label."""
    from medseg.evaluate import evaluate

    manifest = manifest_of(labels)
    named, partial = (manifest.label_set, manifest.partial) if manifest else (None, None)
    with reporting(quiet) as notify:
        result = evaluate(predictions, references, out, labels=named, partial=partial, notify=notify)
    if result.rows or as_json:
        scored = counted(len({row.case_id for row in result.rows}), "case")
        print_summary(result.summary, as_json=as_json, title=f"Scores of {scored}")
    if result.unlabelled:
        say(f"Neither prediction nor reference shows a label: {', '.join(shortened(result.unlabelled))}.")
    if result.unpredicted:
        alone = counted(len(result.unpredicted), "reference")
        say(f"Not scored, without a prediction: {alone}: {', '.join(shortened(result.unpredicted))}.")
    return FAILED if result.failed else DONE

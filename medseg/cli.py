"""The command line: parse, one library call, print, exit code. The only file that prints."""

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from medseg import __version__
from medseg.errors import MedsegError, OptionError, UsageError

if TYPE_CHECKING:
    from medseg.labels import LabelSet
    from medseg.progress import Notify, Progress

DONE, FAILED, USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
# Without a terminal, a line this often is enough to see that work goes on.
SECONDS_BETWEEN_LINES = 20.0

app = typer.Typer(
    name="medseg",
    help="Train, run and judge medical image segmentation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1… or mps. Auto takes a GPU where there is one.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; failed cases are still named.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]
Seed = Annotated[int, typer.Option(help="Of the first weights and of every patch drawn.", min=0, max=2**31 - 1)]


class Terminated(BaseException):
    """SIGTERM came."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed in part or whole, 2 usage, 130 Ctrl-C, 143 SIGTERM."""
    try:
        app(args=list(argv) if argv is not None else None, prog_name="medseg")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE
    return DONE


def run() -> NoReturn:
    """Run the command line of this process."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _command(function: Callable[..., int]) -> Callable[..., None]:
    """Turn a command's result, and what it raises, into the exit code."""

    @functools.wraps(function)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            code = function(*args, **options)
        except MedsegError as error:
            _say(f"{error.code} {error}")
            code = USAGE if isinstance(error, UsageError) else FAILED
        except KeyboardInterrupt:
            _say("Interrupted. What was finished is kept.")
            code = INTERRUPTED
        except Terminated:
            _say("Terminated. What was finished is kept.")
            code = TERMINATED
        raise typer.Exit(code)

    return guarded


@app.callback(invoke_without_command=True)
def _medseg(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"medseg {__version__}")
        raise typer.Exit


@app.command("demo")
@_command
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

    with _reporting(quiet) as notify:
        result = demo(out, device=choose_device(device), seed=seed, notify=notify)
    _print_summary(result.evaluation.summary, as_json=as_json, title="Dice and IoU on scans that training never saw")
    _say(f"Open {result.report} to see them; the trained model is {result.training.run.folder}.")
    return FAILED if result.evaluation.failed else DONE


@app.command("train")
@_command
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
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    device: Device = "auto",
    seed: Seed = 0,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that draw patches; left out, by the machine's cores.", min=0, show_default=False),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Train a network, and leave a run: recipe, journal, checkpoint, model package, scores."""
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

    with _reporting(quiet) as notify:
        result = train(
            chosen,
            dataset,
            out,
            fold=fold,
            device=choose_device(device),
            seed=seed,
            resume=resume,
            workers=workers,
            notify=notify,
        )
    _print_summary(result.summary, as_json=as_json, title=f"Scores on {result.summary['scored_on']}")
    _say(f"The run is {out}; `medseg predict {out} SCANS --out DIR` uses its model.")
    return FAILED if result.failed else DONE


@app.command("predict")
@_command
def predict_command(
    model: Annotated[Path, typer.Argument(help="A run, or a model package (folder or .zip).", show_default=False)],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="NIfTI, NRRD or MHA files, DICOM series folders, or folders of any number of these.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where label maps and results.jsonl go.", show_default=False)],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw each label map on its scan.")] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Segment scans: each label map has its scan's own shape and affine. A bad scan is reported; the others go on."""
    from medseg.device import choose_device
    from medseg.package import load_package
    from medseg.predict import find_cases, predict

    chosen = choose_device(device)
    package = load_package(model)
    with _reporting(quiet) as notify:
        results = predict(package, find_cases(inputs), out, device=chosen, overlays=overlay, notify=notify)
    failed = [result for result in results if result.status == "failed"]
    if as_json:
        from dataclasses import asdict

        _print_json([asdict(result) for result in results])
    else:
        names = [label.name for label in package.labels]
        _print_table(
            f"{len(results) - len(failed)} of {len(results)} cases segmented",
            ["case", "status", *(f"{name} [ml]" for name in names), "seconds"],
            [
                [
                    result.case_id,
                    result.error["code"] if result.error else "ok",
                    *(_number(result.volumes_ml.get(name), 1) for name in names),
                    _number(result.seconds.get("total"), 1),
                ]
                for result in results
            ],
        )
    return FAILED if failed or not results else DONE


@app.command("evaluate")
@_command
def evaluate_command(
    predictions: Annotated[Path, typer.Argument(help="A label map, or a folder of them.", show_default=False)],
    references: Annotated[Path, typer.Argument(help="The same, matched by case id.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where metrics.csv and summary.json go.", show_default=False)],
    labels: Annotated[
        str | None,
        typer.Option(
            help="A dataset.json or shipped manifest that names the labels. Left out: those of the predictions' run.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Score label maps against references: Dice, IoU, precision and recall per volume and label."""
    from medseg.evaluate import evaluate

    with _reporting(quiet) as notify:
        result = evaluate(predictions, references, out, labels=_labels(labels), notify=notify)
    _print_summary(result.summary, as_json=as_json, title=f"Scores of {len({r.case_id for r in result.rows})} case(s)")
    if result.unpredicted:
        _say(f"{len(result.unpredicted)} reference(s) have no prediction and are not scored: {result.unpredicted[:3]}…")
    return FAILED if result.failed else DONE


@app.command("overlay")
@_command
def overlay_command(
    image: Annotated[Path, typer.Argument(help="The scan.", show_default=False)],
    label_map: Annotated[Path, typer.Argument(help="Its label map: filled.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A .png (montage), .gif (film) or .html (page).", show_default=False)],
    reference: Annotated[
        Path | None, typer.Option(help="The reference's label map: outlined.", show_default=False)
    ] = None,
    plane: Annotated[str, typer.Option(help="axial, coronal or sagittal.")] = "axial",
    window: Annotated[
        str | None, typer.Option(help="LOW,HIGH in HU, such as -160,240. Left out, by the voxels.", show_default=False)
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="A dataset.json or shipped manifest that names the labels. Left out: those of the label map's run.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Paint a label map on its scan, patient's right on the left, with names, millilitres and sides."""
    from medseg.evaluate.evaluation import labels_found, run_labels
    from medseg.overlay import write_overlay
    from medseg.volume import Source, read_label_map, read_volume

    prediction = read_label_map(label_map)
    referred = read_label_map(reference) if reference else None
    named = _labels(labels) or run_labels(label_map) or labels_found(*filter(None, [prediction, referred]))
    source = Source.of(image)
    write_overlay(
        out,
        read_volume(source),
        prediction,
        named,
        reference=referred,
        plane=plane,
        window=_window(window),
        title=source.case_id,
    )
    _say(f"Wrote {out}.")
    return DONE


@data_app.command("list")
@_command
def data_list_command(as_json: AsJson = False) -> int:
    """List the datasets that medseg has a manifest of."""
    from medseg.manifest import read_manifest
    from medseg.shipped import shipped

    manifests = {name: read_manifest(path) for name, path in shipped("data_manifests", ".json").items()}
    if as_json:
        _print_json({name: manifest.model_dump(mode="json") for name, manifest in manifests.items()})
        return DONE
    _print_table(
        "Datasets",
        ["name", "modality", "labels", "cases", "licence"],
        [
            [
                name,
                ", ".join(manifest.modality.values()),
                ", ".join(_shortened([label.name for label in manifest.label_set])),
                str(manifest.num_training or len(manifest.training)),
                manifest.licence,
            ]
            for name, manifest in manifests.items()
        ],
    )
    return DONE


@data_app.command("check")
@_command
def data_check_command(
    dataset: Annotated[
        Path, typer.Argument(help="A Decathlon folder (dataset.json) or a manifest .json.", show_default=False)
    ],
    manifest: Annotated[
        str | None,
        typer.Option(help="The shipped manifest of a folder without a dataset.json.", show_default=False),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Read every case of a dataset as training will, and say what would go wrong."""
    from medseg.check import check_dataset
    from medseg.dataset import open_dataset

    opened = open_dataset(dataset, manifest=manifest)
    with _reporting(quiet) as notify:
        findings = check_dataset(opened, notify=notify)
    if as_json:
        from dataclasses import asdict

        _print_json([asdict(finding) for finding in findings])
    else:
        rows = [[finding.case_id, finding.code, finding.message] for finding in findings]
        _print_table(
            f"{len(opened.cases)} cases, {len({finding.case_id for finding in findings})} with findings",
            ["case", "code", "what to do"],
            rows,
        )
    return FAILED if findings or not opened.cases else DONE


def _labels(named: str | None) -> "LabelSet | None":
    """Return the labels of a manifest file or a shipped manifest."""
    if named is None:
        return None
    from medseg.manifest import read_manifest
    from medseg.shipped import manifest_path

    path = Path(named)
    return read_manifest(path if path.suffix == ".json" else manifest_path(named)).label_set


def _window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
        if low < high:
            return low, high
    except ValueError:
        pass
    raise OptionError(f"--window {text}", found="it is not LOW,HIGH", remedy="write for instance --window=-160,240")


def _shortened(names: list[str]) -> list[str]:
    return names if len(names) <= 6 else [*names[:5], f"and {len(names) - 5} more"]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, as wide as the terminal, or as wide as it needs to be in a file."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def _print_summary(summary: dict[str, Any], *, as_json: bool, title: str) -> None:
    """Print scores with their denominators."""
    if as_json:
        _print_json(summary)
        return

    def row(name: str, part: dict[str, Any]) -> list[str]:
        interval = part["dice"]["ci95"]
        return [
            name,
            *(_number(part[score]["mean"]) for score in ("dice", "iou", "precision", "recall")),
            f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "",
            str(part["n"]),
            *(str(part[count]) for count in ("n_reference_empty", "n_prediction_empty", "n_both_empty")),
        ]

    rows = [row(name, part) for name, part in summary["labels"].items()]
    _print_table(
        title,
        [
            "label",
            "Dice",
            "IoU",
            "precision",
            "recall",
            "Dice 95 % CI",
            "n",
            "no reference",
            "no prediction",
            "neither",
        ],
        [*rows, row("all", summary["overall"])],
    )


@contextmanager
def _reporting(quiet: bool) -> "Iterator[Notify]":
    """Give a function that shows progress: a bar on a terminal, lines elsewhere, with --quiet only what went wrong."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines(quiet)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def show(progress: "Progress") -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total, note="")
            task = tasks[progress.stage]
            bar.update(task, completed=progress.done, total=progress.total)
            if progress.note:
                bar.update(task, note=progress.note)
            if progress.message:
                bar.console.print(progress.message, highlight=False, markup=False)

        yield show


class _Lines:
    """Shows progress as plain lines, now and then."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._last = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        """Say a message at once, and mere progress when it is time."""
        if progress.message and (not self._quiet or "E_" in progress.message):
            _say(progress.message)
        elif not self._quiet and time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            _say(f"{progress.stage} {progress.done}/{progress.total} {progress.note}")
            self._last = time.monotonic()

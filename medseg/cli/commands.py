"""The commands: each parses its arguments, makes one library call and shows the result.

Libraries are imported inside, so that help and usage errors come at once.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg import __version__
from medseg.cli.frame import DONE, FAILED, app, command, data_app
from medseg.cli.show import number, print_json, print_summary, print_table, put, reporting, say, shortened
from medseg.errors import OptionError

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


@app.callback(invoke_without_command=True)
def _medseg(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        put(f"medseg {__version__}")
        raise typer.Exit


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
            help="What training may take of the device's, such as 8GB. Left out: 80 % of a GPU's, on a CPU half of "
            "the machine's.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="What training may take on this machine.", min=0.1)] = 30.0,
    manifest: Annotated[
        str | None,
        typer.Option(help="The shipped manifest of a folder without a dataset.json.", show_default=False),
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
    if out.suffix != ".toml":
        raise OptionError(f"--out {out}", found="recipes end in .toml", remedy=f"write --out {out}.toml")
    if out.exists():
        raise OptionError(f"--out {out}", found="it is there already", remedy="choose another name, or remove it")
    dataset = open_dataset(data, manifest=manifest)

    from medseg.device import choose_device
    from medseg.plan import plan

    with reporting(quiet) as notify:
        planned = plan(
            dataset,
            minutes=minutes,
            memory_bytes=limit,
            manifest=manifest,
            device=choose_device(device),
            notify=notify,
        )
    write_text(out, planned.to_toml())
    if as_json:
        print_json(planned.as_json())
    else:
        rows = [[choice.key, str(choice.value), choice.reason] for choice in planned.choices if choice.reason]
        print_table(f"The plan for {planned.facts.name}", ["key", "value", "reason"], rows)
    say(f"Wrote {out}; `medseg train {out} --data {data} --out RUN` trains with it.")
    return FAILED if planned.facts.left_out else DONE


@app.command("predict")
@command
def predict_command(
    model: Annotated[Path, typer.Argument(help="A run, or a model package (folder or .zip).", show_default=False)],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="NIfTI, NRRD or MHA files, DICOM series folders or zips, or folders of any number of these.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where label maps and results.jsonl go.", show_default=False)],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="What is written of each case, separated by commas: nifti (CASE.nii.gz); dicom-seg, or "
            "dicom-seg-labelmap for viewers that read the newer kind (CASE.seg.dcm); rtstruct (CASE.rtstruct.dcm). The "
            "DICOM ones refer to the series they were made from, and are left out where the scan is none.",
        ),
    ] = "nifti",
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also draw each label map on its scan, as overlays/CASE.png.")
    ] = False,
    deidentify: Annotated[
        bool,
        typer.Option(
            "--deidentify",
            help="Leave the patient out of DICOM outputs, and the folders of the scans out of results.jsonl and "
            "run.json. Cases are still called after their files or series folders; those that are called alike are "
            "numbered, in the order of their places. UIDs are replaced under a key that is forgotten afterwards.",
        ),
    ] = False,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the key of --deidentify, made where it is missing. Commands with one key replace the "
            "same UID by the same other one, as shards and --resume need. Whoever has it can tell which scan is which: "
            "keep it away from the outputs.",
            show_default=False,
        ),
    ] = None,
    allow_gaps: Annotated[
        bool,
        typer.Option("--allow-gaps", help="Fill missing slices of a series from their neighbours, with a warning."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Leave out the cases that an earlier command finished, where outputs, scan, model and options are "
            "still the same. Without it all begin anew.",
        ),
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            help="i/n: do only the i-th of n parts of the cases. Commands that do the other parts may run at once, "
            "with the same inputs and --out.",
        ),
    ] = "1/1",
    device: Device = "auto",
    engine: Annotated[
        str,
        typer.Option(help="auto, openvino or torch. Auto takes OpenVINO on a CPU, where it is several times faster."),
    ] = "auto",
    preset: Annotated[
        str,
        typer.Option(
            help="fast, balanced or accurate. Fast: patches overlap less, nothing is mirrored, and a coarse model, "
            "where the package has one, finds first where to look. Balanced: as the recipe says. Accurate: also "
            "mirrored as in training, and in full precision. The README has what each took and found."
        ),
    ] = "balanced",
    max_ram: Annotated[
        str | None,
        typer.Option(
            help="Memory to keep to, such as 4GB. Where what the network says of a scan does not fit, it is kept in a "
            "file in --out meanwhile; the result is the same.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Segment scans: each label map has its scan's own shape and affine. A bad scan is reported; the others go on."""
    from medseg.amount import memory_bytes
    from medseg.cases import find_cases
    from medseg.package import load_package
    from medseg.predict import Settings, chosen_formats, kept_key, new_key, predict
    from medseg.shard import Shard

    if key_file and not deidentify:
        raise OptionError(f"--key-file {key_file}", found="nothing is replaced", remedy="add --deidentify")
    formats, part = chosen_formats(form), Shard.parse(shard)
    package = load_package(model)
    key = kept_key(key_file, out=out) if key_file else new_key() if deidentify else None
    limit = memory_bytes(max_ram, option="--max-ram") if max_ram else None
    settings = Settings(formats, key=key, allow_gaps=allow_gaps, overlay=overlay, preset=preset, max_ram=limit)
    with reporting(quiet) as notify:
        cases = find_cases(inputs, out=out, deidentify=deidentify, notify=notify).shard(part)
        results = predict(
            package, cases, out, device=device, engine=engine, settings=settings, resume=resume, notify=notify
        )
    failed = [result for result in results if result.failed]
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        names = [label.name for label in package.labels]
        print_table(
            f"{len(results) - len(failed)} of {len(results)} cases segmented",
            ["case", "status", *(f"{name} [ml]" for name in names), "seconds"],
            [
                [
                    result.case_id,
                    result.error["code"] if result.error else "ok",
                    *(number(result.volumes_ml.get(name), 1) for name in names),
                    number(result.seconds.get("total"), 1),
                ]
                for result in results
            ],
        )
    return FAILED if failed or not results else DONE


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

    manifest = _manifest(labels)
    named, partial = (manifest.label_set, manifest.partial) if manifest else (None, None)
    with reporting(quiet) as notify:
        result = evaluate(predictions, references, out, labels=named, partial=partial, notify=notify)
    print_summary(result.summary, as_json=as_json, title=f"Scores of {len({r.case_id for r in result.rows})} case(s)")
    if result.unpredicted:
        say(f"{len(result.unpredicted)} reference(s) have no prediction and are not scored: {result.unpredicted[:3]}…")
    return FAILED if result.failed else DONE


@app.command("overlay")
@command
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
    labels: Labels = None,
) -> int:
    """Paint a label map on its scan, patient's right on the left, with names, millilitres and sides."""
    from medseg.evaluate.evaluation import run_labels
    from medseg.overlay import write_overlay
    from medseg.volume import find_label_map, find_source, names_in, read_reference, read_volume, shared_labels

    source, mapped = find_source(image), find_label_map(label_map)
    referred = find_label_map(reference) if reference else None
    volume = read_volume(source, channels=None)
    manifest = _manifest(labels)
    known = manifest.label_set if manifest else run_labels(label_map)
    named = known or (shared_labels(mapped, referred) if referred else names_in(mapped))
    maps = [
        read_reference(each, geometry=volume.geometry, labels=known if each.kind == "file" else named)
        for each in (mapped, referred)
        if each
    ]
    if named and not known:
        named = named.with_ids({id_ for each in maps for id_ in each.ids()})
    write_overlay(
        out,
        volume,
        maps[0],
        named,
        reference=maps[1] if referred else None,
        plane=plane,
        window=_window(window),
        title=source.case_id,
    )
    say(f"Wrote {out}.")
    return DONE


@data_app.command("list")
@command
def data_list_command(as_json: AsJson = False) -> int:
    """List the datasets that medseg has a manifest of."""
    from medseg.manifest import read_manifest
    from medseg.shipped import shipped

    manifests = {name: read_manifest(path) for name, path in shipped("data_manifests", ".json").items()}
    if as_json:
        print_json({name: manifest.model_dump(mode="json") for name, manifest in manifests.items()})
        return DONE
    print_table(
        "Datasets",
        ["name", "modality", "labels", "cases", "licence"],
        [
            [
                name,
                ", ".join(manifest.modality.values()),
                ", ".join(shortened([label.name for label in manifest.label_set])),
                str(manifest.num_training or len(manifest.training)),
                manifest.licence,
            ]
            for name, manifest in manifests.items()
        ],
    )
    return DONE


@data_app.command("check")
@command
def data_check_command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Datasets (a folder with dataset.json, a manifest .json), or scans to segment: files, DICOM folders, "
            "zips, or folders with any of them.",
            show_default=False,
        ),
    ],
    manifest: Annotated[
        str | None,
        typer.Option(help="The shipped manifest of a folder without a dataset.json.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--for", help="The recipe, run or model package that they are for.", show_default=False),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Read every case as training and prediction will, and say what would go wrong (E_) or deserves a look (W_)."""
    from medseg.check import check

    with reporting(quiet) as notify:
        checked = check(paths, manifest=manifest, model=model, notify=notify)
    if as_json:
        print_json([finding.as_json() for finding in checked.findings])
        return DONE if checked.passed else FAILED
    if checked.findings:
        rows = [[finding.case_id or "", finding.code, finding.message] for finding in checked.findings]
        print_table("Findings", ["case", "code", "what was found, and what to do"], rows)
    put(f"{len(checked.cases)} cases looked at, {checked.fine} fine.")
    return DONE if checked.passed else FAILED


def _manifest(named: str | None) -> "Manifest | None":
    """Return a manifest file or a shipped manifest."""
    if named is None:
        return None
    from medseg.manifest import read_manifest
    from medseg.shipped import manifest_path

    path = Path(named)
    return read_manifest(path if path.suffix == ".json" else manifest_path(named))


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

"""medseg predict."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.frame import DONE, FAILED, app, command
from medseg.cli.options import AsJson, Device, Quiet
from medseg.cli.show import counted, fits, number, print_json, print_table, reporting
from medseg.errors import OptionError

if TYPE_CHECKING:
    from medseg.predict import CaseResult


@app.command("predict")
@command
def predict_command(
    model: Annotated[
        str,
        typer.Argument(
            help="A run, or a model package (folder or .zip). Several joined by commas are an ensemble: what their "
            "networks say is averaged.",
            show_default=False,
        ),
    ],
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
            "still the same, and keep the record of others there. Without it all begin anew.",
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
    from medseg.ensemble import load_models
    from medseg.predict import Settings, chosen_formats, kept_key, new_key, predict
    from medseg.shard import Shard

    if key_file and not deidentify:
        raise OptionError(f"--key-file {key_file}", found="nothing is replaced", remedy="add --deidentify")
    formats, part = chosen_formats(form), Shard.parse(shard)
    package = load_models(model)
    key = kept_key(key_file, out=out) if key_file else new_key() if deidentify else None
    limit = memory_bytes(max_ram, option="--max-ram") if max_ram else None
    settings = Settings(formats, key=key, allow_gaps=allow_gaps, overlay=overlay, preset=preset, max_ram=limit)
    with reporting(quiet) as notify:
        cases = find_cases(inputs, out=out, deidentify=deidentify, notify=notify).shard(part)
        results = predict(
            package, cases, out, device=device, engine=engine, settings=settings, resume=resume, notify=notify
        )
    failed = any(result.failed for result in results)
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        _print_results(results, [label.name for label in package.labels])
    return FAILED if failed else DONE


def _print_results(results: "Sequence[CaseResult]", names: Sequence[str]) -> None:
    """Print a row for each case: the volumes of its labels, or where these do not fit only how many were found."""

    def row(result: "CaseResult", labels: Sequence[str]) -> list[str]:
        status = result.error["code"] if result.error else "ok"
        return [result.case_id, status, *labels, number(result.seconds.get("total"), 1)]

    columns = ["case", "status", *(f"{name} [ml]" for name in names), "seconds"]
    rows = [row(result, [number(result.volumes_ml.get(name), 1) for name in names]) for result in results]
    if not fits(columns, rows):
        columns = ["case", "status", "labels found", "seconds"]
        found = [str(sum(ml > 0 for ml in result.volumes_ml.values())) for result in results]
        rows = [row(result, ["" if result.failed else each]) for result, each in zip(results, found, strict=True)]
    title = f"{sum(not result.failed for result in results)} of {counted(len(results), 'case')} segmented"
    print_table(title, columns, rows)

"""medseg data check, medseg data list."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.frame import DONE, FAILED, command, data_app
from medseg.cli.options import AsJson, Quiet
from medseg.cli.show import counted, print_json, print_table, put, reporting, shortened


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
            help="Datasets (a folder, a manifest .json), or scans to segment: files, DICOM folders, "
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
        typer.Option("--for", help="The recipe or model that they are for.", show_default=False),
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
    put(f"{counted(len(checked.cases), 'case')} looked at, {checked.fine} fine.")
    return DONE if checked.passed else FAILED

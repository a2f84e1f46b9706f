"""medseg overlay."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.frame import DONE, app, command
from medseg.cli.options import Labels, manifest_of
from medseg.cli.show import say
from medseg.errors import OptionError

if TYPE_CHECKING:
    from medseg.labels import LabelSet
    from medseg.manifest import Manifest
    from medseg.volume import Geometry, LabelMap, Source


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
    from medseg.overlay import write_overlay
    from medseg.volume import find_label_map, find_source, read_volume

    source, mapped = find_source(image), find_label_map(label_map)
    referred = find_label_map(reference) if reference else None
    volume = read_volume(source, channels=None)
    named, shown, outlined = _read(mapped, referred, volume.geometry, manifest_of(labels))
    write_overlay(
        out,
        volume,
        shown,
        named,
        reference=outlined,
        plane=plane,
        window=_window(window),
        title=source.case_id,
    )
    say(f"Wrote {out}.")
    return DONE


def _read(
    mapped: "Source", referred: "Source | None", geometry: "Geometry", manifest: "Manifest | None"
) -> "tuple[LabelSet | None, LabelMap, LabelMap | None]":
    """Return the labels to paint, and the label map and the reference in their ids."""
    from medseg.evaluate.naming import run_labels
    from medseg.volume import completed, names_in, numbered, read_reference, shared_labels

    made_with = run_labels(mapped.paths[0])
    known = manifest.label_set if manifest else made_with
    named = known or (shared_labels(mapped, referred) if referred else names_in(mapped))

    def read(source: "Source") -> "LabelMap":
        return read_reference(source, geometry=geometry, labels=None if source.kind == "file" else named)

    shown, outlined = read(mapped), read(referred) if referred else None
    if known:
        shown = numbered(shown, mapped, known, names=names_in(mapped) or made_with)
        if referred and outlined:
            outlined = numbered(outlined, referred, known, names=names_in(referred), declared=manifest is not None)
    elif referred and outlined:
        named = completed(named, (mapped, shown), (referred, outlined))
    elif named:
        named = named.with_ids(shown.ids())
    return named, shown, outlined


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

"""medseg overlay."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.frame import DONE, app, command
from medseg.cli.options import Labels, manifest_of
from medseg.cli.show import say
from medseg.errors import OptionError


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
    manifest = manifest_of(labels)
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

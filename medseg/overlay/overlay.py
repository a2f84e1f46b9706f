"""Overlay: a label map, and a reference beside it, painted on their scan."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from medseg.atomic import whole
from medseg.errors import OptionError
from medseg.labels import LabelSet
from medseg.overlay.animation import write_animation
from medseg.overlay.montage import draw_montage
from medseg.overlay.scene import Scene
from medseg.overlay.viewer import write_page
from medseg.volume import LabelMap, Volume


def draw_overlay(
    volume: Volume,
    label_map: LabelMap,
    labels: LabelSet | None = None,
    *,
    reference: LabelMap | None = None,
    plane: str = "axial",
    window: tuple[float, float] | None = None,
    title: str = "",
) -> Image.Image:
    """Draw a montage of the slices that show the labels: the label map as translucent fill, the reference as a line.

    Slices hang as radiologists hang them (the patient's right on the picture's left) at their true proportions,
    whatever order the scan's axes are stored in. Letters at the edges and positions below are read from the geometry;
    an oblique scan keeps its own slices and is named by the nearest plane.

    Args:
        volume: the scan; its first channel is shown.
        label_map: ids on the scan's grid. When it is empty, slices are taken from the whole scan.
        labels: names and colours; None calls the ids "label 7".
        reference: what the label map is compared with, on the same grid.
        plane: "axial", "coronal" or "sagittal".
        window: darkest and brightest intensity shown, in HU for CT. None takes −160 to 240 HU for a scan that is in
            Hounsfield units, and the 1st to 99th percentile otherwise.
        title: the case's name.

    Returns:
        An RGB picture, 820 to 1400 pixels wide, of up to twelve slices.

    Raises:
        GridMismatchError: a label map lies on another grid than the scan.
        UnknownLabelError: a label map holds an id that `labels` does not know.
        UnknownNameError: no such plane.
        OptionError: the window is upside down.
    """
    return draw_montage(
        Scene.of(volume, label_map, labels, reference=reference, plane=plane, window=window, title=title)
    )


def write_overlay(
    path: Path,
    volume: Volume,
    label_map: LabelMap,
    labels: LabelSet | None = None,
    *,
    reference: LabelMap | None = None,
    plane: str = "axial",
    window: tuple[float, float] | None = None,
    title: str = "",
) -> None:
    """Write the overlay as a picture (.png), an animation (.gif) or a page to leaf through (.html).

    The animation runs through every labelled slice and two more at either end, the page through five more. The other
    arguments are those of `draw_overlay`.

    Raises:
        OptionError: another suffix, or the window is upside down.
        UnwritableError: no permission or no space; nothing is left behind.
        GridMismatchError: a label map lies on another grid than the scan.
        UnknownLabelError: a label map holds an id that `labels` does not know.
        UnknownNameError: no such plane.
    """
    save = WRITERS.get(path.suffix.lower())
    if save is None:
        raise OptionError(
            f"writing {path}",
            found="its suffix names no kind of overlay",
            remedy=f"end the name in {', '.join(WRITERS)}",
        )
    save(Scene.of(volume, label_map, labels, reference=reference, plane=plane, window=window, title=title), path)


def _write_picture(scene: Scene, path: Path) -> None:
    image = draw_montage(scene)
    with whole(path) as temporary:
        image.save(temporary, format="PNG")


WRITERS: dict[str, Callable[[Scene, Path], None]] = {
    ".png": _write_picture,
    ".gif": write_animation,
    ".html": write_page,
}

"""Viewer: one HTML page to leaf through the slices, which opens offline."""

import base64
import io
import json
from html import escape
from pathlib import Path
from string import Template

from PIL import Image

from medseg.atomic import write_text
from medseg.overlay.legend import Entry
from medseg.overlay.montage import tile_size
from medseg.overlay.paint import fill_layer, line_layer, scan_layer
from medseg.overlay.scene import Scene
from medseg.overlay.slices import span_slices

BOX = (900, 640)
MARGIN_SLICES = 5
SLICES = 200
JPEG_QUALITY, PNG_LEVEL = 85, 4

# The policy forbids the page every connection: a reader can be sure that nothing leaves the machine it is opened on.
PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { margin: 0 auto; padding: 20px; max-width: ${width}px; background: #121316; color: #ececee;
  font: 16px/1.5 system-ui, sans-serif }
header { display: flex; flex-wrap: wrap; justify-content: space-between; column-gap: 24px; margin-bottom: 10px }
h1 { font-size: 20px; margin: 0; overflow-wrap: anywhere }
header p, .note, output { color: #a8aab0; margin: 0 }
figure { position: relative; margin: 0 auto; max-width: ${width}px; aspect-ratio: $width / $height; overflow: hidden }
figure img { position: absolute; inset: 0; width: 100%; height: 100% }
figure b { position: absolute; font-size: 20px; line-height: 1; text-shadow: 0 0 3px #000, 0 0 3px #000, 0 0 3px #000 }
.left { left: 8px; top: 50%; translate: 0 -50% } .right { right: 8px; top: 50%; translate: 0 -50% }
.top { top: 8px; left: 50%; translate: -50% } .bottom { bottom: 8px; left: 50%; translate: -50% }
.controls { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 20px; margin: 12px 0 }
.controls input[type=range] { flex: 1; min-width: 180px }
output { min-width: 15ch; font-variant-numeric: tabular-nums }
ul { list-style: none; padding: 0; margin: 12px 0; display: grid; gap: 4px 40px;
  grid-template-columns: repeat(auto-fill, minmax(min(270px, 100%), 1fr)) }
li { display: flex; align-items: center; gap: 10px; font-variant-numeric: tabular-nums }
li i { width: 18px; height: 18px; flex: none } li span { margin-left: auto; white-space: nowrap }
</style></head><body>
<header><h1>$title</h1><p>$subtitle</p></header>
<figure><img id="scan" alt="slice of the scan"><img id="fill" alt=""><img id="line" alt="">
<b class="left">$left</b><b class="right">$right</b><b class="top">$top</b><b class="bottom">$bottom</b></figure>
<div class="controls"><input id="at" type="range" min="0" aria-label="slice"><output id="position"></output>
<label><input id="filled" type="checkbox" checked> prediction</label>
<label $unreferenced><input id="lined" type="checkbox" checked> reference</label></div>
<ul>$entries</ul>
<p class="note">$key</p><p class="note">$missing</p><p class="note">Arrow keys or the mouse wheel change the slice.</p>
<script>
const slices = $slices;
const get = id => document.getElementById(id), at = get("at");
at.max = slices.length - 1;
function show() {
  const slice = slices[at.value];
  get("position").value = slice.position;
  for (const layer of ["scan", "fill", "line"]) {
    get(layer).hidden = !slice[layer];
    if (slice[layer]) get(layer).src = slice[layer];
  }
  get("fill").hidden ||= !get("filled").checked;
  get("line").hidden ||= !get("lined").checked;
}
function move(step) { at.value = +at.value + step; show(); }
for (const id of ["at", "filled", "lined"]) get(id).addEventListener("input", show);
document.addEventListener("keydown", event => {
  const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  if (step) { event.preventDefault(); move(step); }
});
document.querySelector("figure").addEventListener("wheel", event => {
  event.preventDefault(); move(Math.sign(event.deltaY));
}, { passive: false });
at.value = $start;
show();
</script></body></html>
""")


def draw_page(scene: Scene) -> str:
    """Return the page: the labelled slices and five more at either end, at most 200, opened at the largest area."""
    slices = span_slices(scene.areas, margin=MARGIN_SLICES, most=SLICES)
    size = tile_size(scene.stack.aspect, *BOX)
    edges = scene.stack.edges
    start = max(range(len(slices)), key=lambda at: scene.areas[slices[at]])
    layers = [_encode_slice(scene, index, size) for index in slices]
    return PAGE.substitute(
        title=escape(scene.title or "overlay"),
        subtitle=escape(scene.subtitle),
        width=size[0],
        height=size[1],
        **edges._asdict(),
        unreferenced="" if scene.legend.referenced else "hidden",
        entries="".join(_entry_html(entry) for entry in scene.legend.entries),
        key=escape(scene.legend.key),
        missing=escape(scene.legend.missing),
        slices=json.dumps(layers),
        start=start if scene.areas.any() else len(slices) // 2,
    )


def write_page(scene: Scene, path: Path) -> None:
    """Write the page."""
    write_text(path, draw_page(scene))


def _encode_slice(scene: Scene, index: int, size: tuple[int, int]) -> dict[str, str]:
    """Return a slice's position and its layers as data addresses; a layer without anything on it is empty."""
    stack = scene.stack
    fill = fill_layer(stack.prediction[:, :, index], scene.labels, size)
    line = None if stack.reference is None else line_layer(stack.reference[:, :, index], scene.labels, size)
    return {
        "position": stack.position(index),
        "scan": _data_address(scan_layer(stack.scan[:, :, index], scene.window, size), "jpeg"),
        "fill": _data_address(fill, "png") if fill.getbbox() else "",
        "line": _data_address(line, "png") if line and line.getbbox() else "",
    }


def _data_address(image: Image.Image, kind: str) -> str:
    """Return a picture as text that a page can hold."""
    file = io.BytesIO()
    image.save(file, format=kind, quality=JPEG_QUALITY, compress_level=PNG_LEVEL)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _entry_html(entry: Entry) -> str:
    red, green, blue = entry.label.colour
    swatch = f'<i style="background: rgb({red} {green} {blue})"></i>'
    return f"<li>{swatch}{escape(entry.name)}<span>{escape(entry.volumes)}</span></li>"

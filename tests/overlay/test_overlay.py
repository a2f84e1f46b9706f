"""Facts about overlays of tiny, awkward scans: anisotropic, off-centre, permuted, flipped and tilted."""

import re
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.errors import GridMismatchError, OptionError, UnknownLabelError, UnknownNameError, UnwritableError
from medseg.labels import Label, LabelSet
from medseg.overlay import draw_overlay, write_overlay
from medseg.overlay.animation import choose_palette
from medseg.overlay.colours import GROUND
from medseg.overlay.legend import ROW, format_ml
from medseg.overlay.montage import MARGIN, arrange, tile_size
from medseg.overlay.paint import draw_tile, fill_layer, line_layer
from medseg.overlay.planes import PLANES, letters
from medseg.overlay.scene import Scene
from medseg.overlay.slices import choose_slices, span_slices
from medseg.overlay.text import fit, plain, width_of
from medseg.overlay.window import Window, find_window
from medseg.volume import Geometry, LabelMap, Volume

# Voxels and millimetres along right, anterior and superior, whatever order the array stores them in.
SIZE, SPACING_MM, CENTRE_MM = (15, 12, 9), (1.5, 2.0, 4.0), (31.0, -17.0, 120.0)
ORDERS = ["".join(letters) for order in permutations(["RL", "AP", "SI"]) for letters in product(*order)]
LABELS = LabelSet.from_names({0: "background", 1: "spleen", 2: "kidney_left"})
SPLEEN, KIDNEY = LABELS


def rotation(degrees: float) -> np.ndarray:
    """Turn about all three axes, so that no axis of the grid stays on the world's."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return about_x @ about_z


def grid(orientation: str = "RAS", degrees: float = 0.0) -> Geometry:
    """A grid around `CENTRE_MM`, its array axes pointing to `orientation`, built without Geometry's own reorienting."""
    affine, shape = np.eye(4), []
    for axis, letter in enumerate(orientation):
        world = ("RAS" if letter in "RAS" else "LPI").index(letter)
        affine[:3, axis] = rotation(degrees)[:, world] * SPACING_MM[world] * (1 if letter in "RAS" else -1)
        shape.append(SIZE[world])
    affine[:3, 3] = np.array(CENTRE_MM) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    i, j, k = shape
    return Geometry((i, j, k), affine)


def label_map(geometry: Geometry, *blobs: tuple[int, tuple[float, float, float]], reach_mm: float = 2.5) -> LabelMap:
    """Boxes of an id, each around a point in mm from the centre, along the scan's right, anterior and superior."""
    indices = np.moveaxis(np.indices(geometry.shape), 0, -1)
    turned = np.linalg.inv(nearest_rotation(geometry)) @ (geometry.to_world(indices) - CENTRE_MM)[..., None]
    ids = np.zeros(geometry.shape, np.uint8)
    for id_, at in blobs:
        ids[(np.abs(turned[..., 0] - at) <= reach_mm).all(axis=-1)] = id_
    return LabelMap(ids, geometry)


def nearest_rotation(geometry: Geometry) -> np.ndarray:
    """The rotation that the grid was built with, from its axes put in world order."""
    axes = geometry.affine[:3, :3] / np.array(geometry.spacing_mm)
    order = np.abs(axes).argmax(axis=1)
    ordered = axes[:, order]
    return ordered * np.sign(np.diag(ordered))


def scan(geometry: Geometry, value: int = 40) -> Volume:
    return Volume(np.full((1, *geometry.shape), value, np.int16), geometry)


def colour_at(image: Image.Image, label: Label) -> np.ndarray:
    """Where a picture shows a label's hue: the mean x and y of its pixels."""
    pixels = np.asarray(image, float)
    spread = pixels.max(axis=2) - pixels.min(axis=2)
    hue = (pixels - pixels.min(axis=2, keepdims=True)) / np.maximum(spread, 1)[..., None]
    wanted = (np.array(label.colour) - min(label.colour)) / (max(label.colour) - min(label.colour))
    y, x = np.nonzero((spread > 40) & (np.abs(hue - wanted).max(axis=2) < 0.1))
    assert len(x), f"no {label.name} in the picture"
    return np.array([x.mean(), y.mean()])


def tile(ids: LabelMap, plane: str = "axial") -> Image.Image:
    scene = of(ids, plane)
    return draw_tile(scene, int(scene.areas.argmax()), tile_size(scene.stack.aspect, 120, 120))


def of(label_map: LabelMap, plane: str = "axial", reference: LabelMap | None = None) -> Scene:
    return Scene.of(
        scan(label_map.geometry), label_map, LABELS, reference=reference, plane=plane, window=(-160, 240), title=""
    )


@pytest.mark.parametrize("degrees", [0.0, 11.0])
def test_the_patients_right_and_front_are_left_and_top_in_an_axial_picture_of_any_axis_order(degrees: float) -> None:
    assert len(ORDERS) == 48
    for orientation in ORDERS:
        geometry = grid(orientation, degrees)
        ids = label_map(geometry, (1, (7.5, 7.0, 4.0)), (2, (-6.0, -5.0, 4.0)))
        image = tile(ids)
        right_front, left_back = colour_at(image, SPLEEN), colour_at(image, KIDNEY)
        assert right_front[0] < image.width / 2 < left_back[0], orientation
        assert right_front[1] < left_back[1], orientation


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SRA", "AIL", "IPR", "PLS"])
def test_coronal_and_sagittal_pictures_have_the_head_up(orientation: str) -> None:
    geometry = grid(orientation, 8.0)
    ids = label_map(geometry, (1, (6.0, 6.0, 12.0)), (2, (-6.0, 6.0, -12.0)))
    image = tile(ids, "coronal")
    upper_right, lower_left = colour_at(image, SPLEEN), colour_at(image, KIDNEY)
    assert (upper_right < lower_left).all()
    ids = label_map(geometry, (1, (6.0, 7.0, 12.0)), (2, (6.0, -7.0, -12.0)))
    image = tile(ids, "sagittal")
    upper_front, lower_back = colour_at(image, SPLEEN), colour_at(image, KIDNEY)
    assert (upper_front < lower_back).all()


@pytest.mark.parametrize(("plane", "edges"), [("axial", "RLAP"), ("coronal", "RLSI"), ("sagittal", "APSI")])
def test_edge_letters_come_from_the_geometry(plane: str, edges: str) -> None:
    for orientation in ORDERS:
        assert "".join(of(label_map(grid(orientation)), plane).stack.edges) == edges
        assert all(map(str.startswith, of(label_map(grid(orientation, 10.0)), plane).stack.edges, edges))


def test_an_oblique_edge_has_two_letters_the_nearer_first() -> None:
    assert letters(np.array([3.0, 1.0, 0.0])) == "RA"
    assert letters(np.array([-1.0, 0.0, -2.0])) == "IL"
    assert letters(np.array([3.0, 0.1, 0.0])) == "R"


def test_a_slice_is_named_by_its_place_in_the_world() -> None:
    middle = label_map(grid("ARI"))
    assert of(middle, "axial").stack.position(4) == "S 120.0 mm"
    assert of(middle, "axial").stack.position(0) == "S 136.0 mm"
    assert of(middle, "coronal").stack.position(0) == "P 6.0 mm"
    assert of(middle, "sagittal").stack.position(7) == "R 31.0 mm"


@pytest.mark.parametrize("plane", PLANES)
def test_a_cube_looks_square_on_anisotropic_voxels(plane: str) -> None:
    geometry = grid("SLA")
    cube = label_map(geometry, (1, (0.0, 0.0, 0.0)), reach_mm=5.9)  # 7 × 6 × 3 voxels: 10.5 × 12 × 12 mm
    scene = of(cube, plane)
    size = (round(600 * scene.stack.aspect), 600)
    index = int(scene.areas.argmax())
    left, top, right, bottom = fill_layer(scene.stack.prediction[:, :, index], LABELS, size).getbbox() or (0, 0, 1, 1)
    wanted = 12 / 12 if plane == "sagittal" else 10.5 / 12
    assert (right - left) / (bottom - top) == pytest.approx(wanted, rel=0.03)


def test_the_reference_is_a_line_around_nothing() -> None:
    reference = label_map(grid(), (1, (0.0, 1.0, 0.0)), reach_mm=6.0)
    scene = of(label_map(grid()), reference=reference)
    size = (450, 480)
    line = np.asarray(line_layer(scene.stack.reference[:, :, 4], LABELS, size))[..., 3]
    fill = np.asarray(fill_layer(scene.stack.reference[:, :, 4], LABELS, size))[..., 3]
    y, x = (int(at.mean()) for at in np.nonzero(fill))
    assert fill[y, x] > 0
    assert line[y, x] == 0
    assert line[y].max() == 255
    assert 0 < (line > 0).sum() < 0.25 * (fill > 0).sum()
    assert np.count_nonzero(line[y] == 255) <= 8, "a thin line on either side"


def test_the_picture_shows_fill_and_line_apart() -> None:
    geometry = grid()
    ids, reference = label_map(geometry, (1, (6.0, 0.0, 0.0))), label_map(geometry, (2, (-6.0, 0.0, 0.0)))
    image = draw_overlay(scan(geometry), ids, LABELS, reference=reference)
    tiles = image.crop((0, 0, image.width, image.height - MARGIN - 2 * ROW))
    assert colour_at(tiles, SPLEEN)[0] < image.width / 2 < colour_at(tiles, KIDNEY)[0]


def test_a_single_voxel_survives_a_picture_coarser_than_the_scan() -> None:
    ids = np.zeros((600, 500), np.uint8)
    ids[301, 123] = 1
    for layer in (fill_layer(ids, LABELS, (150, 125)), line_layer(ids, LABELS, (150, 125))):
        left, top, right, bottom = layer.getbbox() or (0, 0, 0, 0)
        assert left <= 301 / 4 < right
        assert top <= 123 / 4 < bottom


def test_a_later_label_is_painted_over_an_earlier_one() -> None:
    organ, lesion = Label(1, "organ", (1, 2), (200, 0, 0)), Label(2, "lesion", (2,), (0, 0, 200))
    ids = np.ones((8, 8), np.uint8)
    ids[:4] = 2
    fill = np.asarray(fill_layer(ids, LabelSet((organ, lesion), frozenset({0, 1, 2})), (80, 80)))
    assert fill[40, 10, :3].tolist() == [0, 0, 200]
    assert fill[40, 70, :3].tolist() == [200, 0, 0]
    assert fill[40, 10, 3] == fill[40, 70, 3] < 150


def test_the_legend_counts_voxels_times_their_volume() -> None:
    geometry = grid("SPL", 20.0)
    ids = label_map(geometry, (1, (3.0, 1.0, 0.0)), reach_mm=7.0)
    reference = label_map(geometry, (1, (3.0, 1.0, 0.0)), (2, (-7.5, 1.0, 0.0)))
    spleen, kidney = of(ids, reference=reference).legend.entries
    voxel_ml = 1.5 * 2.0 * 4.0 / 1000
    assert spleen.prediction_ml == pytest.approx((ids.array == 1).sum() * voxel_ml)
    assert spleen.reference_ml == pytest.approx((reference.array == 1).sum() * voxel_ml)
    assert spleen.volumes == f"{spleen.prediction_ml:.2f} ml ({spleen.reference_ml:.2f} ml)"
    assert (kidney.name, kidney.prediction_ml) == ("kidney left", 0)
    assert kidney.volumes.startswith("0.0 ml (")
    assert of(ids).legend.entries[0].volumes == f"{spleen.prediction_ml:.2f} ml"


def test_a_volume_in_the_legend_is_never_rounded_to_nothing() -> None:
    assert [format_ml(ml) for ml in (0, 0.0004, 1.839, 215.34)] == ["0.0 ml", "<0.01 ml", "1.84 ml", "215.3 ml"]


def test_an_empty_label_map_still_draws_the_whole_scan() -> None:
    empty = label_map(grid("PSR"))
    image = draw_overlay(scan(empty.geometry), empty, LABELS)
    assert image.mode == "RGB"
    assert 820 <= image.width <= 1400
    scene = of(empty)
    assert scene.legend.missing == "not labelled: spleen, kidney left"
    assert choose_slices(scene.areas, 12) == list(range(9))


def test_an_empty_label_map_without_names_says_so() -> None:
    empty = label_map(grid())
    scene = Scene.of(scan(empty.geometry), empty, None, reference=None, plane="axial", window=None, title="")
    assert scene.legend.missing == "nothing labelled"
    assert draw_overlay(scan(empty.geometry), empty).width >= 820


def test_a_label_map_on_another_grid_is_refused() -> None:
    geometry, shifted = grid(), grid().crop((1, 0, 0), (16, 12, 9))
    with pytest.raises(GridMismatchError):
        draw_overlay(scan(geometry), label_map(shifted), LABELS)
    with pytest.raises(GridMismatchError):
        draw_overlay(scan(geometry), label_map(geometry), LABELS, reference=label_map(shifted))


def test_ids_without_names_are_called_by_number_and_unknown_ones_are_refused() -> None:
    ids = label_map(grid(), (7, (0.0, 0.0, 0.0)))
    scene = Scene.of(scan(ids.geometry), ids, None, reference=None, plane="axial", window=None, title="")
    assert [entry.name for entry in scene.legend.entries] == ["label 7"]
    with pytest.raises(UnknownLabelError):
        draw_overlay(scan(ids.geometry), ids, LABELS)


def test_a_scan_of_several_channels_shows_the_first() -> None:
    ids = label_map(grid("LIA"), (1, (0.0, 0.0, 0.0)))
    one = scan(ids.geometry)
    two = Volume(np.concatenate([one.array, one.array[:, ::-1] * 3]), one.geometry)
    assert draw_overlay(two, ids, LABELS).tobytes() == draw_overlay(one, ids, LABELS).tobytes()


def test_voxels_that_are_no_numbers_are_black() -> None:
    ids = label_map(grid(), (1, (0.0, 0.0, 0.0)))
    array = np.full((1, *ids.geometry.shape), np.nan, np.float32)
    array[0, :7] = np.linspace(0, 5, 7)[:, None, None]
    array[0, 14] = np.inf
    assert draw_overlay(Volume(array, ids.geometry), ids, LABELS).width >= 820
    assert Window(0, 5, "").grey(np.array([np.nan, -np.inf, 2.5, np.inf])).tolist() == [0, 0, 128, 255]


def test_a_slab_one_voxel_thick_draws_in_every_plane() -> None:
    geometry = Geometry((64, 48, 1), np.diag([0.7, 0.7, 5.0, 1.0]))
    ids = LabelMap(np.zeros(geometry.shape, np.uint8), geometry)
    ids.array[20:30, 10:40] = 1
    for plane in PLANES:
        assert draw_overlay(scan(geometry), ids, LABELS, plane=plane).height < 2500


def test_slices_are_spread_over_the_labels_and_hold_the_largest() -> None:
    areas = np.zeros(100, np.int64)
    areas[20:80] = 10
    areas[33] = 11
    chosen = choose_slices(areas, 12)
    assert len(chosen) == len(set(chosen)) == 12
    assert 33 in chosen
    assert 20 <= chosen[0] < chosen[-1] < 80
    assert max(np.diff(chosen)) <= 7
    assert choose_slices(areas[30:35], 12) == [0, 1, 2, 3, 4]
    areas[99] = 1  # a stray voxel far off takes no tiles from the rest
    assert sum(index >= 80 for index in choose_slices(areas, 12)) <= 1


def test_an_animation_spans_the_labels_and_a_few_slices_more() -> None:
    areas = np.zeros(50, np.int64)
    areas[[10, 20]] = 1
    assert span_slices(areas, margin=2, most=99) == list(range(8, 23))
    assert span_slices(areas * 0, margin=2, most=99) == list(range(50))
    thinned = span_slices(areas, margin=20, most=9)
    assert (thinned[0], thinned[-1], len(thinned)) == (0, 40, 9)


def test_air_is_cut_evenly_and_never_a_label() -> None:
    geometry = Geometry((100, 80, 4), np.diag([4.0, 4.0, 5.0, 1.0]))
    array = np.full((1, 100, 80, 4), -1000, np.int16)
    array[0, 30:80, 20:60] = 30
    ids = LabelMap(np.zeros(geometry.shape, np.uint8), geometry)
    ids.array[40:50, 30:40, 1] = 1
    asked = {"reference": None, "plane": "axial", "window": (-160.0, 240.0), "title": ""}
    stack = Scene.of(Volume(array, geometry), ids, LABELS, **asked).stack
    assert stack.geometry.shape == (100 - 2 * 18, 80 - 2 * 18, 4)  # 20 voxels of air, 10 mm of them kept
    assert stack.position(0) == "S 15.0 mm"
    ids.array[40, 5, 2] = 1
    assert Scene.of(Volume(array, geometry), ids, LABELS, **asked).stack.geometry.shape == (64, 80 - 2 * 3, 4)


def test_the_window_is_the_one_asked_for_or_suits_the_scan() -> None:
    rng = np.random.default_rng(0)
    ct = rng.integers(-1024, 1500, (20, 20, 20)).astype(np.int16)
    mr = rng.uniform(0, 1000, (20, 20, 20))
    assert str(find_window(ct, (-57, 164))) == "window -57 to 164 HU"
    assert find_window(ct, None) == Window(-160, 240, "HU")
    window = find_window(mr, None)
    assert (window.low, window.high) == pytest.approx((10, 990), abs=3)
    assert str(window).endswith(str(round(window.high)))
    assert find_window(np.zeros((3, 3, 3)), None) == Window(0, 1, "")
    assert find_window(np.full((3, 3, 3), np.nan), None) == Window(0, 1, "")


@pytest.mark.parametrize("window", [(240.0, -160.0), (5.0, 5.0), (0.0, float("nan"))])
def test_a_window_upside_down_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(OptionError, match="low end"):
        draw_overlay(scan(grid()), label_map(grid()), LABELS, window=window)


def test_an_unknown_plane_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="id you mean 'coronal'"):
        draw_overlay(scan(grid()), label_map(grid()), LABELS, plane="coronar")


def test_tiles_fill_the_width_at_a_readable_height() -> None:
    for count, aspect in product((1, 5, 11, 12), (0.3, 0.7, 1.0, 1.3, 2.5)):
        layout = arrange(count, aspect)
        width, height = layout.tile
        assert width / height == pytest.approx(aspect, rel=0.02)
        assert 190 <= height <= 420
        assert layout.columns * width <= 1400


def test_text_keeps_to_what_the_font_has_and_to_its_room() -> None:
    assert plain("Müller − naïve 漢…") == "Muller - naive ?…"
    short = fit("a_case_with_a_name_that_never_ends" * 5, 24, 300)
    assert short.endswith("…")
    assert 200 < width_of(short, 24) <= 300
    assert fit("spleen", 20, 300) == "spleen"
    assert fit("spleen", 20, 3) == ""


def test_a_picture_is_written_as_it_is_drawn(tmp_path: Path) -> None:
    ids = label_map(grid(), (1, (0.0, 0.0, 0.0)))
    write_overlay(tmp_path / "new" / "case.PNG", scan(ids.geometry), ids, LABELS, title="case")
    with Image.open(tmp_path / "new" / "case.PNG") as image:
        assert image.tobytes() == draw_overlay(scan(ids.geometry), ids, LABELS, title="case").tobytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["case.PNG"]


def test_an_animation_has_a_frame_for_each_slice(tmp_path: Path) -> None:
    ids = label_map(grid("IAR"), (1, (0.0, 0.0, 0.0)), reach_mm=4.0)
    assert of(ids).areas.nonzero()[0].tolist() == [3, 4, 5]
    write_overlay(tmp_path / "case.gif", scan(ids.geometry), ids, LABELS)
    with Image.open(tmp_path / "case.gif") as image:
        assert image.n_frames == 3 + 2 * 2
        assert image.info["loop"] == 0


@pytest.mark.parametrize("count", [0, 1, 13, 117])
def test_an_animation_keeps_its_labels_colours(count: int) -> None:
    labels = LabelSet.from_names({id_: f"label {id_}" for id_ in range(count + 1)})
    colours = choose_palette(list(labels))
    assert len(colours) == 256
    assert GROUND in colours
    assert {label.colour for label in list(labels)[:60]} <= set(colours)
    assert sum(red == green == blue for red, green, blue in colours) >= 64


def test_a_page_needs_no_network_and_holds_every_slice(tmp_path: Path) -> None:
    ids = label_map(grid("LSA"), (1, (0.0, 0.0, 0.0)))
    reference = label_map(grid("LSA"), (2, (3.0, 0.0, 4.0)))
    path = tmp_path / "case.html"
    write_overlay(path, scan(ids.geometry), ids, LABELS, reference=reference, title="<script>alert('x')</script>")
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|<link|<iframe|fetch\(|XMLHttp", re.sub(r"base64,[^\"]*", "", page))
    assert "default-src 'none'" in page
    assert "<script>alert" not in page
    assert page.count("data:image/jpeg;base64,") == 9
    assert {"S 120.0 mm", "S 136.0 mm", "S 104.0 mm"} <= set(re.findall(r"S [\d.]+ mm", page))
    assert "kidney left" in page


def test_another_suffix_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"\.png, \.gif, \.html"):
        write_overlay(tmp_path / "case.jpg", scan(grid()), label_map(grid()), LABELS)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".html"])
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnwritableError):
        write_overlay(tmp_path / "file" / f"case{suffix}", scan(grid()), label_map(grid()), LABELS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

"""References from any source lie on their image's grid, and their names and ids are those of the labels."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from annotations import on_series, save_slices
from phantoms import all_orientations, house_geometry, house_label_map, save_nifti

from medseg.errors import (
    CorruptFileError,
    FractionalLabelError,
    GridMismatchError,
    MissingFileError,
    NoAffineError,
    SliceSpacingError,
    UnknownLabelError,
)
from medseg.labels import LabelSet
from medseg.volume import (
    LabelMap,
    Source,
    find_label_map,
    names_in,
    read_label_map,
    read_pair,
    read_reference,
    write_rtstruct,
    write_seg,
)

GRID = house_geometry(orientation="LPS")
LABELS = LabelSet.from_names({0: "background", 1: "Spleen", 2: "left kidney", 5: "thing"})
FORMS = ("seg", "rtstruct")
both = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A series, and the house's label map on it as SEG and as RTSTRUCT."""
    folder = tmp_path_factory.mktemp("case")
    series = save_slices(folder / "ct", GRID)
    label_map = on_series(house_label_map(geometry=GRID), series)
    write_seg(label_map, series, LABELS, folder / "seg.dcm")
    write_rtstruct(label_map, series, LABELS, folder / "rtstruct.dcm")
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    """Return a copy of a file that may be changed, as a path."""

    def copied(form: str) -> Path:
        path = tmp_path / f"{form}.dcm"
        path.write_bytes((folder / path.name).read_bytes())
        return path

    return copied


@both
@pytest.mark.parametrize("code", all_orientations())
def test_labels_are_laid_on_the_voxels_of_an_image_in_any_order_of_axes(folder, form, code):
    geometry = GRID.reorient(code)
    back = read_reference(folder / f"{form}.dcm", geometry=geometry, labels=LABELS)
    expected = house_label_map(geometry=GRID).aligned_to(geometry)
    np.testing.assert_array_equal(back.array, expected.array)
    assert back.geometry is geometry


@both
def test_segments_are_matched_by_their_names(folder, form):
    renumbered = LabelSet.from_names({0: "background", 7: "THING", 300: "Left  Kidney", 4: "spleen", 8: "liver"})
    back = read_reference(folder / f"{form}.dcm", geometry=GRID, labels=renumbered)
    truth = house_label_map(geometry=GRID).array
    for old, new in ((0, 0), (1, 4), (2, 300), (5, 7)):
        np.testing.assert_array_equal(back.array == new, truth == old)


@both
def test_a_name_that_the_labels_do_not_have_is_an_error_that_lists_both(folder, form):
    with pytest.raises(UnknownLabelError) as caught:
        read_reference(folder / f"{form}.dcm", geometry=GRID, labels=LabelSet.from_names({1: "spleen", 3: "liver"}))
    assert "it holds left_kidney, thing, but the labels are spleen, liver" in caught.value.found
    assert str(folder) in caught.value.asked


def test_without_labels_ids_are_the_numbers_in_the_file(folder):
    truth = house_label_map(geometry=GRID).array
    segments = read_reference(folder / "seg.dcm", geometry=GRID)
    regions = read_reference(folder / "rtstruct.dcm", geometry=GRID)
    np.testing.assert_array_equal(segments.array, np.array([0, 1, 2, 0, 0, 3])[truth])
    np.testing.assert_array_equal(regions.array, truth)
    assert [(label.id, label.name) for label in names_in(find_label_map(folder / "seg.dcm"))] == [
        (1, "spleen"),
        (2, "left_kidney"),
        (3, "thing"),
    ]


def test_image_files_are_turned_to_the_image_and_their_ids_checked(tmp_path):
    turned = house_label_map(geometry=GRID).aligned_to(GRID.reorient("SAR"))
    save_nifti(tmp_path / "a.nii.gz", turned.array, turned.geometry.affine)
    back = read_reference(tmp_path / "a.nii.gz", geometry=GRID, labels=LABELS)
    np.testing.assert_array_equal(back.array, house_label_map(geometry=GRID).array)
    assert names_in(find_label_map(tmp_path / "a.nii.gz")) is None
    with pytest.raises(UnknownLabelError):
        read_reference(tmp_path / "a.nii.gz", geometry=GRID, labels=LabelSet.from_names({1: "spleen"}))
    with pytest.raises(MissingFileError):
        read_reference(tmp_path / "b.nii.gz", geometry=GRID)
    save_nifti(tmp_path / "c.nii.gz", turned.array + 0.5, turned.geometry.affine)
    with pytest.raises(FractionalLabelError, match=r"c\.nii\.gz"):
        read_reference(tmp_path / "c.nii.gz", geometry=GRID)


@both
@pytest.mark.parametrize(
    "grid",
    [
        {"centre_mm": (31.5, -42.25, 177.9)},
        {"tilt_degrees": (12, -12, 17)},
        {"spacing_mm": (0.9, 1.7, 2.8)},
        {"shape": (11, 8, 4)},
    ],
    ids=["moved", "turned", "another spacing", "fewer slices"],
)
def test_labels_of_another_image_are_refused(folder, form, grid):
    with pytest.raises(GridMismatchError, match="Pair it with the image it was drawn on") as caught:
        read_reference(folder / f"{form}.dcm", geometry=house_geometry(orientation="LPS", **grid))
    assert f"{form}.dcm" in caught.value.asked


def test_a_segmentation_that_is_off_says_by_how_much(folder):
    with pytest.raises(GridMismatchError, match=r"lies 0\.32 mm off the image's voxels"):
        read_reference(
            folder / "seg.dcm", geometry=house_geometry(orientation="LPS", centre_mm=(31.82, -42.25, 77.125))
        )


def test_a_segmentation_of_larger_voxels_is_refused(folder):
    fine = GRID.crop((0, 0, 0), GRID.shape).with_spacing([side / 2 for side in GRID.spacing_mm])
    with pytest.raises(GridMismatchError, match="larger than the image's"):
        read_reference(folder / "seg.dcm", geometry=fine)


def test_frames_may_be_smaller_than_the_image(folder):
    around = GRID.pad((2, 1, 3), (1, 4, 2))
    back = read_reference(folder / "seg.dcm", geometry=around, labels=LABELS)
    assert back.array.sum() == house_label_map(geometry=GRID).array.sum()
    np.testing.assert_array_equal(back.array[2:-1, 1:-4, 3:-2], house_label_map(geometry=GRID).array)


def test_a_segmentation_alone_lies_on_the_grid_of_its_own_frames(folder):
    alone = read_label_map(folder / "seg.dcm")
    truth = house_label_map(geometry=GRID).array
    shown = np.flatnonzero(truth.any(axis=(0, 1)))
    part = GRID.crop((0, 0, shown[0]), (*GRID.shape[:2], shown[-1] + 1))
    assert alone.geometry.distance_mm(part) < 1e-3
    np.testing.assert_array_equal(alone.array > 0, truth[:, :, shown[0] : shown[-1] + 1] > 0)


def test_a_segmentation_alone_may_not_tell_how_far_its_slices_are_apart(copy, folder):
    path = copy("seg")
    dataset = pydicom.dcmread(path)
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    dataset.save_as(path)
    assert read_label_map(path).geometry.distance_mm(read_label_map(folder / "seg.dcm").geometry) < 1e-3
    for group in dataset.PerFrameFunctionalGroupsSequence[-2:]:
        group.PlanePositionSequence[0].ImagePositionPatient[2] += 1
    dataset.save_as(path)
    with pytest.raises(SliceSpacingError, match="Give the image it was drawn on as well"):
        read_label_map(path)


def test_structures_alone_have_no_grid(folder):
    with pytest.raises(NoAffineError, match="Give the image it was drawn on as well") as caught:
        read_label_map(folder / "rtstruct.dcm")
    assert "rtstruct.dcm" in caught.value.asked


@pytest.mark.parametrize("shape", [(5, 7, 4), (3, 3, 3), (8, 4, 2), (9, 5, 1)])
def test_frames_may_begin_within_a_byte(tmp_path, shape):
    grid = house_geometry(shape=shape, orientation="LPS")
    series = save_slices(tmp_path / "ct", grid)
    label_map = LabelMap(np.random.default_rng(0).integers(0, 3, shape, np.uint8), series.layout().geometry)
    labels = LabelSet.from_names({1: "spleen", 2: "liver"})
    write_seg(label_map, series, labels, tmp_path / "a.seg.dcm")
    np.testing.assert_array_equal(
        read_reference(tmp_path / "a.seg.dcm", geometry=label_map.geometry).array, label_map.array
    )


def test_fractions_count_from_a_half_on(copy):
    path = copy("seg")
    dataset = pydicom.dcmread(path)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    bits = bits[: dataset.NumberOfFrames * dataset.Rows * dataset.Columns]
    values = np.where(bits, np.where(np.arange(len(bits)) % 2, 128, 255), 127).astype(np.uint8)
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", 255
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = values.tobytes() + bytes(len(values) % 2)
    dataset.save_as(path)
    back = read_reference(path, geometry=GRID, labels=LABELS)
    np.testing.assert_array_equal(back.array, house_label_map(geometry=GRID).array)


def test_frames_of_a_label_map_hold_segment_numbers(tmp_path, folder):
    series = save_slices(tmp_path / "ct", GRID)
    label_map = on_series(house_label_map(geometry=GRID, ids=(1, 2, 300)), series)
    labels = LabelSet.from_names({1: "spleen", 2: "left kidney", 300: "thing"})
    write_seg(label_map, series, labels, tmp_path / "a.seg.dcm", kind="labelmap")
    source = Source("a", (tmp_path / "a.seg.dcm",), "segmentation")
    np.testing.assert_array_equal(read_reference(source, geometry=GRID).array, label_map.array)
    expected = house_label_map(geometry=GRID).array
    np.testing.assert_array_equal(read_reference(source, geometry=GRID, labels=LABELS).array, expected)


@both
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_damaged_file_is_an_error_that_names_it(copy, form, kept):
    path = copy(form)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    source = Source("a", (path,), "segmentation" if form == "seg" else "structures")
    with pytest.raises(CorruptFileError, match=str(path)):
        read_reference(source, geometry=GRID)


def test_a_frame_without_a_place_is_an_error(copy):
    path = copy("seg")
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(NoAffineError, match="its frame 2 does not say where it lies"):
        read_reference(path, geometry=GRID)


def shift(path: Path, step: np.ndarray, *, keep: slice = np.s_[:]) -> None:
    """Move the contours of an RTSTRUCT by some slices, and keep some of each region's."""
    dataset = pydicom.dcmread(path)
    for region in dataset.ROIContourSequence:
        for contour in region.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3) + step
            contour.ContourData = [f"{x:.4f}" for x in points.ravel()]
        region.ContourSequence = region.ContourSequence[keep]
    dataset.save_as(path)


ACROSS = GRID.affine[:3, 2] * (-1, -1, 1)


def test_contours_that_are_all_off_by_less_than_half_a_slice_go_with_the_nearest(copy):
    path = copy("rtstruct")
    shift(path, ACROSS * 0.4)
    back = read_reference(path, geometry=GRID, labels=LABELS)
    np.testing.assert_array_equal(back.array, house_label_map(geometry=GRID).array)


def test_contours_at_another_spacing_are_not_guessed(copy):
    thin = house_geometry(orientation="LPS", spacing_mm=(0.9, 1.7, 2.0), shape=(11, 8, 9))
    with pytest.raises(GridMismatchError, match=r"mm between the image's slices, which are 2\.00 mm apart"):
        read_reference(copy("rtstruct"), geometry=thin)


def test_contours_on_every_second_slice_are_no_reference(tmp_path):
    series = save_slices(tmp_path / "ct", GRID)
    array = np.zeros(GRID.shape, np.uint8)
    array[2:6, 2:6, ::2] = 1
    write_rtstruct(on_series(LabelMap(array, GRID), series), series, LABELS, tmp_path / "a.dcm")
    with pytest.raises(GridMismatchError, match="spleen has contours on one slice in 2 only"):
        read_reference(tmp_path / "a.dcm", geometry=GRID)


def test_contours_beyond_the_image_are_refused(copy):
    path = copy("rtstruct")
    shift(path, ACROSS * 3)
    with pytest.raises(GridMismatchError, match="lie beyond the image's slices"):
        read_reference(path, geometry=GRID)


def test_contours_one_in_another_are_holes_and_points_are_no_region(copy):
    path = copy("rtstruct")
    dataset = pydicom.dcmread(path)
    spleen, kidney, thing = dataset.ROIContourSequence
    corner = GRID.to_world([[-0.5, -0.5, 3], [10.5, -0.5, 3], [10.5, 7.5, 3], [-0.5, 7.5, 3]]) * (-1, -1, 1)
    frame = kidney.ContourSequence[0]
    frame.ContourData = [f"{x:.4f}" for x in corner.ravel()]
    hole = pydicom.Dataset()
    hole.ContourGeometricType = "CLOSED_PLANAR"
    middle = GRID.to_world([[3.5, 2.5, 3], [3.5, 4.5, 3], [6.5, 4.5, 3], [6.5, 2.5, 3]]) * (-1, -1, 1)
    hole.ContourData = [f"{x:.4f}" for x in middle.ravel()]
    kidney.ContourSequence = [frame, hole]
    for contour in [*spleen.ContourSequence, *thing.ContourSequence]:
        contour.ContourGeometricType = "POINT"
    dataset.save_as(path)
    back = read_reference(path, geometry=GRID, labels=LabelSet.from_names({1: "left kidney"}))
    expected = np.zeros(GRID.shape, np.uint8)
    expected[:, :, 3], expected[4:7, 3:5, 3] = 1, 0
    np.testing.assert_array_equal(back.array, expected)


def test_a_pair_of_segmentations_is_laid_on_a_grid_that_covers_both(tmp_path):
    series = save_slices(tmp_path / "ct", GRID)
    geometry = series.layout().geometry
    for name, planes in (("a", np.s_[1:3]), ("b", np.s_[2:6])):
        array = np.zeros(GRID.shape, np.uint8)
        array[3:6, 2:5, planes] = 1
        write_seg(LabelMap(array, geometry), series, LABELS, tmp_path / f"{name}.seg.dcm")
        write_rtstruct(LabelMap(array, geometry), series, LABELS, tmp_path / f"{name}.rtstruct.dcm")
    files = [find_label_map(tmp_path / f"{name}.seg.dcm") for name in "ab"]
    one, other = read_pair(*files, LABELS)
    assert one.geometry.shape == other.geometry.shape == (11, 8, 5)
    assert [(one.array > 0).sum(), (other.array > 0).sum(), (one.array & other.array).sum()] == [18, 36, 9]
    mixed, _ = read_pair(find_label_map(tmp_path / "a.rtstruct.dcm"), files[0], LABELS)
    assert (mixed.array > 0).sum() == 18
    with pytest.raises(NoAffineError, match="both are RTSTRUCT"):
        read_pair(*(find_label_map(tmp_path / f"{name}.rtstruct.dcm") for name in "ab"), LABELS)


def test_a_segmentation_of_one_slice_has_a_grid(tmp_path):
    series = save_slices(tmp_path / "ct", GRID)
    array = np.zeros(GRID.shape, np.uint8)
    array[3, 2, 4] = 1
    write_seg(LabelMap(array, series.layout().geometry), series, LABELS, tmp_path / "a.seg.dcm")
    alone = read_label_map(tmp_path / "a.seg.dcm")
    assert alone.geometry.distance_mm(GRID.crop((0, 0, 4), (11, 8, 5))) < 1e-3
    assert alone.array[3, 2, 0] == 1

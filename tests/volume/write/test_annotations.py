"""A label map in a DICOM SEG and in an RTSTRUCT lies where it lay, by readers that share nothing with medseg's."""

import zipfile

import highdicom
import numpy as np
import pydicom
import pytest
from annotations import (
    PATIENT,
    Body,
    faults,
    inside,
    on_series,
    polygons,
    read_rtstruct,
    read_seg,
    save_slices,
    series_grids,
)
from dicom_phantoms import save_enhanced, upright
from hypothesis import Phase, given, settings
from phantoms import LPS_TO_RAS, all_orientations, house_geometry, house_label_map, real_data

from medseg.errors import GridMismatchError, UnknownLabelError, UnwritableError
from medseg.labels import LabelSet
from medseg.volume import (
    LabelMap,
    Source,
    find_source,
    find_sources,
    read_label_map,
    read_reference,
    read_volume,
    write_rtstruct,
    write_seg,
)

LABELS = LabelSet.from_names({0: "background", 1: "Spleen", 2: "left kidney", 5: "thing", 9: "liver"})
KEY = b"a key"
WRITERS = {
    "seg": write_seg,
    "labelmap": lambda *inputs, **options: write_seg(*inputs, kind="labelmap", **options),
    "rtstruct": write_rtstruct,
}
both = pytest.mark.parametrize("form", WRITERS)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A small oblique series, and the house's label map on it."""
    geometry = house_geometry(orientation="LPS")
    series = save_slices(tmp_path_factory.mktemp("series"), geometry)
    return series, on_series(house_label_map(geometry=geometry), series)


def bodies(form, path, geometry):
    """Weigh what a file holds."""
    return read_rtstruct(path, (LPS_TO_RAS @ geometry.affine)[:3, 2]) if form == "rtstruct" else read_seg(path)


def source(form, path):
    """Return a written file as a source of labels."""
    return Source(path.name, (path,), "structures" if form == "rtstruct" else "segmentation")


def check_bodies(folder, label_map, truth, series):
    """Write a label map in every form and check that each label weighs what the truth does, at its place."""
    for form, write in WRITERS.items():
        write(label_map, series, LABELS, folder / form)
        found = bodies(form, folder / form, label_map.geometry)
        ids = sorted(truth.ids() - {0})
        assert sorted(found) == sorted(label.name for label in LABELS if label.id in ids)
        for label in LABELS:
            if label.id in ids:
                body = Body.of(truth.array == label.id, truth.geometry)
                assert found[label.name].volume == pytest.approx(body.volume, rel=1e-2 if form == "rtstruct" else 1e-3)
                assert np.linalg.norm(found[label.name].centre - body.centre) < 0.01


@pytest.mark.parametrize("code", all_orientations())
def test_each_label_keeps_its_place_and_volume_in_every_orientation(tmp_path, code):
    geometry = house_geometry(shape=(7, 6, 4), orientation=code)
    series = save_slices(tmp_path / "ct", geometry)
    label_map = house_label_map(geometry=geometry)
    check_bodies(tmp_path, on_series(label_map, series), label_map, series)


@settings(max_examples=30, deadline=None, phases=[Phase.generate])
@given(series_grids())
def test_each_label_keeps_its_place_and_volume_on_oblique_and_leaning_slices(tmp_path_factory, geometry):
    folder = tmp_path_factory.mktemp("case")
    series = save_slices(folder / "ct", geometry)
    label_map = house_label_map(geometry=geometry)
    assert (read_volume(find_source(folder / "ct")).geometry.leans) == geometry.leans
    check_bodies(folder, on_series(label_map, series), label_map, series)


@both
def test_a_single_slice_keeps_its_label(tmp_path, form):
    geometry = house_geometry(shape=(7, 6, 1), orientation="LPS")
    series = save_slices(tmp_path / "ct", geometry, SliceThickness=geometry.spacing_mm[2])
    array = np.zeros(geometry.shape, np.uint8)
    array[2:5, 1:3] = 1
    label_map = on_series(LabelMap(array, geometry), series)
    WRITERS[form](label_map, series, LABELS, tmp_path / form)
    assert bodies(form, tmp_path / form, geometry)["spleen"].volume == pytest.approx(
        Body.of(label_map.array == 1, geometry).volume, rel=1e-3
    )


@both
def test_slices_that_are_missing_are_not_written(tmp_path, form):
    geometry = house_geometry(orientation="LPS")
    series = save_slices(tmp_path / "ct", geometry, skip=[2])
    label_map = LabelMap(np.ones(geometry.shape, np.uint8), series.layout(allow_gaps=True).geometry)
    WRITERS[form](label_map, series, LABELS, tmp_path / form)
    volume = bodies(form, tmp_path / form, geometry)["spleen"].volume
    assert volume == pytest.approx(label_map.array.size * geometry.voxel_ml * 1000 * 5 / 6, rel=1e-3)
    back = read_reference(source(form, tmp_path / form), geometry=label_map.geometry, labels=LABELS)
    assert back.array.any(axis=(0, 1)).tolist() == [True, True, False, True, True, True]


@both
def test_frames_of_a_multi_frame_source_are_referred_to_by_their_numbers(tmp_path, form):
    volume = upright()
    save_enhanced(tmp_path / "ct.dcm", volume, order=[3, 0, 5, 1, 4, 2])
    series = find_source(tmp_path / "ct.dcm").series
    label_map = on_series(house_label_map(geometry=volume.geometry), series)
    WRITERS[form](label_map, series, LABELS, tmp_path / form)
    assert bodies(form, tmp_path / form, volume.geometry).keys() == {"spleen", "left_kidney", "thing"}
    dataset = pydicom.dcmread(tmp_path / form)
    # The blocks in the corners: 2 on planes 0 and 1, and 5 on plane 0.
    references = [item for item in dataset.iterall() if item.keyword == "ReferencedFrameNumber"]
    assert {1, 2, 3, 4, 5, 6} >= {int(item.value) for item in references} >= {2, 4}
    if form == "rtstruct":
        thing = dataset.ROIContourSequence[2].ContourSequence[0]
        assert thing.ContourImageSequence[0].ReferencedFrameNumber == 2
        assert thing.ContourImageSequence[0].ReferencedSOPClassUID.name == "Enhanced CT Image Storage"


@pytest.fixture
def zipped_series(tmp_path):
    geometry = house_geometry(orientation="LPS")
    save_slices(tmp_path / "ct", geometry)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in sorted((tmp_path / "ct").iterdir()):
            archive.write(file, f"study/{file.name}")
    return tmp_path / "study.zip", geometry


@both
def test_members_of_a_zip_are_a_source_too(tmp_path, form, zipped_series):
    path, geometry = zipped_series
    series = find_source(path).series
    label_map = on_series(house_label_map(geometry=geometry), series)
    WRITERS[form](label_map, series, LABELS, tmp_path / form)
    assert str(pydicom.dcmread(tmp_path / form).PatientName) == PATIENT["PatientName"]


@both
@pytest.mark.parametrize("shown", [True, False], ids=["labels", "nothing"])
def test_the_files_stand_the_checker_of_the_standard(tmp_path, scan, form, shown):
    series, label_map = scan
    shown_map = LabelMap(label_map.array * shown, label_map.geometry)
    WRITERS[form](shown_map, series, LABELS, tmp_path / form)
    errors = faults(tmp_path / form)
    if form == "labelmap":
        # dicom3tools of 2024 and before does not know the new class, and wants segments to count from 1.
        errors = [e for e in errors if "Information Object Not found" not in e and "SegmentNumber" not in e]
    assert errors == []


@both
def test_no_label_at_all_is_a_valid_outcome(tmp_path, scan, form):
    series, label_map = scan
    empty = LabelMap(np.zeros_like(label_map.array), label_map.geometry)
    WRITERS[form](empty, series, LABELS, tmp_path / f"{form}.dcm")
    assert bodies(form, tmp_path / f"{form}.dcm", label_map.geometry) == {}
    back = read_reference(source(form, tmp_path / f"{form}.dcm"), geometry=label_map.geometry, labels=LABELS)
    assert not back.array.any()
    assert (tmp_path / f"{form}.dcm").stat().st_size < 20_000


@both
def test_every_label_is_described_though_it_is_not_there(tmp_path, scan, form):
    series, label_map = scan
    WRITERS[form](label_map, series, LABELS, tmp_path / form)
    dataset = pydicom.dcmread(tmp_path / form)
    if form == "rtstruct":
        names = {region.ROINumber: region.ROIName for region in dataset.StructureSetROISequence}
        assert "ContourSequence" not in dataset.ROIContourSequence[3]
    else:
        names = {segment.SegmentNumber: segment.SegmentLabel for segment in dataset.SegmentSequence}
    assert (
        names
        == {
            "seg": {1: "spleen", 2: "left_kidney", 3: "thing", 4: "liver"},
            "labelmap": {0: "Background", 1: "spleen", 2: "left_kidney", 5: "thing", 9: "liver"},
            "rtstruct": {1: "spleen", 2: "left_kidney", 5: "thing", 9: "liver"},
        }[form]
    )


@both
@pytest.mark.parametrize("deidentify", [None, KEY])
def test_the_same_input_gives_the_same_bytes(tmp_path, scan, form, deidentify):
    series, label_map = scan
    for name in "ab":
        WRITERS[form](label_map, series, LABELS, tmp_path / name, deidentify=deidentify)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@both
def test_another_result_has_another_uid_in_the_same_study(tmp_path, scan, form):
    series, label_map = scan
    others = {
        "a": (label_map, {}),
        "b": (LabelMap(label_map.array * (label_map.array != 5), label_map.geometry), {}),
        "c": (label_map, {"algorithm": "another"}),
        "d": (label_map, {"deidentify": KEY}),
    }
    for name, (content, options) in others.items():
        WRITERS[form](content, series, LABELS, tmp_path / name, **options)
    datasets = [pydicom.dcmread(tmp_path / name) for name in others]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 4
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 4
    assert len({dataset.StudyInstanceUID for dataset in datasets[:3]}) == 1
    assert len({dataset.FrameOfReferenceUID for dataset in datasets[:3]}) == 1


@both
def test_patient_study_and_dates_are_the_sources(tmp_path, scan, form):
    series, label_map = scan
    WRITERS[form](label_map, series, LABELS, tmp_path / form)
    dataset = pydicom.dcmread(tmp_path / form)
    kept = [name for name in PATIENT if name not in ("InstitutionName", "ContentDate", "ContentTime")]
    assert {name: str(dataset[name].value) for name in kept} == {name: PATIENT[name] for name in kept}
    assert dataset.StudyInstanceUID == series.slices[0].study
    assert dataset.FrameOfReferenceUID == series.slices[0].frame_of_reference
    assert (dataset.InstanceCreationDate, dataset.InstanceCreationTime) == ("20231106", "131415.25")
    references = {item.value for item in dataset.iterall() if item.keyword == "ReferencedSOPInstanceUID"}
    assert {slice_.sop_instance for slice_ in series.slices} <= references


@both
def test_a_trial_and_an_earlier_deidentification_are_taken_over_validly(tmp_path, form):
    grid = house_geometry(shape=(4, 3, 2), orientation="LPS")
    told = {
        "ClinicalTrialSponsorName": "ACME",
        "ClinicalTrialProtocolID": "P-1",
        "ClinicalTrialSiteID": "",
        "ClinicalTrialSubjectID": "S-1",
        "PatientIdentityRemoved": "YES",
    }
    series = save_slices(tmp_path / "ct", grid, **told)
    label_map = on_series(LabelMap(np.ones(grid.shape, np.uint8), grid), series)
    WRITERS[form](label_map, series, LABELS, tmp_path / form)
    dataset = pydicom.dcmread(tmp_path / form)
    assert {name: dataset[name].value for name in told} == told
    assert dataset.ClinicalTrialSiteName == ""
    assert dataset.DeidentificationMethod == "not told by the source"
    assert faults(tmp_path / form) == [] or form == "labelmap"


@both
@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Änne"), ("ISO_IR 144", "Люкceмбypг"), (["", "ISO 2022 IR 87"], "山田^太郎")],
)
def test_names_in_any_script_are_kept(tmp_path, form, charset, name):
    grid = house_geometry(shape=(4, 3, 2), orientation="LPS")
    series = save_slices(tmp_path / "ct", grid, SpecificCharacterSet=charset, PatientName=name)
    labels = LabelSet.from_names({1: "Läber"})
    WRITERS[form](on_series(LabelMap(np.ones(grid.shape, np.uint8), grid), series), series, labels, tmp_path / form)
    dataset = pydicom.dcmread(tmp_path / form)
    assert str(dataset.PatientName) == name
    segments = dataset.StructureSetROISequence if form == "rtstruct" else dataset.SegmentSequence
    assert "läber" in [segment.get("SegmentLabel", segment.get("ROIName")) for segment in segments]


@both
@pytest.mark.parametrize(("one", "other"), [("l" * 64 + "a", "l" * 64 + "b"), ("a\\b", "a/b")])
def test_names_that_are_alike_in_what_fits_stay_two(tmp_path, scan, form, one, other):
    series, label_map = scan
    names = {0: "background", 1: one, 2: other, 5: "x" * 70}
    labels = LabelSet.from_names(names)
    WRITERS[form](label_map, series, labels, tmp_path / form)
    for again in (labels, LabelSet.from_names(dict(reversed(names.items())))):
        back = read_reference(source(form, tmp_path / form), geometry=label_map.geometry, labels=again)
        np.testing.assert_array_equal(back.array, label_map.array)
    one_less = LabelSet.from_names({id_: name for id_, name in names.items() if id_ != 1})
    with pytest.raises(UnknownLabelError):
        read_reference(source(form, tmp_path / form), geometry=label_map.geometry, labels=one_less)


@both
def test_a_deidentified_file_tells_nothing_of_its_source(tmp_path, scan, form):
    series, label_map = scan
    WRITERS[form](label_map, series, LABELS, tmp_path / form, deidentify=KEY)
    source = pydicom.dcmread(series.files[0].path)
    identifying = {str(source[name].value) for name in PATIENT} - {"F"}
    identifying |= {str(item.value) for item in source.iterall() if item.VR == "UI" and item.keyword != "SOPClassUID"}
    dataset = pydicom.dcmread(tmp_path / form)
    for element in [*dataset.iterall(), *dataset.file_meta]:
        if element.VR != "SQ" and element.keyword not in ("PixelData", "ContourData"):
            values = element.value if isinstance(element.value, pydicom.multival.MultiValue) else [element.value]
            assert not {str(value) for value in values} & identifying, element
    data = (tmp_path / form).read_bytes()
    assert not [text for text in identifying if text.encode() in data]
    assert dataset.PatientSex == dataset.StudyDate == ""
    assert dataset.PatientIdentityRemoved == "YES"
    assert faults(tmp_path / form) == [] or form == "labelmap"


def test_deidentified_files_of_one_study_refer_to_each_others_uids(tmp_path, scan):
    series, label_map = scan
    for form, write in WRITERS.items():
        write(label_map, series, LABELS, tmp_path / form, deidentify=KEY)
    seg, labelmap, structures = (pydicom.dcmread(tmp_path / form) for form in WRITERS)
    assert seg.StudyInstanceUID == labelmap.StudyInstanceUID == structures.StudyInstanceUID
    referred = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert referred.RTReferencedSeriesSequence[0].SeriesInstanceUID == seg.ReferencedSeriesSequence[0].SeriesInstanceUID
    assert referred.ReferencedSOPInstanceUID == seg.StudyInstanceUID


@both
def test_missing_uids_and_dates_are_made_up_and_always_the_same(tmp_path, form):
    geometry = house_geometry(orientation="LPS")
    nothing = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"), "")
    undated = dict.fromkeys(("StudyDate", "StudyTime", "ContentDate", "ContentTime"), "")
    series = save_slices(
        tmp_path / "ct", geometry, **nothing, **undated, PatientSex="?", PatientAge="old", PatientID=""
    )
    label_map = on_series(house_label_map(geometry=geometry), series)
    WRITERS[form](label_map, series, LABELS, tmp_path / form)
    dataset = pydicom.dcmread(tmp_path / form)
    assert dataset.StudyInstanceUID.is_valid
    assert dataset.FrameOfReferenceUID.is_valid
    assert (dataset.InstanceCreationDate, dataset.InstanceCreationTime) == ("19000101", "000000")
    assert faults(tmp_path / form) == [] or form == "labelmap"


@both
def test_a_label_map_of_another_grid_is_refused(tmp_path, scan, form):
    series, label_map = scan
    moved = LabelMap(label_map.array, house_geometry(orientation="LPS", centre_mm=(0, 0, 0)))
    with pytest.raises(GridMismatchError):
        WRITERS[form](moved, series, LABELS, tmp_path / form)
    with pytest.raises(UnknownLabelError):
        WRITERS[form](label_map, series, LabelSet.from_names({1: "spleen"}), tmp_path / form)
    assert list(tmp_path.iterdir()) == []


@both
def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path, scan, form):
    series, label_map = scan
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnwritableError):
        WRITERS[form](label_map, series, LABELS, tmp_path / "file" / form)


REGIONS = LabelSet.from_names({0: "background", 1: "oedema", 2: "necrosis", 5: "enhancing"}).select(
    {"whole": ["oedema", "necrosis", "enhancing"], "core": ["necrosis", "enhancing"], "enhancing": ["enhancing"]}
)


@pytest.mark.parametrize("form", ["seg", "rtstruct"])
def test_a_region_shows_all_of_its_parts(tmp_path, scan, form):
    series, label_map = scan
    WRITERS[form](label_map, series, REGIONS, tmp_path / form)
    found = bodies(form, tmp_path / form, label_map.geometry)
    voxel = label_map.geometry.voxel_ml * 1000
    counts = {label.name: int(REGIONS.mask(label_map.array, label).sum()) for label in REGIONS}
    assert counts["whole"] > counts["core"] > counts["enhancing"]
    assert {name: round(body.volume / voxel) for name, body in found.items()} == counts
    back = read_reference(tmp_path / form, geometry=label_map.geometry, labels=REGIONS)
    np.testing.assert_array_equal(back.array, label_map.array)


def test_a_label_map_segmentation_shows_regions_as_they_are_painted(tmp_path, scan):
    series, label_map = scan
    write_seg(label_map, series, REGIONS, tmp_path / "seg", kind="labelmap")
    back = read_reference(source("labelmap", tmp_path / "seg"), geometry=label_map.geometry, labels=REGIONS)
    np.testing.assert_array_equal(back.array, label_map.array)


@both
def test_a_merged_label_shows_all_of_its_parts(tmp_path, scan, form):
    series, label_map = scan
    merged = LABELS.select({"kidneys": ["left kidney", "thing"], "spleen": ["spleen"]})
    WRITERS[form](label_map, series, merged, tmp_path / form)
    found = bodies(form, tmp_path / form, label_map.geometry)
    voxel = label_map.geometry.voxel_ml * 1000
    assert {name: round(body.volume / voxel) for name, body in found.items()} == {
        "kidneys": int(np.isin(label_map.array, (2, 5)).sum()),
        "spleen": int((label_map.array == 1).sum()),
    }


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_highdicom_reads_the_segments_at_their_places(tmp_path, scan, kind):
    series, label_map = scan
    write_seg(label_map, series, LABELS, tmp_path / "seg", kind=kind)
    volume = highdicom.seg.segread(tmp_path / "seg").get_volume(combine_segments=True)
    found = np.argwhere(volume.array > 0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    body = Body.of(label_map.array > 0, label_map.geometry)
    assert len(found) == (label_map.array > 0).sum()
    np.testing.assert_allclose(found.mean(axis=0), body.centre, atol=1e-3)


def test_segments_carry_codes_and_colours(tmp_path, scan):
    series, label_map = scan
    write_seg(label_map, series, LABELS, tmp_path / "seg", algorithm="net 7")
    spleen, kidney, thing, _ = pydicom.dcmread(tmp_path / "seg").SegmentSequence
    assert spleen.SegmentedPropertyTypeCodeSequence[0].CodeValue == "78961009"
    assert spleen.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert "SegmentedPropertyTypeModifierCodeSequence" not in spleen.SegmentedPropertyTypeCodeSequence[0]
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeMeaning, kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("Kidney", "Left")
    assert thing.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert spleen.SegmentAlgorithmName == "net 7"
    assert spleen.SegmentAlgorithmType == "AUTOMATIC"
    assert len(spleen.RecommendedDisplayCIELabValue) == 3


def test_regions_carry_codes_and_colours(tmp_path, scan):
    series, label_map = scan
    write_rtstruct(label_map, series, LABELS, tmp_path / "rtstruct", algorithm="a network with a long name")
    dataset = pydicom.dcmread(tmp_path / "rtstruct")
    assert dataset.StructureSetLabel == "a network with a"
    assert dataset.RTROIObservationsSequence[1].RTROIIdentificationCodeSequence[0].CodeMeaning == "Kidney"
    assert list(dataset.ROIContourSequence[0].ROIDisplayColor) == list(LABELS.labels[0].colour)
    for region in dataset.ROIContourSequence[:3]:
        for contour in region.ContourSequence:
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            assert contour.NumberOfContourPoints * 3 == len(contour.ContourData)


def test_contours_hold_the_centres_of_their_voxels_and_of_no_others(tmp_path):
    geometry = house_geometry(shape=(8, 7, 3), orientation="LPS")
    series = save_slices(tmp_path / "ct", geometry)
    array = np.zeros(geometry.shape, np.uint8)
    array[1:7, 1:6, 1], array[2:6, 2:5, 1], array[3:5, 3, 1], array[0, 0, 1] = 1, 0, 1, 1
    label_map = LabelMap(array, series.layout().geometry)
    write_rtstruct(label_map, series, LABELS, tmp_path / "rtstruct")
    contours = polygons(tmp_path / "rtstruct")["spleen"]
    assert len(contours) == 3
    centres = np.argwhere(np.ones(geometry.shape[:2], bool))
    lps = label_map.geometry.to_world(np.column_stack([centres, np.ones(len(centres))])) * (-1, -1, 1)
    found = [inside(contours, point, drop=2) for point in lps]
    np.testing.assert_array_equal(np.reshape(found, geometry.shape[:2]), array[:, :, 1] == 1)


@both
@pytest.mark.parametrize("deidentify", [None, KEY])
def test_real_scans_give_valid_files_at_the_right_place(tmp_path, form, deidentify):
    path = real_data("organs_ct", "example_ct_dicom")
    series = find_source(path).series
    label_map = on_series(read_label_map(real_data("organs_ct", "example_seg_dicom.nii.gz")), series)
    labels = LabelSet.from_ids(label_map.ids())
    WRITERS[form](label_map, series, labels, tmp_path / form, deidentify=deidentify)
    assert faults(tmp_path / form) == [] or form == "labelmap"
    np.testing.assert_array_equal(
        read_reference(source(form, tmp_path / form), geometry=label_map.geometry, labels=labels).array,
        label_map.array,
    )
    found = bodies(form, tmp_path / form, label_map.geometry)
    for label in labels:
        body = Body.of(label_map.array == label.id, label_map.geometry)
        assert found[label.name].volume == pytest.approx(body.volume, rel=1e-2 if form == "rtstruct" else 1e-3)
        assert np.linalg.norm(found[label.name].centre - body.centre) < 0.01


@both
def test_a_whole_real_scan_without_dates_gives_a_valid_file(tmp_path, form):
    series = find_sources([real_data("chaos_ct", "DICOM_anon")])[0].series
    geometry = series.layout().geometry
    array = np.zeros(geometry.shape, np.uint8)
    array[100:200, 150:300, 20:24] = 1
    WRITERS[form](LabelMap(array, geometry), series, LABELS, tmp_path / form)
    assert faults(tmp_path / form) == [] or form == "labelmap"

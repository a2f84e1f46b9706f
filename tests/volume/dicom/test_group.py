"""Groups: which slices make up a scan, whatever the files are called and whatever lies beside them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_phantoms import DOSE_REPORT, RT_DOSE, SECONDARY_CAPTURE, UPRIGHT, edit, save_enhanced, save_object, upright
from phantoms import SERIES_UID, house_geometry, house_volume, real_data, save_dicom_series
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medseg.volume import Volume, find_source, find_sources, look_through, read_volume

SCAN = upright()
OTHER = upright(seed=1)


def codes(volume: Volume) -> list[str]:
    return [remark.code for remark in volume.remarks]


def expect(folder: Path, *scans: Volume) -> list[Volume]:
    """Expect these scans in a folder, in this order."""
    volumes = [read_volume(source) for source in find_sources([folder])]
    assert len(volumes) == len(scans)
    for volume, scan in zip(volumes, scans, strict=True):
        np.testing.assert_array_equal(volume.array, scan.array)
        assert volume.geometry.distance_mm(scan.geometry) < 1e-4
    return volumes


# --- what is no slice


@pytest.mark.parametrize(
    ("sop_class", "elements", "reason"),
    [
        (DOSE_REPORT, {"Modality": "SR"}, "X-Ray Radiation Dose SR Storage, which is no image"),
        (SECONDARY_CAPTURE, {"Rows": 4, "Columns": 5, "SamplesPerPixel": 3}, "in colour"),
        (SECONDARY_CAPTURE, {"Rows": 4, "Columns": 5}, "does not say where it lies"),
        (RT_DOSE, {"Rows": 4, "Columns": 5, "NumberOfFrames": 3, "ImagePositionPatient": [0, 0, 0]}, "several frames"),
        ("1.2.840.10008.5.1.4.1.1.2", {"Rows": 4, "Columns": 5, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, ""),
    ],
    ids=["dose report", "screenshot", "film", "dose grid", "localizer"],
)
def test_what_is_no_slice_of_a_scan_is_passed_over_with_a_reason(tmp_path, sop_class, elements, reason):
    save_dicom_series(tmp_path, SCAN)
    save_object(tmp_path / "other.dcm", sop_class, **elements)
    found = look_through(tmp_path)
    assert [(Path(place).name, reason in why) for place, why in found.passed_over] == [("other.dcm", True)]
    expect(tmp_path, SCAN)


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [("1.2.840.10008.5.1.4.1.1.66.4", "segmentation"), ("1.2.840.10008.5.1.4.1.1.481.3", "structures")],
)
def test_labels_in_dicom_are_no_scan(tmp_path, sop_class, kind):
    save_dicom_series(tmp_path, SCAN)
    save_object(tmp_path / "ct.seg.dcm", sop_class)
    found = look_through(tmp_path)
    assert [(labels.case_id, labels.kind) for labels in found.annotations] == [("ct", kind)]
    assert [labels.case_id for labels in found.label_maps] == ["ct"]
    expect(tmp_path, SCAN)


def test_a_folder_of_reports_alone_is_empty_and_says_what_it_holds(tmp_path):
    save_object(tmp_path / "dose", DOSE_REPORT)
    with pytest.raises(Exception, match=r"no DICOM series among its DICOM files \(.*Dose SR"):
        find_source(tmp_path)


def test_a_scout_within_the_series_is_passed_over(tmp_path):
    save_dicom_series(tmp_path, SCAN)
    scout = house_volume(geometry=house_geometry(shape=(9, 7, 1), orientation="LSA"))
    save_dicom_series(tmp_path, scout, name="scout{}.dcm".format)
    assert [why for _, why in look_through(tmp_path).passed_over] == ["a lone slice off the stack of its series"]
    expect(tmp_path, SCAN)


# --- what belongs together


def test_stacks_of_several_orientations_in_one_series_are_scans_of_their_own(tmp_path):
    coronal = upright(orientation="LIP", shape=(9, 7, 4))
    save_dicom_series(tmp_path, SCAN)
    save_dicom_series(tmp_path, coronal, name="coronal{}.dcm".format)
    first, second = expect(tmp_path, SCAN, coronal)
    assert codes(first) == codes(second) == ["W_SERIES_SPLIT"]


@pytest.mark.parametrize("difference", ["size", "spacing", "frame of reference"])
def test_slices_that_differ_in_geometry_are_of_different_stacks(tmp_path, difference):
    grid = {"shape": (7, 8, 6)} if difference == "size" else {"spacing_mm": (0.9, 1.8, 3.1)}
    other = OTHER if difference == "frame of reference" else upright(seed=1, **grid)
    edit(save_dicom_series(tmp_path, SCAN), FrameOfReferenceUID=f"{SERIES_UID}.6")
    files = save_dicom_series(tmp_path, other, name="other{}.dcm".format)
    edit(files, FrameOfReferenceUID=f"{SERIES_UID}.{'7' if difference == 'frame of reference' else '6'}")
    expect(tmp_path, SCAN, other)


@pytest.mark.parametrize("phase", ["AcquisitionNumber", "EchoNumbers", "TemporalPositionIdentifier", "TriggerTime"])
def test_stacks_at_the_same_positions_are_told_apart(tmp_path, phase):
    edit(save_dicom_series(tmp_path, SCAN), **{phase: 1})
    edit(save_dicom_series(tmp_path, OTHER, name="b{}.dcm".format), **{phase: 2})
    assert codes(expect(tmp_path, SCAN, OTHER)[0]) == ["W_SERIES_SPLIT"]


def test_copies_of_slices_are_left_out_though_their_headers_differ(tmp_path):
    files = save_dicom_series(tmp_path, SCAN)
    for number in (0, 3):
        shutil.copy(files[number], tmp_path / f"copy of {number}")
    edit(tmp_path / "copy of 3", InstanceCreationTime="120000", SOPInstanceUID=f"{SERIES_UID}.77")
    (volume,) = expect(tmp_path, SCAN)
    assert codes(volume) == ["W_SAME_SLICE_TWICE"]
    assert "2 file(s)" in volume.remarks[0].message


def test_a_series_that_an_export_spread_over_folders_is_one_scan(tmp_path):
    files = save_dicom_series(tmp_path / "patient" / "0", SCAN)
    (tmp_path / "patient" / "1").mkdir()
    for number in (1, 3, 4):
        files[number].rename(tmp_path / "patient" / "1" / files[number].name)
    expect(tmp_path, SCAN)
    assert find_source(tmp_path).case_id == "patient"


def test_phases_that_an_export_spread_over_folders_are_told_apart(tmp_path):
    files = save_dicom_series(tmp_path / "a", SCAN)
    others = save_dicom_series(tmp_path / "b", OTHER)
    for number, (one, other) in enumerate(zip(files, others, strict=True)):
        edit(one, AcquisitionNumber=1, SOPInstanceUID=f"{SERIES_UID}.1.{number}")
        edit(other, AcquisitionNumber=2, SOPInstanceUID=f"{SERIES_UID}.2.{number}")
        if number % 2:
            one.rename(tmp_path / "b" / f"one{number}")
            other.rename(tmp_path / "a" / f"other{number}")
    expect(tmp_path, SCAN, OTHER)


@pytest.mark.parametrize("layout", ["two folders", "one folder"])
def test_patients_whose_uids_clash_are_kept_apart(tmp_path, layout):
    normal = SCAN.geometry.affine[:3, 2]
    above = upright(seed=1, centre_mm=np.array([31.5, -42.25, 77.125]) + 6 * normal)
    edit(save_dicom_series(tmp_path / "a", SCAN), PatientID="1")
    folder = tmp_path / ("b" if layout == "two folders" else "a")
    files = save_dicom_series(folder, above, name="other{}.dcm".format)
    for number, file in enumerate(files):
        edit(file, PatientID="2", SOPInstanceUID=f"{SERIES_UID}.9.{number}")
    expect(tmp_path, SCAN, above)


def test_slices_of_two_phases_that_look_alike_are_no_copies(tmp_path):
    still = Volume(SCAN.array.copy(), SCAN.geometry)
    still.array[..., 3:] = 7
    edit(save_dicom_series(tmp_path, still), AcquisitionNumber=1)
    edit(save_dicom_series(tmp_path, still, name="b{}.dcm".format), AcquisitionNumber=2)
    expect(tmp_path, still, still)


@pytest.mark.parametrize("change", ["orientation", "spacing"])
def test_an_end_slice_that_is_left_out_is_told(tmp_path, change):
    files = save_dicom_series(tmp_path, SCAN)
    if change == "spacing":
        edit(files[-1], PixelSpacing=[1.702, 0.9])
    else:
        turned = upright(tilt_degrees=(8.0, -12.0, 17.2))
        save_dicom_series(tmp_path / "turned", turned)[-1].replace(files[-1])
        shutil.rmtree(tmp_path / "turned")
    (volume,) = [read_volume(source) for source in find_sources([tmp_path])]
    assert volume.geometry.shape[2] == 5
    assert codes(volume) == ["W_SLICE_LEFT_OUT"]


def test_a_frame_of_reference_or_study_that_some_slices_lack_divides_nothing(tmp_path):
    files = save_dicom_series(tmp_path, SCAN)
    edit(files[2:4], FrameOfReferenceUID=f"{SERIES_UID}.6")
    edit(files[4], StudyInstanceUID="")
    expect(tmp_path, SCAN)


def test_a_file_too_damaged_to_name_its_series_fails_only_itself_among_several(tmp_path):
    save_dicom_series(tmp_path, SCAN, uid=f"{SERIES_UID}.1")
    files = save_dicom_series(tmp_path, OTHER, uid=f"{SERIES_UID}.2", name="other{}.dcm".format)
    (tmp_path / "cut").write_bytes(files[0].read_bytes()[:200])
    sources = find_sources([tmp_path])
    broken = [source for source in sources if source.series.faults]
    assert [file.name for source in broken for file in source.series.files] == ["cut"]
    assert [read_volume(source).geometry.shape for source in sources if source not in broken] == [UPRIGHT.shape] * 2


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    save_dicom_series(tmp_path / "elsewhere" / "ct", SCAN)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere" / "ct")
    (tmp_path / "elsewhere" / "ct" / "loop").symlink_to(tmp_path / "elsewhere")
    assert len(find_sources([tmp_path / "in"])) == 1


def test_a_pipe_in_a_folder_is_passed_over(tmp_path):
    save_dicom_series(tmp_path, SCAN)
    os.mkfifo(tmp_path / "pipe")
    expect(tmp_path, SCAN)


def test_copies_of_a_series_in_two_folders_are_two_scans(tmp_path):
    for folder in "ab":
        save_dicom_series(tmp_path / folder, SCAN)
    expect(tmp_path, SCAN, SCAN)


def test_series_without_a_uid_are_kept_apart_by_their_folders(tmp_path):
    for folder, scan in {"a": SCAN, "b": upright(seed=1, centre_mm=(31.5, -42.25, 200))}.items():
        edit(save_dicom_series(tmp_path / folder, scan), SeriesInstanceUID="", StudyInstanceUID="")
    assert [source.case_id for source in find_sources([tmp_path])] == ["a", "b"]


def test_folders_of_one_name_give_case_ids_of_their_own(tmp_path):
    for patient in ("anna", "bert"):
        save_dicom_series(tmp_path / patient / "S1" / "DICOM", SCAN)
    save_dicom_series(tmp_path / "carl" / "DICOM", SCAN)
    assert [source.case_id for source in find_sources([tmp_path])] == ["anna_S1_DICOM", "bert_S1_DICOM", "carl_DICOM"]


# --- how it is stored


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name
)
def test_every_plain_transfer_syntax_is_read(tmp_path, syntax):
    for file in save_dicom_series(tmp_path, SCAN):
        dataset = pydicom.dcmread(file)
        implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
        if not little:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(file, dataset, implicit_vr=implicit, little_endian=little)
    expect(tmp_path, SCAN)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000", "RLE", "JPEG-LS"])
def test_compressed_slices_are_read(tmp_path, compressor):
    for file in save_dicom_series(tmp_path, SCAN):
        if compressor in ("RLE", "JPEG-LS"):
            dataset = pydicom.dcmread(file)
            dataset.compress(
                RLELossless if compressor == "RLE" else pydicom.uid.JPEGLSLossless, generate_instance_uid=False
            )
            dataset.save_as(file)
            continue
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(file))
        image = sitk.ReadImage(str(file))
        writer.Execute(image)
        assert pydicom.dcmread(file).file_meta.TransferSyntaxUID.is_compressed
    expect(tmp_path, SCAN)


def test_files_without_the_mark_of_part_10_are_read(tmp_path):
    for file in save_dicom_series(tmp_path, SCAN):
        dataset = pydicom.dcmread(file)
        dataset.preamble, dataset.file_meta = None, pydicom.dataset.FileMetaDataset()
        dataset.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    expect(tmp_path, SCAN)


def test_files_without_a_preamble_that_begin_with_their_meta_information_are_read(tmp_path):
    for file in save_dicom_series(tmp_path, SCAN):
        file.write_bytes(file.read_bytes()[132:])
    expect(tmp_path, SCAN)


@pytest.mark.parametrize("kind", ["plain", "enhanced"])
def test_an_image_that_is_shown_as_a_negative_keeps_its_values(tmp_path, kind):
    if kind == "plain":
        edit(save_dicom_series(tmp_path, SCAN), PhotometricInterpretation="MONOCHROME1")
    else:
        edit(save_enhanced(tmp_path / "a.dcm", SCAN), PhotometricInterpretation="MONOCHROME1")
    expect(tmp_path, SCAN)


def test_each_slice_is_rescaled_by_its_own_slope(tmp_path):
    files = save_dicom_series(tmp_path, SCAN)
    for number, file in enumerate(files):
        edit(file, RescaleSlope=1 + number * 0.5, RescaleIntercept=-number)
    rescaled = read_volume(tmp_path)
    slopes = 1 + np.arange(len(files)) * 0.5
    np.testing.assert_allclose(rescaled.array[0], SCAN.array[0] * slopes - np.arange(len(files)))
    assert rescaled.array.dtype == np.float32


# --- multi-frame


def test_an_enhanced_file_is_read_whatever_the_order_of_its_frames(tmp_path):
    save_enhanced(tmp_path / "a.dcm", SCAN, order=[3, 0, 5, 1, 4, 2])
    assert codes(*expect(tmp_path, SCAN)) == []


def test_each_frame_is_rescaled_by_its_own_slope(tmp_path):
    rescale = [(1, -1024), (1, -1000), (2, 0), (1, 0), (1, 0), (3, 7)]
    save_enhanced(tmp_path / "a.dcm", SCAN, rescale=rescale)
    slopes, intercepts = np.array(rescale).T
    np.testing.assert_array_equal(read_volume(tmp_path).array[0], SCAN.array[0] * slopes + intercepts)


def test_a_frame_without_its_place_is_an_error(tmp_path):
    path = save_enhanced(tmp_path / "a.dcm", SCAN)
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(Exception, match="does not say where it lies"):
        read_volume(tmp_path)


@pytest.mark.parametrize("frames", [5, 7])
def test_a_file_that_describes_more_or_fewer_frames_than_it_holds_is_damaged(tmp_path, frames):
    path = save_enhanced(tmp_path / "a.dcm", SCAN)
    dataset = pydicom.dcmread(path)
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    dataset.PerFrameFunctionalGroupsSequence = (groups * 2)[:frames]
    dataset.save_as(path)
    with pytest.raises(Exception, match=f"describes {frames} frames and holds 6"):
        read_volume(tmp_path)


def test_an_enhanced_file_and_a_plain_series_in_one_folder_are_two_scans(tmp_path):
    save_enhanced(tmp_path / "a.dcm", OTHER, uid=f"{SERIES_UID}.1")
    save_dicom_series(tmp_path, SCAN)
    expect(tmp_path, SCAN, OTHER)


# --- real data


def test_two_real_series_and_junk_in_one_folder_are_two_scans(tmp_path):
    for place in (("chaos_ct", "DICOM_anon"), ("organs_ct", "example_ct_dicom")):
        for file in real_data(*place).iterdir():
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "notes.txt").write_text("seen by")
    (tmp_path / "Thumbs.db").write_bytes(bytes(3000))
    save_object(tmp_path / "dose", DOSE_REPORT)
    sources = find_sources([tmp_path])
    shapes = {read_volume(source).geometry.shape for source in sources}
    assert shapes == {(512, 512, 78), (512, 512, 20)}
    assert [source.case_id for source in sources] == [f"{tmp_path.name}_1", f"{tmp_path.name}_2"]


def test_the_grid_is_upright_where_slices_are(tmp_path):
    save_dicom_series(tmp_path, SCAN)
    assert not read_volume(tmp_path).geometry.leans
    assert not UPRIGHT.leans

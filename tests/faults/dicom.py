"""DICOM folders that are wrong, and odd ones that are not."""

import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicom_phantoms import DOSE_REPORT, SECONDARY_CAPTURE, UPRIGHT, edit, save_enhanced, save_object
from phantoms import SERIES_UID, house_geometry, save_dicom_series
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from faults.fault import fault
from faults.nifti import Make
from medseg.volume import Geometry, Volume

MIDDLE = 3
SEGMENTATION, STRUCTURES = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
DIRECTORY = "1.2.840.10008.1.3.10"

Files = Sequence[Path]


def uid_of(folder: Path, number: int = 0) -> str:
    """Return a series UID that no other fault has."""
    return f"{SERIES_UID}.{zlib.crc32(folder.name.encode())}.{number}"


def write(folder: Path, volume: Volume, *, number: int = 0, name: str = "{:03d}.dcm", **grid: Any) -> list[Path]:
    """Write a scan's voxels as a series on a right-handed grid."""
    geometry = house_geometry(orientation="LPS", **grid) if grid else UPRIGHT
    i, j, k = geometry.shape
    scan = Volume(np.roll(volume.array, number, axis=1)[:, :i, :j, :k], geometry)
    return save_dicom_series(folder, scan, uid=uid_of(folder, number), name=name.format)


def series(change: Callable[[Files], object] = tuple, *, name: str = "{:03d}.dcm", **elements: Any) -> Make:
    """Return what writes a series, sets elements of its slices, and then changes its files."""

    def make(folder: Path, volume: Volume) -> None:
        files = write(folder, volume, name=name)
        if elements:
            edit(files, **elements)
        change(files)

    return make


def one(**elements: Any) -> Callable[[Files], None]:
    """Return what sets elements of one slice in the middle; None removes one."""
    return lambda files: edit(files[MIDDLE], **elements)


def without(*numbers: int) -> Callable[[Files], None]:
    """Return what removes slices."""
    return lambda files: [files[number].unlink() for number in numbers] and None


def cut(size: int) -> Callable[[Files], object]:
    """Return what keeps the first bytes of a slice; a negative size counts from its end."""
    return lambda files: files[MIDDLE].write_bytes(files[MIDDLE].read_bytes()[:size])


def moved(mm: float) -> Callable[[Files], None]:
    """Return what moves a slice along the normal."""

    def move(files: Files) -> None:
        position = np.array(pydicom.dcmread(files[MIDDLE]).ImagePositionPatient, float)
        step = np.array(pydicom.dcmread(files[MIDDLE + 1]).ImagePositionPatient, float) - position
        edit(files[MIDDLE], ImagePositionPatient=[f"{x:.8g}" for x in position + step / np.linalg.norm(step) * mm])

    return move


def leaning(folder: Path, volume: Volume) -> None:
    """Write the slices of a tilted gantry."""
    affine = np.array(UPRIGHT.affine)
    affine[:3, 2] += 0.3 * affine[:3, 1] / UPRIGHT.spacing_mm[1] * UPRIGHT.spacing_mm[2]
    save_dicom_series(folder, Volume(volume.array, Geometry(UPRIGHT.shape, affine)), uid=uid_of(folder))


def same_place(files: Files) -> None:
    """Add a slice at the place of another, with other voxels."""
    dataset = pydicom.dcmread(files[1])
    dataset.ImagePositionPatient = pydicom.dcmread(files[MIDDLE]).ImagePositionPatient
    dataset.SOPInstanceUID += ".9"
    dataset.save_as(files[0].parent / "again.dcm")


def copied(files: Files) -> None:
    """Add a copy of a slice under another name."""
    shutil.copy(files[MIDDLE], files[0].parent / "copy of a slice.dcm")


def without_preamble(files: Files) -> None:
    """Take the mark of Part 10 and the meta elements off, as old exports have them."""
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.preamble = None
        del dataset.file_meta
        pydicom.dcmwrite(file, dataset, implicit_vr=False, little_endian=True)


def rewritten(syntax: str) -> Callable[[Files], None]:
    """Return what writes the slices in another transfer syntax."""

    def rewrite(files: Files) -> None:
        for file in files:
            dataset = pydicom.dcmread(file)
            if syntax == RLELossless:
                dataset.compress(syntax)
            else:
                if syntax == ExplicitVRBigEndian:
                    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
                dataset.file_meta.TransferSyntaxUID = syntax
            pydicom.dcmwrite(
                file,
                dataset,
                implicit_vr=syntax == ImplicitVRLittleEndian,
                little_endian=syntax != ExplicitVRBigEndian,
                force_encoding=True,
            )

    return rewrite


def rescaled_one_by_one(files: Files) -> None:
    """Give each slice a slope and an intercept of its own, as PET has them, that keep a CT's range."""
    for number, file in enumerate(files):
        edit(file, RescaleSlope=1 + number / 8, RescaleIntercept=-10 * number)


def beside(sop_class: str, **elements: Any) -> Make:
    """Return what writes a series with another DICOM file beside it."""

    def make(folder: Path, volume: Volume) -> None:
        write(folder, volume)
        save_object(folder / "other.dcm", sop_class, **elements)

    return make


def two(**grid: Any) -> Make:
    """Return what writes two series into one folder, the second on another grid."""

    def make(folder: Path, volume: Volume) -> None:
        write(folder, volume)
        write(folder, volume, number=1, name="b{:03d}.dcm", **grid)

    return make


def merged(*numbers: int, **grid: Any) -> Make:
    """Return what puts slices of another grid into a series, in place of its own."""

    def make(folder: Path, volume: Volume) -> None:
        files = write(folder, volume)
        others = write(folder, volume, number=1, name="b{:03d}.dcm", **grid)
        for number, other in enumerate(others):
            if number in numbers:
                edit(other, SeriesInstanceUID=uid_of(folder))
                other.replace(files[number])
            else:
                other.unlink()

    return make


def localizer(folder: Path, volume: Volume) -> None:
    """Write a series with a scout across it, in a series of its own."""
    write(folder, volume)
    edit(
        write(folder, volume, number=1, name="scout{}.dcm", shape=(7, 6, 1), spacing_mm=(5, 4, 3)),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )


def enhanced(folder: Path, volume: Volume) -> None:
    """Write one file with a frame per slice."""
    save_enhanced(folder / "frames.dcm", Volume(volume.array, UPRIGHT), uid=uid_of(folder))


def enhanced_without_frames(folder: Path, volume: Volume) -> None:
    """Write one file with a frame per slice, but for two in its middle."""
    save_enhanced(folder / "frames.dcm", Volume(volume.array, UPRIGHT), order=[0, 1, 4, 5], uid=uid_of(folder))


def two_phases(folder: Path, volume: Volume) -> None:
    """Write two acquisitions of one series at the same places."""
    edit(write(folder, volume), AcquisitionNumber=1)
    edit(write(folder, volume, number=1, name="b{}.dcm"), AcquisitionNumber=2, SeriesInstanceUID=uid_of(folder))


NOWHERE = {"ImagePositionPatient": None, "ImageOrientationPatient": None}

DICOM = [
    # sound, however odd
    fault("series", series()),
    fault("series without suffixes", series(name="IM{:05d}")),
    fault("series with names in another order", series(lambda files: files[0].rename(files[0].with_name("z.dcm")))),
    fault("series without instance numbers", series(InstanceNumber=None)),
    fault("series with one instance number", series(InstanceNumber=1)),
    fault("series without a preamble", series(without_preamble)),
    fault("series big-endian", series(rewritten(ExplicitVRBigEndian))),
    fault("series implicit", series(rewritten(ImplicitVRLittleEndian))),
    fault("series compressed", series(rewritten(RLELossless))),
    fault("series rescaled slice by slice", series(rescaled_one_by_one)),
    fault("series without UIDs", series(SeriesInstanceUID="", StudyInstanceUID="")),
    fault("series of one slice", series(without(0, 1, 2, 4, 5)), "W_SINGLE_SLICE"),
    fault("series with a copy of a slice", series(copied), "W_SAME_SLICE_TWICE"),
    fault("series of a tilted gantry", leaning, "W_TILTED"),
    fault("series with a localizer beside", localizer),
    fault("series with a dose report beside", beside(DOSE_REPORT, Modality="SR")),
    fault("series with a screenshot beside", beside(SECONDARY_CAPTURE, Rows=4, Columns=5, SamplesPerPixel=3)),
    fault("series with a segmentation beside", beside(SEGMENTATION)),
    fault("series with contours beside", beside(STRUCTURES)),
    fault("series with a directory beside", beside(DIRECTORY)),
    fault("two series", two(), cases=2),
    fault("two series on two grids", two(spacing_mm=(1.1, 1.7, 3.1)), cases=2),
    fault("two phases of a series", two_phases, "W_SERIES_SPLIT", cases=2),
    fault("enhanced", enhanced),
    # slices
    fault("slice missing", series(without(2)), "E_MISSING_SLICE"),
    fault("slices missing", series(without(2, 3)), "E_MISSING_SLICE"),
    fault("slices missing here and there", series(without(1, 4)), "E_SLICE_SPACING"),
    fault("slice twice, differing", series(same_place), "E_DOUBLE_SLICE"),
    fault("slice out of step", series(moved(0.9)), "E_SLICE_SPACING"),
    fault("slice a hair out of step", series(moved(0.05))),
    fault("slice cut in its voxels", series(cut(-40)), "E_CORRUPT"),
    fault("slice cut in its header", series(cut(500)), "E_CORRUPT"),
    fault("slice cut at its start", series(cut(150)), "E_CORRUPT"),
    fault("slice empty", series(cut(0)), "E_MISSING_SLICE"),
    fault("slice without its position", series(one(ImagePositionPatient=None)), "E_NO_AFFINE"),
    fault("slice without its orientation", series(one(ImageOrientationPatient=None)), "E_NO_AFFINE"),
    fault("slice without its spacing", series(one(PixelSpacing=None)), "E_NO_AFFINE"),
    fault("slice of a spacing of zero", series(one(PixelSpacing=[0, 0])), "E_NO_AFFINE"),
    fault("slice without its voxels", series(one(PixelData=None)), "E_CORRUPT"),
    fault("slice of another size", merged(MIDDLE, shape=(7, 6, 6)), "E_MISSING_SLICE"),
    fault("slice of another spacing", series(one(PixelSpacing=[1.8, 0.9])), "E_MISSING_SLICE"),
    fault("slice of another orientation", merged(MIDDLE, tilt_degrees=(3, 0, 0)), "E_MISSING_SLICE"),
    fault("series that does not say where it lies", series(**NOWHERE), "E_NO_AFFINE"),
    fault("series squeezed flat", series(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "E_NO_AFFINE"),
    fault("series stored without its intercept", series(RescaleIntercept=2000), "W_NOT_HU"),
    fault("enhanced lacking frames", enhanced_without_frames, "E_MISSING_SLICE"),
    fault("report alone", lambda folder, _: save_object(folder / "dose", DOSE_REPORT), "E_EMPTY_FOLDER", cases=0),
]

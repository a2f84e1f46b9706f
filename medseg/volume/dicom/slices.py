"""Slice: one plane of voxels as its DICOM header describes it; and how a file's slices are read from its header."""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID

from medseg.volume.dicom.stored import START_BYTES, StoredFile, contents, is_dicom

# Storage classes whose images lie in the patient: one that does not say where is damaged, and not merely no scan.
VOLUME_CLASSES = {
    "CT Image Storage",
    "Enhanced CT Image Storage",
    "Legacy Converted Enhanced CT Image Storage",
    "MR Image Storage",
    "Enhanced MR Image Storage",
    "Legacy Converted Enhanced MR Image Storage",
    "Positron Emission Tomography Image Storage",
    "Enhanced PET Image Storage",
    "Legacy Converted Enhanced PET Image Storage",
}
# Newer than pydicom's dictionary: Label Map Segmentation Storage, by its UID.
SEGMENTATIONS = {"Segmentation Storage", "1.2.840.10008.5.1.4.1.1.66.7", "Label Map Segmentation Storage"}
STRUCTURES = {"RT Structure Set Storage"}
# What tells stacks of one series apart that lie on the same positions: phases, echoes, b-values, repetitions.
PHASES = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
    "TriggerTime",
    "StackID",
    "ImageType",
    "FrameType",
    "ConvolutionKernel",
    "AcquisitionTime",
)
TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "PatientID",
    "PatientName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
    "SliceThickness",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *PHASES,
)
# Directions are rounded to two digits at worst.
DIRECTION_ROUNDING = 0.02
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slice:
    """One plane of voxels.

    Attributes:
        file: where it is stored.
        frame: its index among the frames of a multi-frame file, from 0; None for a file of one slice.
        sop_class: the storage class UID.
        sop_instance: the instance UID; empty where a file names none.
        patient: their ID, or name where no ID is told; only to tell patients apart.
        study: the study instance UID, empty where none is named.
        series: the series instance UID, empty where none is named.
        series_number: as the scanner counts, or None.
        frame_of_reference: the UID of the coordinate system, empty where none is named.
        modality: CT, MR, PT…
        shape: rows and columns.
        spacing_mm: between rows, between columns (Pixel Spacing).
        thickness_mm: Slice Thickness, or None.
        orientation: LPS direction along a row and along a column, shape (2, 3) (Image Orientation (Patient)).
        position: LPS place of the first voxel's centre in mm, shape (3,) (Image Position (Patient)).
        rescale: slope and intercept of this frame, for a multi-frame file; None for a file of one slice, whose reader
            knows them.
        negative: whether low values are meant to be shown bright (MONOCHROME1); the values themselves are not affected.
        phases: the values of PHASES that the header has.
    """

    file: StoredFile
    frame: int | None
    sop_class: str
    sop_instance: str
    patient: str
    study: str
    series: str
    series_number: int | None
    frame_of_reference: str
    modality: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    orientation: Vector
    position: Vector
    rescale: tuple[float, float] | None
    negative: bool
    phases: dict[str, str]

    @property
    def normal(self) -> Vector:
        """The direction across the slice, LPS: along a row × along a column."""
        return np.cross(self.orientation[0], self.orientation[1])


@dataclass(frozen=True)
class Header:
    """What one DICOM file turned out to be.

    Attributes:
        file: where it is stored.
        kind: "slices"; "damaged" (cannot be parsed); "colour" (an image of a scan that has several values a voxel);
            "unplaced" (one that does not say where it lies); "segmentation" or "structures" (labels); "other" (no image
            of a scan).
        series: the series instance UID, empty where it cannot be told.
        slices: one, or one per frame; empty for other kinds.
        reason: why it holds no slices.
    """

    file: StoredFile
    kind: str
    series: str = ""
    slices: tuple[Slice, ...] = ()
    reason: str = ""


def read_headers(files: Iterable[StoredFile]) -> Iterator[Header]:
    """Yield what each DICOM file holds, without its voxels; other members of a zip are left out."""
    with pydicom.config.disable_value_validation():
        for file, source in _openable(list(files)):
            yield _read_header(file, source)


def stored_voxels(file: StoredFile) -> bytes:
    """Return what a file's voxels are made from: its pixel data as stored, and how they are rescaled.

    Empty where they cannot be read; decoding the slice will then say why.
    """
    try:
        _, data = next(contents([file]))
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        return f"{dataset.get('RescaleSlope')} {dataset.get('RescaleIntercept')} ".encode() + bytes(dataset.PixelData)
    except Exception:  # as in _read_header
        return b""


def _openable(files: Sequence[StoredFile]) -> Iterator[tuple[StoredFile, Any]]:
    """Yield each file with what pydicom can read it from."""
    for file in files:
        if not file.member:
            yield file, file.path
    for file, data in contents([file for file in files if file.member]):
        if is_dicom(data[:START_BYTES]):
            yield file, io.BytesIO(data)


def _read_header(file: StoredFile, source: Any) -> Header:
    try:
        dataset = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=[*TAGS], force=True)
        return _header_of(file, dataset)
    except Exception as error:  # pydicom raises a dozen kinds for bytes that are cut short or garbled
        return Header(file, "damaged", reason=f"its header cannot be read ({type(error).__name__}: {error})")


def _header_of(file: StoredFile, dataset: pydicom.Dataset) -> Header:
    meta = getattr(dataset, "file_meta", pydicom.Dataset())
    sop_class = UID(str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""))
    series = str(dataset.get("SeriesInstanceUID") or "")
    if sop_class.name in SEGMENTATIONS:
        return Header(file, "segmentation", series)
    if sop_class.name in STRUCTURES:
        return Header(file, "structures", series)
    scan = sop_class.name in VOLUME_CLASSES
    if "LOCALIZER" in [str(part).upper() for part in _many(dataset.get("ImageType"))]:
        return Header(file, "other", series, reason="a localizer")
    if not dataset.get("Rows") or not dataset.get("Columns"):
        if scan or not sop_class:
            return Header(file, "damaged", series, reason="its header ends before it tells the image's size")
        return Header(file, "other", series, reason=f"{sop_class.name}, which is no image of a scan")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        if scan:
            return Header(file, "colour", series, reason="a colour image")
        return Header(file, "other", series, reason=f"{sop_class.name} in colour")
    if int(dataset.get("NumberOfFrames") or 1) > 1 and not dataset.get("PerFrameFunctionalGroupsSequence"):
        reason = f"{sop_class.name} of several frames that do not say where they lie"
        return Header(file, "unplaced" if scan else "other", series, reason=reason)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups and len(groups) != int(dataset.get("NumberOfFrames") or 1):
        reason = f"it describes {len(groups)} frames and holds {dataset.get('NumberOfFrames')}"
        return Header(file, "damaged", series, reason=reason)
    slices = tuple(_slices(file, dataset, sop_class))
    if slices:
        return Header(file, "slices", series, slices)
    if scan:
        return Header(file, "unplaced", series, reason="its header does not say where it lies in the patient")
    return Header(file, "other", series, reason=f"{sop_class.name}, which does not say where it lies in the patient")


def _slices(file: StoredFile, dataset: pydicom.Dataset, sop_class: UID) -> Iterator[Slice]:
    """Yield the slices of a file; none where one of them lacks its place.

    A multi-frame file tells the place of each frame in its functional groups (PS3.3, section C.7.6.16).
    """
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    frames: list[tuple[int | None, list[pydicom.Dataset]]] = [(None, [dataset])]
    if groups:
        shared = _first(dataset, "SharedFunctionalGroupsSequence")
        frames = [(number, [*_flat(group), *_flat(shared), dataset]) for number, group in enumerate(groups)]
    meta = getattr(dataset, "file_meta", pydicom.Dataset())
    slices = []
    for number, places in frames:
        orientation = _directions(places)
        position = _numbers(places, "ImagePositionPatient", 3)
        spacing = _numbers(places, "PixelSpacing", 2)
        if orientation is None or position is None or spacing is None or min(spacing) <= 0:
            return
        thickness = _numbers(places, "SliceThickness", 1)
        slope, intercept = _numbers(places, "RescaleSlope", 1), _numbers(places, "RescaleIntercept", 1)
        slices.append(
            Slice(
                file=file,
                frame=number,
                sop_class=intern(str(sop_class)),
                sop_instance=str(dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or ""),
                patient=intern(str(dataset.get("PatientID") or dataset.get("PatientName") or "")),
                study=intern(str(dataset.get("StudyInstanceUID") or "")),
                series=intern(str(dataset.get("SeriesInstanceUID") or "")),
                series_number=_whole(dataset.get("SeriesNumber")),
                frame_of_reference=intern(str(dataset.get("FrameOfReferenceUID") or "")),
                modality=str(dataset.get("Modality") or ""),
                shape=(int(dataset.Rows), int(dataset.Columns)),
                spacing_mm=(float(spacing[0]), float(spacing[1])),
                thickness_mm=float(thickness[0]) if thickness is not None else None,
                orientation=orientation,
                position=position,
                rescale=(
                    None
                    if number is None
                    else (1.0 if slope is None else float(slope[0]), 0.0 if intercept is None else float(intercept[0]))
                ),
                negative=dataset.get("PhotometricInterpretation") == "MONOCHROME1",
                phases={name: str(value) for name in PHASES if (value := _found(places, name)) not in (None, "")},
            )
        )
    yield from slices


def _flat(group: pydicom.Dataset | None) -> Iterator[pydicom.Dataset]:
    """Yield the datasets in which one frame's functional groups keep their elements."""
    for element in group or ():
        if element.VR == "SQ":
            yield from element.value[:1]


def _first(dataset: pydicom.Dataset, name: str) -> pydicom.Dataset | None:
    sequence = dataset.get(name)
    return sequence[0] if sequence else None


def _found(places: Sequence[pydicom.Dataset], name: str) -> Any:
    """Return an element's value from the first dataset that has it."""
    return next((place[name].value for place in places if name in place), None)


def _numbers(places: Sequence[pydicom.Dataset], name: str, count: int) -> Vector | None:
    """Return an element's numbers, or None where it is missing, has another count or is not finite."""
    try:
        numbers = np.array([float(part) for part in _many(_found(places, name))])
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


def _directions(places: Sequence[pydicom.Dataset]) -> Vector | None:
    """Return the unit directions along a row and a column, shape (2, 3); None where they are none at right angles."""
    numbers = _numbers(places, "ImageOrientationPatient", 6)
    if numbers is None:
        return None
    directions = numbers.reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > DIRECTION_ROUNDING:
        return None
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def _many(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple | pydicom.multival.MultiValue) else [value]


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None

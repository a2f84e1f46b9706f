"""Write RT structure sets (RTSTRUCT): a label map as closed contours on the slices of its series."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ImplicitVRLittleEndian, RTStructureSetStorage

from medseg import __version__
from medseg.atomic import whole
from medseg.labels import Label, LabelSet, coded
from medseg.volume.dicom.context import (
    LONGEST_NAME,
    Context,
    code_item,
    complete,
    fingerprint,
    lenient,
    name_text,
    read_context,
    text,
)
from medseg.volume.dicom.contours import outlines
from medseg.volume.dicom.series import Layout, Series
from medseg.volume.dicom.slices import Slice
from medseg.volume.label_map import LabelMap

# Beyond what scanners count to.
SERIES_NUMBER = 902
LONGEST_LABEL = 16
# A tenth of a micrometre: far below any voxel, and short enough to keep files small.
DECIMALS = 4
# The class of a study, which references name although it is retired (PS3.3, section C.8.8.5).
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
CONTOUR_DATA = Tag("ContourData")

Box = tuple[slice, slice, slice]


def write_rtstruct(
    label_map: LabelMap,
    series: Series,
    labels: LabelSet,
    path: Path,
    *,
    deidentify: bytes | None = None,
    algorithm: str = "medseg",
) -> None:
    """Write a label map as an RT structure set on its series (PS3.3, sections A.19 and C.8.8.5 to C.8.8.8).

    Every label is a region (ROI) with the label's id for its number; one that does not occur has no contours. Contours
    run along the edges of the voxels, so that they enclose just the label's area on each slice; holes are joined to
    them by keyholes. The same input gives the same bytes.

    Args:
        label_map: on the grid of `series.layout(allow_gaps=True)`; slices that are missing there get no contours.
        series: whose slices, patient and study it refers to.
        labels: what the ids mean. A label shows all of its parts.
        path: the file, best named `CASE.rtstruct.dcm`.
        deidentify: a secret key, to leave out who the patient is and replace all UIDs by others under it.
        algorithm: what made it.

    Raises:
        GridMismatchError: the label map is not on the grid of the series.
        UnknownLabelError: it holds an id that the labels do not know.
        UnwritableError: no permission or no space; nothing is left behind.
        ScanError: from `Series.layout`.
    """
    from scipy import ndimage

    layout = series.layout(allow_gaps=True)
    label_map.check_grid(layout.geometry)
    label_map.check_ids(labels)
    with lenient():
        context = read_context(series, deidentify=deidentify)
        dataset = _structure_set(labels, context, algorithm)
        boxes = ndimage.find_objects(label_map.array)
        for label, region in zip(labels, dataset.ROIContourSequence, strict=True):
            contours = list(_contours(label_map, labels, label, boxes, series, layout, context))
            if contours:
                region.ContourSequence = contours
        complete(dataset, context, fingerprint=fingerprint(label_map, labels, "RTSTRUCT", algorithm))
        with whole(path) as temporary:
            _as_file(dataset).save_as(temporary, enforce_file_format=True)


def _structure_set(labels: LabelSet, context: Context, algorithm: str) -> pydicom.Dataset:
    """Return the structure set, whose regions have no contours yet."""
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = text(f"Structures by {algorithm}", LONGEST_NAME)
    dataset.OperatorsName = ""
    dataset.Manufacturer = "medseg"
    dataset.ManufacturerModelName = "medseg"
    dataset.SoftwareVersions = __version__
    dataset.InstanceNumber = 1
    dataset.StructureSetLabel = text(algorithm, LONGEST_LABEL)
    dataset.StructureSetDate, dataset.StructureSetTime = context.date, context.time
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_referenced(context)]
    dataset.StructureSetROISequence = [_region(label, context, algorithm) for label in labels]
    dataset.ROIContourSequence = [_coloured(label) for label in labels]
    dataset.RTROIObservationsSequence = [_observed(label) for label in labels]
    return dataset


def _referenced(context: Context) -> pydicom.Dataset:
    """Return the reference to the images that the contours were drawn on."""
    series = pydicom.Dataset()
    series.SeriesInstanceUID = context.series
    series.ContourImageSequence = [instance.reference() for instance in context.instances]
    study = pydicom.Dataset()
    study.ReferencedSOPClassUID = STUDY_CLASS
    study.ReferencedSOPInstanceUID = context.study
    study.RTReferencedSeriesSequence = [series]
    frame_of_reference = pydicom.Dataset()
    frame_of_reference.FrameOfReferenceUID = context.frame_of_reference
    frame_of_reference.RTReferencedStudySequence = [study]
    return frame_of_reference


def _region(label: Label, context: Context, algorithm: str) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.ROINumber = label.id
    item.ReferencedFrameOfReferenceUID = context.frame_of_reference
    item.ROIName = name_text(label.name)
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIGenerationDescription = text(algorithm, LONGEST_NAME)
    return item


def _coloured(label: Label) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.ReferencedROINumber = label.id
    item.ROIDisplayColor = list(label.colour)
    return item


def _observed(label: Label) -> pydicom.Dataset:
    """Return what a region shows; its number doubles as the observation's."""
    item = pydicom.Dataset()
    item.ObservationNumber = item.ReferencedROINumber = label.id
    item.RTROIInterpretedType = "ORGAN"
    item.ROIInterpreter = ""
    item.RTROIIdentificationCodeSequence = [code_item(coded(label.name).type)]
    return item


def _contours(
    label_map: LabelMap,
    labels: LabelSet,
    label: Label,
    boxes: list[Box | None],
    series: Series,
    layout: Layout,
    context: Context,
) -> Iterator[pydicom.Dataset]:
    """Yield a label's contours, slice by slice."""
    box = _box([found for part in label.parts if part <= len(boxes) and (found := boxes[part - 1])])
    if box is None:
        return
    columns, rows, planes = box
    number = 0
    for slice_, k, instance in zip(series.slices, layout.planes, context.instances, strict=True):
        if not planes.start <= k < planes.stop:
            continue
        mask = labels.mask(label_map.array[columns, rows, k].T, label)
        for outline in outlines(mask):
            number += 1
            item = pydicom.Dataset()
            item.set_original_encoding(is_implicit_vr=True, is_little_endian=True, character_encoding="iso8859")
            item.ContourImageSequence = [instance.reference()]
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(outline)
            item.ContourNumber = number
            item[CONTOUR_DATA] = _decimals(_lps(outline + np.array([rows.start, columns.start]), slice_))
            yield item


def _box(boxes: list[Box]) -> Box | None:
    """Return the box around some boxes."""
    if not boxes:
        return None
    i, j, k = (
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )
    return i, j, k


def _lps(outline: NDArray[np.float64], slice_: Slice) -> NDArray[np.float64]:
    """Take (row, column) on a slice to patient millimetres (PS3.3, equation C.7.6.2.1-1)."""
    steps = slice_.orientation[::-1] * np.array(slice_.spacing_mm)[:, None]
    return np.asarray(outline @ steps + slice_.position)


def _decimals(points: NDArray[np.float64]) -> RawDataElement:
    """Return points as the decimal strings of an element, as they stand in the file.

    A whole scan has millions of numbers; in a dataset of the file's own encoding they are written without another look.
    """
    numbers = np.round(points.ravel(), DECIMALS) + 0.0  # without a minus before zero
    data = "\\".join(map(str, numbers.tolist())).encode()
    data += b" " * (len(data) % 2)
    return RawDataElement(CONTOUR_DATA, "DS", len(data), data, 0, True, True)


def _as_file(dataset: pydicom.Dataset) -> pydicom.FileDataset:
    """Return a dataset with its file meta information.

    Values are written without their type (implicit VR): only so may one hold more than 64 KiB as text.
    """
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return pydicom.FileDataset("", dataset, preamble=bytes(128), file_meta=meta)

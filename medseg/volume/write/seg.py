"""Write DICOM segmentations (SEG): a label map as masks on the slices of its series.

highdicom is imported inside: it takes 0.1 s, which predictions that write no SEG need not wait for.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medseg import __version__
from medseg.atomic import whole
from medseg.labels import Label, LabelSet, coded
from medseg.volume.dicom.context import (
    LONGEST_NAME,
    REQUIRED,
    Context,
    code_item,
    complete,
    fingerprint,
    lenient,
    name_text,
    read_context,
    text,
)
from medseg.volume.dicom.series import Layout, Series
from medseg.volume.label_map import LabelMap

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.coding import Code

# Beyond what scanners count to.
SERIES_NUMBER = 901


def write_seg(
    label_map: LabelMap,
    series: Series,
    labels: LabelSet,
    path: Path,
    *,
    kind: Literal["binary", "labelmap"] = "binary",
    deidentify: bytes | None = None,
    algorithm: str = "medseg",
) -> None:
    """Write a label map as a DICOM segmentation of its series (PS3.3, sections A.51 and C.8.20).

    Every label is a segment, called as the label is, whether it occurs or not; slices that show none are left out. A
    label map without any label gives a file with one empty frame for each. The same input gives the same bytes.

    Args:
        label_map: on the grid of `series.layout(allow_gaps=True)`; slices that are missing there are not written.
        series: whose slices, patient and study it refers to.
        labels: what the ids mean. A label shows all of its parts.
        path: the file, best named `CASE.seg.dcm`.
        kind: "binary": a mask per label, numbered from 1 in the order of the labels, which every viewer reads and in
            which regions may overlap. "labelmap": one map of ids (2024's Label Map Segmentation), which is smaller and
            keeps the ids as segment numbers.
        deidentify: a secret key, to leave out who the patient is and replace all UIDs by others under it.
        algorithm: what made it.

    Raises:
        GridMismatchError: the label map is not on the grid of the series.
        UnknownLabelError: it holds an id that the labels do not know.
        UnwritableError: no permission or no space; nothing is left behind.
        ScanError: from `Series.layout`.
    """
    layout = series.layout(allow_gaps=True)
    label_map.check_grid(layout.geometry)
    label_map.check_ids(labels)
    with lenient():
        context = read_context(series, deidentify=deidentify)
        dataset = _segmentation(label_map, series, layout, labels, context, kind, algorithm)
        complete(dataset, context, fingerprint=fingerprint(label_map, labels, "SEG", kind, algorithm))
        _settle(dataset, context)
        with whole(path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)


def _segmentation(
    label_map: LabelMap,
    series: Series,
    layout: Layout,
    labels: LabelSet,
    context: Context,
    kind: str,
    algorithm: str,
) -> "Segmentation":
    import highdicom

    pixels = _pixels(label_map, layout, labels, kind)
    shown = bool(pixels.any())
    count = len(series.slices) if shown else 1
    return highdicom.seg.Segmentation(
        source_images=[_source(series, layout, number, context) for number in range(count)],
        pixel_array=pixels[:count],
        segmentation_type=kind.upper(),
        segment_descriptions=[_described(label, number, algorithm) for number, label in _numbered(labels, kind)],
        series_instance_uid=context.uid("series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=context.uid("instance"),
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name="medseg",
        software_versions=__version__,
        device_serial_number="0",
        omit_empty_frames=shown,
        content_label="SEGMENTATION",
        content_description=text(algorithm, LONGEST_NAME),
        content_date=context.date,
        content_time=context.time,
        series_description=text(f"Segmentation by {algorithm}", LONGEST_NAME),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )


def _numbered(labels: LabelSet, kind: str) -> list[tuple[int, Label]]:
    """Return the labels with their segment numbers, in the order of these, as highdicom wants them."""
    if kind == "labelmap":
        return sorted(((label.id, label) for label in labels), key=lambda numbered: numbered[0])
    return list(enumerate(labels, start=1))


def _pixels(label_map: LabelMap, layout: Layout, labels: LabelSet, kind: str) -> NDArray[np.unsignedinteger[Any]]:
    """Return what highdicom stores: segment numbers, shape (slices, rows, columns).

    Where segments overlap, it is a mask for each, shape (slices, rows, columns, segments); in a label map the later
    label is painted over the earlier one.
    """
    planes = label_map.array[:, :, list(layout.planes)].transpose(2, 1, 0)
    if kind == "binary" and labels.overlapping:
        return np.stack([labels.mask(planes, label) for label in labels], axis=-1).astype(np.uint8)
    numbers = np.zeros(max(labels.known_ids) + 1, np.uint8 if max(labels.known_ids) < 256 else np.uint16)
    number_of = {label.id: number for number, label in _numbered(labels, kind)}
    for label in labels:
        numbers[list(label.parts)] = number_of[label.id]
    return np.asarray(numbers[planes])


def _source(series: Series, layout: Layout, number: int, context: Context) -> pydicom.Dataset:
    """Return one slice as highdicom wants to see it: an image of one slice, with its number for a UID.

    So slices of every kind are alike to it: frames of a large image, and images that lack their UIDs. `_settle` puts
    the true references in, and `complete` the patient.
    """
    slice_ = series.slices[number]
    image = pydicom.Dataset()
    for name in REQUIRED:
        setattr(image, name, "")
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, f"2.25.{number}"
    image.StudyInstanceUID, image.SeriesInstanceUID = context.study, context.series
    image.FrameOfReferenceUID = context.frame_of_reference
    image.Modality = slice_.modality
    image.Rows, image.Columns = slice_.shape
    image.PixelSpacing = _decimals(np.array(slice_.spacing_mm))
    between_mm = abs(float(layout.geometry.affine[:3, 2] * (-1, -1, 1) @ slice_.normal))
    image.SpacingBetweenSlices = between_mm
    image.SliceThickness = slice_.thickness_mm or between_mm
    image.ImageOrientationPatient = _decimals(series.slices[0].orientation.ravel())
    image.ImagePositionPatient = _decimals(slice_.position)
    return image


def _decimals(values: NDArray[np.float64]) -> list[str]:
    """Return numbers as decimal strings, which hold 16 characters."""
    return [pydicom.valuerep.format_number_as_ds(float(value)) for value in values]


def _described(label: Label, number: int, algorithm: str) -> "SegmentDescription":
    """Return a segment's name, codes and colour."""
    import highdicom
    from highdicom.color import CIELabColor
    from pydicom.sr.codedict import codes

    meaning = coded(label.name)
    segment = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name_text(label.name),
        segmented_property_category=_code(meaning.category),
        segmented_property_type=_code(meaning.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=text(algorithm, LONGEST_NAME), family=codes.cid7162.ArtificialIntelligence, version=__version__
        ),
        display_color=CIELabColor.from_rgb(*label.colour),
    )
    if meaning.side:
        side = [code_item(meaning.side)]
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = side
    return segment


def _code(code: tuple[str, str]) -> "Code":
    from pydicom.sr.coding import Code

    value, meaning = code
    return Code(value, "SCT", meaning)


def _settle(dataset: "Segmentation", context: Context) -> None:
    """Put in the references to the true images, and take out what differs from one run to the next."""
    dataset.ContentCreatorName = ""
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    organisation = context.uid("dimensions")
    for item in (*dataset.DimensionIndexSequence, *dataset.DimensionOrganizationSequence):
        item.DimensionOrganizationUID = organisation
    for item in dataset.ContributingEquipmentSequence:
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    # Frames of several segments share the reference to their slice.
    sources = [
        frame.DerivationImageSequence[0].SourceImageSequence[0] for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
    for source in {id(source): source for source in sources}.values():
        source.update(context.instances[int(source.ReferencedSOPInstanceUID.rpartition(".")[2])].reference())
    images = {instance.sop_instance: instance for instance in context.instances}
    references = [type(image)(image.sop_class, image.sop_instance, None).reference() for image in images.values()]
    dataset.SourceImageSequence = references
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references

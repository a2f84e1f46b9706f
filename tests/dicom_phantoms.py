"""DICOM files for the tests, made with pydicom: what a scanner, a viewer or a careless export may write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from phantoms import LPS_TO_RAS, SERIES_UID, house_geometry, house_volume
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medseg.volume import Volume

# DICOM's slices come in order along their normal, so a scan that is to be compared has a right-handed grid.
UPRIGHT = house_geometry(orientation="LPS")
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"
RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def upright(*, seed: int = 0, **grid: Any) -> Volume:
    """Return the house's noise on a right-handed grid."""
    return house_volume(geometry=house_geometry(**{"orientation": "LPS", **grid}), seed=seed)


def edit(files: Path | Sequence[Path], **elements: Any) -> None:
    """Change elements of DICOM files; None removes one."""
    for file in [files] if isinstance(files, Path) else files:
        dataset = pydicom.dcmread(file)
        for name, value in elements.items():
            if value is None and name in dataset:
                delattr(dataset, name)
            elif value is not None:
                setattr(dataset, name, value)
        dataset.save_as(file)


def save_object(path: Path, sop_class: str, **elements: Any) -> Path:
    """Write a DICOM file of any class."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = f"{SERIES_UID}.99.{len(path.name)}"
    dataset.SeriesInstanceUID = f"{SERIES_UID}.98"
    dataset.update(elements_of(elements))
    return save(path, dataset)


def elements_of(values: dict[str, Any]) -> Dataset:
    """Return a dataset of named elements."""
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def save(path: Path, dataset: Dataset) -> Path:
    """Write a dataset as a file of Part 10."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_enhanced(
    path: Path,
    volume: Volume,
    *,
    order: Sequence[int] | None = None,
    rescale: Sequence[tuple[float, float]] | None = None,
    uid: str = SERIES_UID,
) -> Path:
    """Write a volume's first channel as one Enhanced CT file, one frame per plane along K.

    Args:
        path: the file.
        volume: int16.
        order: which plane each frame shows.
        rescale: slope and intercept of each frame; the stored values stay the volume's.
        uid: the series instance UID.
    """
    planes = volume.geometry.shape[2]
    order = list(range(planes)) if order is None else order
    lps = LPS_TO_RAS @ volume.geometry.affine
    directions = (lps[:3, :3] / volume.geometry.spacing_mm).T
    dataset = Dataset()
    dataset.SOPClassUID = ENHANCED_CT
    dataset.SOPInstanceUID = f"{uid}.1"
    dataset.StudyInstanceUID = f"{SERIES_UID}.0"
    dataset.SeriesInstanceUID = uid
    dataset.FrameOfReferenceUID = f"{SERIES_UID}.5"
    dataset.Modality = "CT"
    dataset.NumberOfFrames = len(order)
    dataset.Rows, dataset.Columns = volume.geometry.shape[1], volume.geometry.shape[0]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    i, j, k = volume.geometry.spacing_mm
    shared = Dataset()
    shared.PixelMeasuresSequence = [elements_of({"PixelSpacing": [j, i], "SliceThickness": k})]
    orientation = [f"{x:.10g}" for x in [*directions[0], *directions[1]]]
    shared.PlaneOrientationSequence = [elements_of({"ImageOrientationPatient": orientation})]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number, plane in enumerate(order):
        group = Dataset()
        position = [f"{x:.10g}" for x in lps[:3, :3] @ [0, 0, plane] + lps[:3, 3]]
        group.PlanePositionSequence = [elements_of({"ImagePositionPatient": position})]
        slope, intercept = (1, 0) if rescale is None else rescale[number]
        group.PixelValueTransformationSequence = [
            elements_of({"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "HU"})
        ]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.PixelData = np.stack([volume.array[0, :, :, plane].T for plane in order]).astype("<i2").tobytes()
    return save(path, dataset)

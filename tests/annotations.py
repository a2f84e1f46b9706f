"""DICOM series with label maps on them for the tests, and readers of SEG and RTSTRUCT that share nothing with medseg's.

Written slice by slice with pydicom, so that grids may lean; read with pydicom, numpy and formulas of the plane.
"""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicom_phantoms import elements_of, save
from hypothesis import strategies as st
from numpy.typing import NDArray
from phantoms import LPS_TO_RAS, SERIES_UID, geometries

from medseg.volume import Geometry, LabelMap, Series, find_source

CT = "1.2.840.10008.5.1.4.1.1.2"
PATIENT = {
    "PatientName": "Müller^Änne",
    "PatientID": "MRN-4711-0815",
    "PatientBirthDate": "19480229",
    "PatientSex": "F",
    "PatientAge": "075Y",
    "AccessionNumber": "ACC-990071",
    "StudyID": "ST-33-7",
    "StudyDescription": "Abdomen for Dr Who",
    "ReferringPhysicianName": "Who^Doctor",
    "InstitutionName": "Saint Elsewhere",
    "StudyDate": "20231105",
    "StudyTime": "101112",
    "ContentDate": "20231106",
    "ContentTime": "131415.25",
}


def save_slices(folder: Path, geometry: Geometry, *, skip: Iterable[int] = (), **elements: Any) -> Series:
    """Write a series of dark slices, one for each plane along K but the skipped ones, and find it again.

    Args:
        folder: where.
        geometry: its axes I and J are at a right angle; K may lean.
        skip: planes to leave out.
        elements: more of them, or others; None leaves one out.
    """
    lps = LPS_TO_RAS @ geometry.affine
    directions = (lps[:3, :3] / geometry.spacing_mm).T
    i, j, _ = geometry.spacing_mm
    for k in sorted(set(range(geometry.shape[2])) - set(skip)):
        values = {
            "SpecificCharacterSet": "ISO_IR 192",
            "SOPClassUID": CT,
            "SOPInstanceUID": f"{SERIES_UID}.1.{k + 1}",
            "StudyInstanceUID": f"{SERIES_UID}.0",
            "SeriesInstanceUID": f"{SERIES_UID}.1",
            "FrameOfReferenceUID": f"{SERIES_UID}.5",
            "Modality": "CT",
            "Rows": geometry.shape[1],
            "Columns": geometry.shape[0],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "PixelSpacing": [f"{j:.10g}", f"{i:.10g}"],
            "ImagePositionPatient": [f"{x:.10g}" for x in lps[:3, :3] @ [0, 0, k] + lps[:3, 3]],
            "ImageOrientationPatient": [f"{x:.10g}" for x in [*directions[0], *directions[1]]],
            "PixelData": bytes(2 * geometry.shape[0] * geometry.shape[1]),
            **PATIENT,
            **elements,
        }
        with pydicom.config.disable_value_validation():
            dataset = elements_of({name: value for name, value in values.items() if value is not None})
            save(folder / f"{k:03d}.dcm", dataset)
    series = find_source(folder).series
    assert series
    return series


def series_grids(*, smallest: int = 3, largest: int = 6) -> st.SearchStrategy[Geometry]:
    """Draw grids of any orientation, oblique, with pixels that are no squares and slices that lean on each other."""
    lean = st.floats(-0.4, 0.4)

    def leaning(geometry: Geometry, along_i: float, along_j: float) -> Geometry:
        affine = np.array(geometry.affine)
        directions = affine[:3, :3] / geometry.spacing_mm
        affine[:3, 2] += geometry.spacing_mm[2] * (along_i * directions[:, 0] + along_j * directions[:, 1])
        return Geometry(geometry.shape, affine)

    return st.builds(leaning, geometries(smallest=smallest, largest=largest), lean, lean)


def on_series(label_map: LabelMap, series: Series) -> LabelMap:
    """Return a label map on the grid of a series that was written from the same geometry."""
    return label_map.aligned_to(series.layout(allow_gaps=True).geometry)


@dataclass(frozen=True)
class Body:
    """What a mask weighs: its volume in mm³ and its centre in LPS mm."""

    volume: float
    centre: NDArray[np.float64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], geometry: Geometry) -> "Body":
        """Weigh the mask itself."""
        lps = LPS_TO_RAS @ geometry.affine
        return cls(mask.sum() * abs(np.linalg.det(lps)), lps[:3, :3] @ np.argwhere(mask).mean(axis=0) + lps[:3, 3])


def read_seg(path: Path) -> dict[str, Body]:
    """Weigh the segments of a SEG, from its bits and the places of its frames."""
    dataset = pydicom.dcmread(path)
    size = dataset.Rows * dataset.Columns
    if dataset.BitsAllocated == 1:
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    else:
        bits = np.frombuffer(dataset.PixelData, "<u2" if dataset.BitsAllocated == 16 else "u1")
    frames = bits[: size * dataset.NumberOfFrames].reshape(-1, dataset.Rows, dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    along_row, along_column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    measures = shared.PixelMeasuresSequence[0]
    row_mm, column_mm = (float(x) for x in measures.PixelSpacing)
    points: dict[int, list[NDArray[np.float64]]] = {}
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        identified = (group if "SegmentIdentificationSequence" in group else shared).get(
            "SegmentIdentificationSequence"
        )
        for value in np.unique(frame[frame > 0]):
            rows, columns = np.nonzero(frame == value)
            number = identified[0].ReferencedSegmentNumber if identified else int(value)
            place = position + np.outer(rows * row_mm, along_column) + np.outer(columns * column_mm, along_row)
            points.setdefault(number, []).append(place)
    voxel = row_mm * column_mm * float(measures.SpacingBetweenSlices)
    names = {segment.SegmentNumber: segment.SegmentLabel for segment in dataset.SegmentSequence}
    return {
        names[number]: Body(sum(map(len, places)) * voxel, np.concatenate(places).mean(axis=0))
        for number, places in points.items()
    }


def polygons(path: Path) -> dict[str, list[NDArray[np.float64]]]:
    """Return the contours of an RTSTRUCT by the region's name, each of shape (points, 3), LPS mm."""
    dataset = pydicom.dcmread(path)
    names = {region.ROINumber: region.ROIName for region in dataset.StructureSetROISequence}
    return {
        names[region.ReferencedROINumber]: [
            np.array(contour.ContourData, float).reshape(-1, 3) for contour in region.get("ContourSequence", ())
        ]
        for region in dataset.ROIContourSequence
    }


def read_rtstruct(path: Path, step: Sequence[float]) -> dict[str, Body]:
    """Weigh the regions of an RTSTRUCT by the shoelace formula; `step` is from one slice to the next, LPS mm."""
    bodies = {}
    for name, contours in polygons(path).items():
        moments = [_moments(points) for points in contours]
        normal = sum(vector for vector, _ in moments)
        area = float(np.linalg.norm(normal))
        if contours:
            signs = [np.sign(vector @ normal) * np.linalg.norm(vector) for vector, _ in moments]
            centre = sum(sign * centroid for sign, (_, centroid) in zip(signs, moments, strict=True)) / sum(signs)
            bodies[name] = Body(area * abs(float(np.dot(step, normal / area))), centre)
    return bodies


def _moments(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a flat polygon's area as a vector along its normal, and its centroid: by triangles from one point."""
    one, other = points[1:-1] - points[0], points[2:] - points[0]
    areas = np.cross(one, other) / 2
    total = areas.sum(axis=0)
    weights = areas @ total / (total @ total)
    return total, points[0] + weights @ (one + other) / 3


def inside(contours: Sequence[NDArray[np.float64]], point: NDArray[np.float64], drop: int) -> bool:
    """Say whether a point lies within contours, by counting how often a ray crosses them; axis `drop` is left out."""
    x, y = np.delete(point, drop)
    crossings = 0
    for contour in contours:
        flat = np.delete(contour, drop, axis=1)
        for (x0, y0), (x1, y1) in zip(flat, np.roll(flat, -1, axis=0), strict=True):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                crossings += 1
    return crossings % 2 == 1


def faults(path: Path) -> list[str]:
    """Return what the checker of DICOM files calls an error; nothing where it is not installed."""
    if shutil.which("dciodvfy") is None:
        return []
    said = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]

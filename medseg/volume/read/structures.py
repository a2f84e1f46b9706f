"""Read RT structure sets (RTSTRUCT): regions as closed contours on planes in the patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from medseg.errors import CorruptFileError, GridMismatchError
from medseg.volume.dicom.context import lenient
from medseg.volume.dicom.contours import filled
from medseg.volume.geometry import LPS_TO_RAS, TOLERANCE_MM, Geometry
from medseg.volume.label_map import LabelMap

# Contours that enclose something; points and open lines mark places.
CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
# In voxels: contours are written to about this, and corners that are meant to lie at a centre shall all do so.
DECIMALS = 3
# So many planes of a region without two neighbours are contours that left slices out.
PLANES_TO_TELL = 3

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Structures:
    """An RT structure set.

    Attributes:
        path: the file.
        names: ROI number → name, of the regions that enclose something or have no contours at all.
        contours: ROI number → its closed contours in RAS+ mm, each of shape (points, 3).
    """

    path: Path
    names: dict[int, str]
    contours: dict[int, list[Points]]

    @classmethod
    def open(cls, path: Path) -> "Structures":
        """Read a file.

        Raises:
            CorruptFileError: it is damaged.
        """
        try:
            with lenient():
                return _structures(path, pydicom.dcmread(path))
        except OSError:
            raise
        except Exception as error:  # pydicom raises a dozen kinds for bytes that are cut short or garbled
            raise CorruptFileError(
                f"reading {path}",
                found=f"the structure set is damaged ({type(error).__name__}: {error})",
                remedy="export it again from its source",
            ) from error

    def paint(self, geometry: Geometry, ids: Mapping[int, int]) -> LabelMap:
        """Return a label map: a voxel belongs to a region when its centre lies within the contours on its slice.

        Contours of one region on one slice count together, so that one within another is a hole (even-odd).

        Args:
            geometry: of the image. Its slices may be stored along any of its axes.
            ids: ROI number → label id, in the order of painting: a later one is painted over an earlier one.

        Raises:
            GridMismatchError: the contours are not on the slices of the grid.
        """
        array = np.zeros(geometry.shape, np.uint16 if max(ids.values(), default=0) > 255 else np.uint8)
        regions = {number: [geometry.to_voxel(c) for c in self.contours.get(number, ())] for number in ids}
        lines = [line for region in regions.values() for line in region]
        if not lines:
            return LabelMap(array, geometry)
        axis = self._axis(lines, geometry)
        offset = self._offset(np.array([line[:, axis].mean() for line in lines]), geometry, axis)
        slices = np.moveaxis(array, axis, 0)
        for number, region in regions.items():
            on_plane: dict[int, list[Points]] = {}
            for line in region:
                plane = round(float(line[:, axis].mean()) - offset)
                on_plane.setdefault(plane, []).append(np.round(np.delete(line, axis, axis=1), DECIMALS))
            self._check_planes(sorted(on_plane), self.names[number], len(slices))
            for plane, polygons in on_plane.items():
                slices[plane][filled(polygons, slices[plane].shape)] = ids[number]
        return LabelMap(array, geometry)

    def _axis(self, lines: list[Points], geometry: Geometry) -> int:
        """Return the array axis across which the contours are flat."""
        thickness_mm = np.max([np.ptp(line, axis=0) for line in lines], axis=0) * _planes_mm(geometry)
        axis = int(thickness_mm.argmin())
        if thickness_mm[axis] > TOLERANCE_MM:
            raise self._mismatch(f"its contours cross the image's slices by {thickness_mm[axis]:.2f} mm")
        return axis

    def _offset(self, places: NDArray[np.float64], geometry: Geometry, axis: int) -> float:
        """Return by how much of a slice the contours' planes lie off the image's.

        Rounding in the files aside this is 0. A set that was drawn on a shifted image of the same spacing is off by the
        same everywhere, and its planes go with the nearest slices; anything else would be a guess.
        """
        off = places - np.rint(places)
        step_mm = _planes_mm(geometry)[axis]
        if float(np.abs(off).max()) * step_mm <= TOLERANCE_MM:
            return 0.0
        if float(np.ptp(off)) * step_mm > TOLERANCE_MM:
            raise self._mismatch(
                f"its contours lie up to {float(np.abs(off).max()) * step_mm:.2f} mm between the image's slices, which "
                f"are {step_mm:.2f} mm apart"
            )
        return float(off.mean())

    def _check_planes(self, planes: list[int], name: str, count: int) -> None:
        beyond = [plane for plane in planes if not 0 <= plane < count]
        if beyond:
            raise self._mismatch(f"{len(beyond)} planes of {name} lie beyond the image's slices")
        if len(planes) >= PLANES_TO_TELL and int(np.diff(planes).min()) > 1:
            raise self._mismatch(f"{name} has contours on one slice in {int(np.diff(planes).min())} only")

    def _mismatch(self, found: str) -> GridMismatchError:
        return GridMismatchError(
            f"laying {self.path} over its image", found=found, remedy="pair it with the image it was drawn on"
        )


def _planes_mm(geometry: Geometry) -> NDArray[np.float64]:
    """Return how far apart planes of voxels are across each axis, in mm: on a leaning grid less than the spacing."""
    return np.asarray(1 / np.linalg.norm(np.linalg.inv(geometry.affine[:3, :3]), axis=1))


def _structures(path: Path, dataset: pydicom.Dataset) -> Structures:
    names = {int(region.ROINumber): str(region.get("ROIName") or "") for region in dataset.StructureSetROISequence}
    contours: dict[int, list[Points]] = {number: [] for number in names}
    for region in dataset.get("ROIContourSequence") or ():
        number = int(region.ReferencedROINumber)
        items = region.get("ContourSequence") or ()
        closed = [item for item in items if item.ContourGeometricType in CLOSED]
        contours[number] = [_points(item) @ LPS_TO_RAS[:3, :3] for item in closed]
        if items and not closed:
            del names[number]
    return Structures(path, names, contours)


def _points(contour: pydicom.Dataset) -> Points:
    """Return a contour's points, shape (points, 3); from the bytes in the file, where pydicom would make objects."""
    element = contour.get_item("ContourData")
    numbers = element.value.decode("ascii").split("\\") if element.is_raw else element.value
    return np.array(numbers, np.float64).reshape(-1, 3)

"""Read DICOM segmentations (SEG): masks, each on a plane of its own in the patient."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import iter_pixels

from medseg.errors import CorruptFileError, GridMismatchError, MedsegError, NoAffineError, SliceSpacingError
from medseg.volume.dicom.context import lenient
from medseg.volume.geometry import LPS_TO_RAS, TOLERANCE_MM, Geometry
from medseg.volume.label_map import LabelMap

# A fraction counts as the segment from here on.
HALF = 0.5
BACKGROUND = 0
# Values that are longer are read when they are asked for: the masks of a scan are gigabytes at worst.
DEFERRED_BYTES = 2**20

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """Where one mask lies.

    Attributes:
        number: the frame's, from 0.
        segment: the segment whose mask it is; None in a label map, whose pixels are segment numbers.
        shape: rows and columns.
        origin: RAS+ place of the first pixel's centre in mm, shape (3,).
        steps: from a row to the next, and from a column to the next, in RAS+ mm, shape (2, 3).
    """

    number: int
    segment: int | None
    shape: tuple[int, int]
    origin: Vector
    steps: Vector

    @property
    def normal(self) -> Vector:
        """The direction across the frame."""
        across = np.cross(self.steps[1], self.steps[0])
        return np.asarray(across / np.linalg.norm(across))


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A DICOM segmentation: BINARY, FRACTIONAL (half and more counts) or LABELMAP.

    Attributes:
        path: the file.
        names: segment number → name, background left out.
        frames: where its masks lie.
        spacing_mm: between slices, or None where the file does not tell.
        threshold: pixels from here on belong to the segment.
        bits: whether eight pixels share a byte.
    """

    path: Path
    names: dict[int, str]
    frames: tuple[Frame, ...]
    spacing_mm: float | None
    threshold: float
    bits: bool

    @classmethod
    def open(cls, path: Path) -> "Segmentation":
        """Read a file's header.

        Raises:
            CorruptFileError: it is damaged.
            NoAffineError: a frame does not say where it lies.
        """
        try:
            with lenient():
                return _segmentation(path, pydicom.dcmread(path, defer_size=DEFERRED_BYTES))
        except (MedsegError, OSError):
            raise
        except Exception as error:  # pydicom raises a dozen kinds for bytes that are cut short or garbled
            raise _damaged(path, error) from error

    def grid(self) -> Geometry:
        """Return the grid of its own frames: I counts columns, J rows, K slices along the normal.

        Slices without a mask are not stored, so the grid reaches from the first that has one to the last.

        Raises:
            SliceSpacingError: the frames lie at uneven distances.
        """
        first = self.frames[0]
        heights = np.array([(frame.origin - first.origin) @ first.normal for frame in self.frames])
        low, high = self.frames[int(heights.argmin())], self.frames[int(heights.argmax())]
        heights -= heights.min()
        step_mm = self._step_mm(heights)
        count = round(float(heights.max()) / step_mm)
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = first.steps[1], first.steps[0]
        affine[:3, 2] = (high.origin - low.origin) / count if count else first.normal * step_mm
        affine[:3, 3] = low.origin
        rows, columns = first.shape
        return Geometry((columns, rows, count + 1), affine)

    def _step_mm(self, heights_mm: NDArray[np.float64]) -> float:
        """Return how far apart slices are: as the file says, or else as far as the nearest two of them."""
        gaps_mm = np.diff(np.sort(heights_mm))
        gaps_mm = gaps_mm[gaps_mm > TOLERANCE_MM]
        nearest_mm = float(gaps_mm.min()) if len(gaps_mm) else 1.0
        for step_mm in (self.spacing_mm or nearest_mm, nearest_mm):
            off_mm = float(np.abs(heights_mm - np.rint(heights_mm / step_mm) * step_mm).max())
            if off_mm <= TOLERANCE_MM:
                return step_mm
        raise SliceSpacingError(
            f"placing the frames of {self.path}",
            found=f"one lies {off_mm:.2f} mm off a whole step of {step_mm:.2f} mm",
            remedy="give the image it was drawn on as well",
        )

    def paint(self, geometry: Geometry, ids: Mapping[int, int]) -> LabelMap:
        """Return a label map.

        Args:
            geometry: of the image. The frames may show its voxels in any order of its axes.
            ids: segment number → label id, in the order of painting: a later one is painted over an earlier one.

        Raises:
            GridMismatchError: the frames are not on the voxels of the grid.
            CorruptFileError: the masks cannot be decoded.
        """
        array = np.zeros(geometry.shape, np.uint16 if max(ids.values(), default=0) > 255 else np.uint8)
        rank = {segment: number for number, segment in enumerate(ids)}
        wanted = [frame for frame in self.frames if frame.segment is None or frame.segment in rank]
        wanted.sort(key=lambda frame: rank.get(frame.segment or BACKGROUND, 0))
        table = np.zeros(max(ids, default=0) + 1, array.dtype)
        for segment, id_ in ids.items():
            table[segment] = id_
        for frame, pixels in zip(wanted, self._decoded(wanted), strict=True):
            known = pixels < len(table)
            shown = pixels >= self.threshold if frame.segment is not None else known & (table[pixels * known] > 0)
            places = self._places(frame, np.argwhere(shown), geometry)
            array[places] = table[frame.segment] if frame.segment is not None else table[pixels[shown]]
        return LabelMap(array, geometry)

    def _decoded(self, frames: Sequence[Frame]) -> Iterator[NDArray[Any]]:
        """Yield the pixels of frames, shape (rows, columns)."""
        if not frames:
            return
        try:
            with lenient():
                if self.bits:
                    yield from _unpacked(pydicom.dcmread(self.path).PixelData, frames)
                else:
                    yield from iter_pixels(self.path, indices=[frame.number for frame in frames])
        except OSError:
            raise
        except Exception as error:  # as in `open`
            raise _damaged(self.path, error) from error

    def _places(self, frame: Frame, pixels: NDArray[np.int64], geometry: Geometry) -> tuple[NDArray[np.int64], ...]:
        """Return the voxels at a frame's pixels, (row, column) each, as an index."""
        start = geometry.to_voxel(frame.origin)
        steps = geometry.to_voxel(frame.origin + frame.steps) - start
        corners = np.array([(row, column) for row in (0, frame.shape[0] - 1) for column in (0, frame.shape[1] - 1)])
        exact = corners @ steps + start
        nearest = corners @ np.rint(steps) + np.rint(start)
        off_mm = float(np.linalg.norm((exact - nearest) @ geometry.affine[:3, :3].T, axis=1).max())
        unlike = np.abs(np.rint(steps)).sum(axis=1).max() != 1
        voxels = (pixels @ np.rint(steps) + np.rint(start)).astype(np.int64)
        outside = ((voxels < 0) | (voxels >= geometry.shape)).any(axis=1)
        if off_mm > TOLERANCE_MM or unlike or outside.any():
            found = f"its frame {frame.number + 1} lies {off_mm:.2f} mm off the image's voxels"
            if off_mm <= TOLERANCE_MM:
                found = f"the voxels of its frame {frame.number + 1} are larger than the image's"
            if off_mm <= TOLERANCE_MM and not unlike:
                found = f"{int(outside.sum())} pixels of its frame {frame.number + 1} lie outside of the image"
            raise GridMismatchError(
                f"laying {self.path} over its image",
                found=f"{found} (at most {TOLERANCE_MM} mm is allowed)",
                remedy="pair it with the image it was drawn on",
            )
        return tuple(voxels.T)


def _segmentation(path: Path, dataset: pydicom.Dataset) -> Segmentation:
    if "PixelData" not in dataset:
        raise EOFError("it ends before its masks")
    shared = dataset.get("SharedFunctionalGroupsSequence", [pydicom.Dataset()])[0]
    frames, spacings = [], []
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups = (group, shared)
        position = _found(groups, "PlanePositionSequence", "ImagePositionPatient")
        orientation = _found(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = _found(groups, "PixelMeasuresSequence", "PixelSpacing")
        if position is None or orientation is None or spacing is None:
            raise NoAffineError(
                f"placing the frames of {path}",
                found=f"its frame {number + 1} does not say where it lies in the patient",
                remedy="export it again with the image it was drawn on",
            )
        along_row, along_column = np.array(orientation, np.float64).reshape(2, 3)
        between_rows, between_columns = (float(part) for part in spacing)
        flip = LPS_TO_RAS[:3, :3]
        frames.append(
            Frame(
                number,
                _found(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber"),
                (int(dataset.Rows), int(dataset.Columns)),
                flip @ np.array(position, np.float64),
                np.stack([along_column * between_rows, along_row * between_columns]) @ flip,
            )
        )
        spacings.append(_found(groups, "PixelMeasuresSequence", "SpacingBetweenSlices"))
    names = {
        int(segment.SegmentNumber): str(segment.get("SegmentLabel") or f"label_{segment.SegmentNumber}")
        for segment in dataset.SegmentSequence
        if int(segment.SegmentNumber) != BACKGROUND
    }
    most = float(dataset.get("MaximumFractionalValue") or 1)
    threshold = HALF * most if dataset.get("SegmentationType") == "FRACTIONAL" else 1.0
    bits = dataset.BitsAllocated == 1 and not dataset.file_meta.TransferSyntaxUID.is_encapsulated
    return Segmentation(path, names, tuple(frames), float(spacings[0]) if spacings[0] else None, threshold, bits)


def _found(groups: Sequence[pydicom.Dataset], sequence: str, name: str) -> Any:
    """Return an element of a frame's functional groups, or None."""
    return next((group[sequence][0].get(name) for group in groups if group.get(sequence)), None)


def _unpacked(data: bytes, frames: Sequence[Frame]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of frames that are stored as bits.

    One frame follows the other without a gap, so that it may begin within a byte (PS3.5, section 8.1.1).
    """
    for frame in frames:
        size = frame.shape[0] * frame.shape[1]
        start = frame.number * size
        packed = np.frombuffer(data[start // 8 : -(-(start + size) // 8)], np.uint8)
        yield np.unpackbits(packed, bitorder="little")[start % 8 :][:size].reshape(frame.shape)


def _damaged(path: Path, error: Exception) -> CorruptFileError:
    return CorruptFileError(
        f"reading {path}",
        found=f"the segmentation is damaged ({type(error).__name__}: {error})",
        remedy="export it again from its source",
    )

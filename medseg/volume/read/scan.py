"""Read scans and label maps of every format; what comes out is a Volume or a LabelMap in RAS+ millimetres."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from medseg.errors import (
    CorruptFileError,
    DimensionError,
    GridMismatchError,
    MedsegError,
    MissingFileError,
    NoAffineError,
)
from medseg.volume.find import find_label_map, find_source, unreadable
from medseg.volume.label_map import LabelMap
from medseg.volume.read.dicom import read_series
from medseg.volume.read.itk import read_itk
from medseg.volume.read.nifti import read_nifti
from medseg.volume.read.segmentation import Segmentation
from medseg.volume.source import Source
from medseg.volume.volume import Volume


def read_volume(source: Source | Path, *, channels: int | None = 1, allow_gaps: bool = False) -> Volume:
    """Read a scan.

    Args:
        source: a file (NIfTI, NRRD, MHA/MHD, told apart by content), a DICOM series, or several files that are
            channels.
        channels: how many channels are wanted, None for any number. Several come as a 4D file or as several files.
        allow_gaps: fill missing slices of a DICOM series between their neighbours, instead of failing.

    Returns:
        The voxels as they were stored, with slope and intercept applied.

    Raises:
        FileError: missing, damaged or no image (`errors.py` lists the codes).
        DimensionError: another number of channels than wanted.
        ScanError: a scan that cannot be used as it is.
    """
    if isinstance(source, Path):
        source = find_source(source)
    try:
        volume = _open(source, allow_gaps)
        if channels is not None and volume.channels != channels:
            raise DimensionError(
                "counting channels",
                found=f"the image has {volume.channels} (a 4D image has one per volume), and {channels} is wanted",
                remedy="split the 4D image and give one volume, or use a recipe with as many channels"
                if volume.channels > channels
                else "put all channels into one 4D image, in the order in which the model was trained",
            )
        volume.check_finite()
    except MedsegError as error:
        raise naming(error, source.place) from error
    return volume


def read_label_map(source: Source | Path) -> LabelMap:
    """Read a label map that stands alone; `read_reference` reads it onto the grid of its image.

    Args:
        source: an image file, whose values have to be whole numbers from 0 to 65535; or a DICOM SEG, whose ids are its
            segment numbers, on the grid of the slices that it has.

    Raises:
        FileError, ScanError: as `read_volume`.
        FractionalLabelError: other values.
        NoAffineError: an RTSTRUCT, which has no grid.
    """
    if isinstance(source, Path):
        source = find_label_map(source)
    if source.kind == "structures":
        raise NoAffineError(
            f"reading {source.place}",
            found="it is an RTSTRUCT, which holds contours and no voxels",
            remedy="give the image it was drawn on as well",
        )
    try:
        if source.kind == "segmentation":
            segmentation = Segmentation.open(source.paths[0])
            return segmentation.paint(segmentation.grid(), {number: number for number in sorted(segmentation.names)})
        volume = read_volume(source)
        return LabelMap(volume.array[0], volume.geometry)
    except MedsegError as error:
        raise naming(error, source.place) from error


def naming(error: MedsegError, place: Path) -> MedsegError:
    """Return the error with the file's name in front, unless it names it already."""
    if str(place) in error.asked:
        return error
    return type(error)(f"{place}: {error.asked}", found=error.found, remedy=error.remedy)


def _open(source: Source, allow_gaps: bool) -> Volume:
    """Read a scan, or say why the system does not let it be read."""
    try:
        return read_series(source.series, allow_gaps=allow_gaps) if source.series else _read_files(source)
    except OSError as error:
        raise unreadable(source.place, error) from error


def _read_files(source: Source) -> Volume:
    volumes = [_read_file(path) for path in source.paths]
    first = volumes[0]
    for path, volume in zip(source.paths, volumes, strict=True):
        if not volume.geometry.matches(first.geometry):
            raise GridMismatchError(
                f"{path}: joining the channels of one scan",
                found=f"it does not lie on the grid of {source.paths[0]}",
                remedy="resample the channels onto one grid",
            )
    if len(volumes) == 1:
        return first
    remarks = dict.fromkeys(remark for volume in volumes for remark in volume.remarks)
    return Volume(np.concatenate([volume.array for volume in volumes]), first.geometry, tuple(remarks))


def _read_file(path: Path) -> Volume:
    if not path.is_file():
        raise MissingFileError(
            f"reading {path}", found="there is no such file", remedy="check the path and its spelling"
        )
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise CorruptFileError(f"reading {path}", found="the file is empty", remedy="copy it again from its source")
    reader: Callable[[Path], Volume] = read_nifti
    if start.startswith(b"NRRD") or b"ElementType" in start or b"NDims" in start:
        reader = read_itk
    return reader(path)

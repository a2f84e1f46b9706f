"""Read NIfTI-1 and NIfTI-2 files, gzipped or plain. nibabel owns the header; isal inflates, and checks the checksum."""

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medseg.errors import CorruptFileError, DimensionError, NotAnImageError
from medseg.remarks import Remark
from medseg.volume.read.nifti_place import place
from medseg.volume.volume import Volume

GZIP_MAGIC = b"\x1f\x8b"
# The first four bytes of a header: its size, 348 (NIfTI-1) or 540 (NIfTI-2), in either byte order.
HEADER_SIZES = {size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")}
NIFTI1_HEADER = 348
MAGIC_AT = {b"n+1\0": 344, b"n+2\0": 4}


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file; a fourth axis becomes the channels.

    Raises:
        NotAnImageError: not NIfTI.
        CorruptFileError: truncated, or its gzip checksum does not hold.
        NoAffineError, SingularAffineError, SizeError: from `place`.
        DimensionError: fewer than three axes, or more than four that count.
    """
    data = _inflate(path)
    image = _parse(data, path)
    array = _voxels(image, len(data), path)
    i, j, k = array.shape[:3]
    geometry, remarks = place(image.header, image.affine, (i, j, k), path)
    return Volume(np.moveaxis(array, 3, 0), geometry, (*remarks, *_slope_remarks(image, data)))


def _inflate(path: Path) -> bytes:
    """Return a file's bytes, unzipped when they are gzip; every byte is read, so the checksum has been checked."""
    data = path.read_bytes()
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        return bytes(igzip.decompress(data))
    except (EOFError, OSError, isal_zlib.error) as error:  # type: ignore[misc]  # isal's stub is wrong
        raise CorruptFileError(
            f"unzipping {path}", found=f"the gzip data is damaged ({error})", remedy="copy it again from its source"
        ) from error


def _parse(data: bytes, path: Path) -> Any:
    """Return nibabel's image of a whole file's bytes."""
    if data[:4] in HEADER_SIZES and len(data) < NIFTI1_HEADER:
        raise CorruptFileError(
            f"reading the header of {path}",
            found=f"the file ends after {len(data)} bytes",
            remedy="copy it again from its source",
        )
    marked = any(data[at : at + 4] == magic for magic, at in MAGIC_AT.items())
    if data[:4] not in HEADER_SIZES or not marked:
        raise NotAnImageError(
            f"reading {path}",
            found="the content is no NIfTI, NRRD, MHA or DICOM image",
            remedy="give an image in one of these formats",
        )
    kind = nib.Nifti1Image if data[344:348] == b"n+1\0" else nib.Nifti2Image
    try:
        return kind.from_bytes(data)
    except (HeaderDataError, ImageFileError, ValueError, OSError) as error:
        raise CorruptFileError(
            f"reading the header of {path}", found=str(error), remedy="copy it again from its source"
        ) from error


def _slope_remarks(image: Any, data: bytes) -> tuple[Remark, ...]:
    """Return W_SLOPE when the file's slope is below zero or no number; 0 stands for none."""
    header = image.header_class(data[: image.header.sizeof_hdr], check=False)  # nibabel clears the image's own
    slope = float(header["scl_slope"])
    if math.isfinite(slope) and slope >= 0:
        return ()
    done = "light and dark are turned around" if math.isfinite(slope) else "the voxels were taken as they are stored"
    return (Remark("W_SLOPE", f"Its header has the slope {slope:g}: {done}. Convert it from its DICOM again."),)


def _voxels(image: Any, size: int, path: Path) -> NDArray[Any]:
    """Return the voxels as (I, J, K, C): integers when the slope is 1 and the intercept 0, otherwise float32.

    Args:
        image: nibabel's.
        size: how many bytes the file has, unzipped.
        path: the file, for messages.
    """
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 3 <= len(shape) <= 4 or min(shape) < 1:
        raise DimensionError(
            f"reading {path}",
            found=f"its shape is {tuple(image.shape)}",
            remedy="give a 3D volume, or a 4D one whose last axis counts channels",
        )
    promised = int(image.dataobj.offset) + math.prod(shape) * int(image.get_data_dtype().itemsize)
    if size < promised:
        raise CorruptFileError(
            f"reading the voxels of {path}",
            found=f"it holds {size} bytes where its header promises {promised}",
            remedy="copy it again from its source",
        )
    array = np.asanyarray(image.dataobj)
    if array.dtype.kind not in "biuf":
        raise DimensionError(
            f"reading {path}",
            found=f"its voxels are of type {array.dtype}",
            remedy="give one number per voxel and channel",
        )
    wanted = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):  # becomes infinite, which is an error of its own
        return np.asarray(array, wanted).reshape(*shape[:3], -1)

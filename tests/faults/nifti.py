"""NIfTI files whose bytes, sides or places are wrong."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from phantoms import save_nifti

from faults.fault import fault
from medseg.volume import Geometry, Volume

# Where a NIfTI-1 header keeps things, in bytes.
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, INTERCEPT, UNITS, QUATERNION, SROW = 40, 70, 76, 108, 112, 116, 123, 256, 280

Bytes = Callable[[bytes], bytes]
Make = Callable[[Path, Volume], object]


def scan(folder: Path, suffix: str) -> Path:
    """Return where the scan of a folder goes."""
    return folder / f"{folder.name}{suffix}"


def plain(folder: Path, volume: Volume, *, affine: NDArray[np.float64] | None = None, **forms: int) -> Path:
    """Write a sound file, not packed."""
    affine = volume.geometry.affine if affine is None else affine
    return save_nifti(scan(folder, ".nii"), volume.array[0], affine, **forms)


def changed(change: Bytes, *, suffix: str = ".nii") -> Make:
    """Return what writes a file whose bytes are changed."""

    def make(folder: Path, volume: Volume) -> None:
        data = plain(folder, volume).read_bytes()
        scan(folder, ".nii").unlink()
        scan(folder, suffix).write_bytes(change(data))

    return make


def patched(at: int, form: str, *values: float) -> Make:
    """Return what writes a file with other numbers in its header."""

    def change(data: bytes) -> bytes:
        numbers = struct.pack(form, *values)
        return data[:at] + numbers + data[at + len(numbers) :]

    return changed(change)


def placed(*matrix: NDArray[np.float64] | float, sform: int = 1, qform: int = 0, units: int = 2) -> Make:
    """Return what writes a file whose affine is multiplied, from the left, by a matrix or number in each axis."""

    def make(folder: Path, volume: Volume) -> None:
        affine = np.array(volume.geometry.affine)
        for factor in matrix:
            affine[:3] = (np.eye(3) * factor if np.isscalar(factor) else np.asarray(factor)) @ affine[:3]
        path = plain(folder, volume, affine=affine, sform=sform, qform=qform)
        data = bytearray(path.read_bytes())
        data[UNITS] = units
        path.write_bytes(data)

    return make


def of_shape(*shape: int) -> Make:
    """Return what writes a file of other sides, with as many axes as it likes."""
    return lambda folder, volume: save_nifti(
        scan(folder, ".nii"), np.resize(volume.array, shape), volume.geometry.affine
    )


def of_type(dtype: object) -> Make:
    """Return what writes a file of another type, full of zeros."""
    return lambda folder, volume: save_nifti(
        scan(folder, ".nii"), np.zeros(volume.geometry.shape, dtype), volume.geometry.affine
    )


def two_forms(folder: Path, volume: Volume, other: NDArray[np.float64]) -> None:
    """Write a file whose qform is another affine."""
    image = nib.Nifti1Image(volume.array[0], None)
    image.set_sform(volume.geometry.affine, 1)
    image.set_qform(other, 1)
    nib.save(image, scan(folder, ".nii.gz"))


def shifted(folder: Path, volume: Volume) -> None:
    """Write a file whose qform lies 4 mm from its sform."""
    affine = np.array(volume.geometry.affine)
    affine[0, 3] += 4
    two_forms(folder, volume, affine)


def half_turned(folder: Path, volume: Volume) -> None:
    """Write a file at so nearly half a turn that a qform rounds the rest away, with a side of half a metre."""
    affine = np.eye(4)
    affine[:3, :3] = nib.quaternions.quat2mat([5e-4, 1, 0, 0]) @ np.diag([0.9, 1.7, 80.0])
    two_forms(folder, Volume(volume.array, Geometry(volume.geometry.shape, affine)), affine)


def leaning(folder: Path, volume: Volume) -> None:
    """Write a file whose sform leans, and whose qform is the nearest upright one."""
    affine = np.array(volume.geometry.affine)
    affine[:3, 2] += 0.2 * affine[:3, 1]
    two_forms(folder, Volume(volume.array, Geometry(volume.geometry.shape, affine)), affine)


def version_2(folder: Path, volume: Volume) -> None:
    """Write NIfTI-2."""
    nib.save(nib.Nifti2Image(volume.array[0], volume.geometry.affine), scan(folder, ".nii.gz"))


def big_endian(folder: Path, volume: Volume) -> None:
    """Write the other byte order."""
    header = nib.Nifti1Header(endianness=">")
    nib.save(nib.Nifti1Image(volume.array[0], volume.geometry.affine, header), scan(folder, ".nii"))


def wrong_checksum(data: bytes) -> bytes:
    """Pack, and change the checksum."""
    packed = bytearray(gzip.compress(data))
    packed[-5] ^= 0xFF
    return bytes(packed)


LEAN = np.array([[1, 0, 0.1], [0, 1, 0], [0, 0, 1]])

NIFTI = [
    # the file
    fault("sound", plain),
    fault("sound packed", changed(gzip.compress, suffix=".nii.gz")),
    fault("sound packed in two parts", changed(lambda d: gzip.compress(d[:500]) + gzip.compress(d[500:]))),
    fault("packed without saying so", changed(gzip.compress)),
    fault("not packed but named so", changed(bytes, suffix=".nii.gz")),
    fault("capitals in its suffix", changed(gzip.compress, suffix=".NII.GZ")),
    fault("nifti 2", version_2),
    fault("big-endian", big_endian),
    fault("rubbish after the voxels", changed(lambda data: data + b"rubbish")),
    fault("packed and cut", changed(lambda data: gzip.compress(data)[:400], suffix=".nii.gz"), "E_CORRUPT"),
    fault("packed and lacking its end", changed(lambda data: gzip.compress(data)[:-4], suffix=".nii.gz"), "E_CORRUPT"),
    fault("wrong checksum", changed(wrong_checksum, suffix=".nii.gz"), "E_CORRUPT"),
    fault("cut before packing", changed(lambda data: gzip.compress(data[:900]), suffix=".nii.gz"), "E_CORRUPT"),
    fault("packed twice", changed(lambda d: gzip.compress(gzip.compress(d)), suffix=".nii.gz"), "E_NOT_AN_IMAGE"),
    fault("packed text", changed(lambda _: gzip.compress(b"a,b\n" * 200), suffix=".nii.gz"), "E_NOT_AN_IMAGE"),
    fault("cut in its voxels", changed(lambda data: data[:-1]), "E_CORRUPT"),
    fault("cut in its header", changed(lambda data: data[:200]), "E_CORRUPT"),
    fault("empty", changed(lambda _: b""), "E_CORRUPT"),
    fault("text", changed(lambda _: b"patient,volume\n1,200\n" * 40), "E_NOT_AN_IMAGE"),
    fault("picture", changed(lambda _: b"\x89PNG\r\n\x1a\n" + bytes(600)), "E_NOT_AN_IMAGE"),
    fault("zeros", changed(lambda data: bytes(len(data))), "E_NOT_AN_IMAGE"),
    # sides and types
    fault("two dimensions", of_shape(24, 22), "E_DIMENSIONS"),
    fault("five dimensions", of_shape(4, 5, 6, 2, 2), "E_DIMENSIONS"),
    fault("four volumes", of_shape(4, 5, 6, 4), "E_DIMENSIONS"),
    fault("one volume in a fourth dimension", of_shape(11, 8, 6, 1)),
    fault("a side of nothing", patched(DIM, "<4h", 3, 11, 0, 6), "E_DIMENSIONS"),
    fault("a side below nothing", patched(DIM, "<4h", 3, 11, -8, 6), "E_DIMENSIONS"),
    fault("sides beyond the file", patched(DIM, "<4h", 3, 1100, 800, 600), "E_CORRUPT"),
    fault("sides beyond any memory", patched(DIM, "<5h", 4, 32767, 32767, 32767, 32767), "E_CORRUPT"),
    fault("no dimensions", patched(DIM, "<h", 0), "E_DIMENSIONS"),
    fault("more dimensions than there are", patched(DIM, "<h", 77), "E_CORRUPT"),
    fault("unknown type", patched(DATATYPE, "<h", 4321), "E_CORRUPT"),
    fault("voxels before the header", patched(VOX_OFFSET, "<f", -80), "E_CORRUPT"),
    fault("voxels beyond the file", patched(VOX_OFFSET, "<f", 1e6), "E_CORRUPT"),
    fault("voxels nowhere", patched(VOX_OFFSET, "<f", np.nan), "E_CORRUPT"),
    fault("complex", of_type(np.complex64), "E_DIMENSIONS"),
    fault("colour", of_type([("R", "u1"), ("G", "u1"), ("B", "u1")]), "E_DIMENSIONS"),
    # the place
    fault("no form", placed(sform=0), "E_NO_AFFINE"),
    fault("qform alone", placed(sform=0, qform=1)),
    fault("flat sform", patched(SROW, "<12f", 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0), "E_SINGULAR_AFFINE"),
    fault("sform of zeros", patched(SROW, "<12f", *[0] * 12), "E_SINGULAR_AFFINE"),
    fault("sform with nan", patched(SROW, "<f", np.nan), "E_SINGULAR_AFFINE"),
    fault("qform that is no rotation", patched(252, "<2h3f", 1, 0, 1, 1, 1), "E_CORRUPT"),
    fault("forms that agree", lambda folder, volume: two_forms(folder, volume, volume.geometry.affine)),
    fault("forms that agree but for rounding", half_turned),
    fault("forms in conflict", shifted, "W_FORMS_DISAGREE"),
    fault("forms that mirror each other", lambda f, v: two_forms(f, v, np.diag([-1, 1, 1, 1]) @ v.geometry.affine),
          "W_FORMS_DISAGREE"),
    fault("qform of nothing beside the sform", patched(252, "<2h3f", 1, 1, 1, 1, 1), "W_FORMS_DISAGREE"),
    fault("leaning", placed(LEAN), "W_TILTED"),
    fault("leaning beside an upright qform", leaning, "W_TILTED"),
    fault("tilted but upright", placed(np.linalg.qr(LEAN)[0])),
    # the unit
    fault("unit unsaid", placed(units=0)),
    fault("unit unknown", placed(units=7)),
    fault("in metres", placed(0.001, units=1), "W_UNIT"),
    fault("in micrometres", placed(1000.0, units=3), "W_UNIT"),
    fault("in millimetres called metres", placed(units=1), "W_UNIT"),
    fault("in millimetres called micrometres", placed(units=3), "W_UNIT"),
    fault("in metres unsaid", placed(0.001), "W_SIZE"),
    fault("in micrometres unsaid", placed(1000.0), "E_SIZE"),
]  # fmt: skip

"""NRRD, MHA and MHD files that are wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from phantoms import to_itk

from faults.fault import fault
from faults.nifti import Make, scan
from medseg.volume import Volume


def written(
    suffix: str,
    *,
    change: Callable[[bytes], bytes] = bytes,
    image: Callable[[Volume], sitk.Image] = to_itk,
    packed: bool = False,
    voxels: str = "",
) -> Make:
    """Return what writes a file with SimpleITK, and then changes its bytes.

    Args:
        suffix: of the file, with its dot.
        change: of the bytes.
        image: what is written.
        packed: whether the voxels are.
        voxels: the suffix of the file that is changed instead.
    """

    def make(folder: Path, volume: Volume) -> None:
        path = scan(folder, suffix)
        sitk.WriteImage(image(volume), str(path), useCompression=packed)
        target = path.with_suffix(voxels) if voxels else path
        data = change(target.read_bytes())
        target.write_bytes(data) if data else target.unlink()

    return make


def replaced(pattern: str, text: str = "") -> Callable[[bytes], bytes]:
    """Return what replaces lines of a header."""
    return lambda data: re.sub(rf"(?m)^{pattern}.*\n".encode(), text.encode(), data, count=1)


def flipped(data: bytes) -> bytes:
    """Change a byte of the packed voxels."""
    return data[:-60] + bytes([data[-60] ^ 16]) + data[-59:]


def holding_nan(volume: Volume) -> sitk.Image:
    """Return an image with a voxel that is no number."""
    array = volume.array.astype(np.float32)
    array[0, 3, 2, 1] = np.nan
    return to_itk(Volume(array, volume.geometry))


def four_volumes(volume: Volume) -> sitk.Image:
    """Return an image with four values per voxel."""
    return sitk.Compose([to_itk(volume)] * 4)


def leaning(data: bytes) -> bytes:
    """Let a NRRD file's axes lean."""
    return replaced("space directions:", "space directions: (1,0,0) (0.2,2,0) (0,0,3)\n")(data)


FLAT = "TransformMatrix = 1 0 0 1 0 0 0 0 1\n"

ITK = [
    fault("sound nrrd", written(".nrrd", packed=True)),
    fault("sound mha", written(".mha")),
    fault("sound mhd", written(".mhd", packed=True)),
    fault("nrrd named nii", lambda f, v: (written(".nrrd")(f, v), scan(f, ".nrrd").rename(scan(f, ".nii")))),
    fault("nrrd cut", written(".nrrd", change=lambda data: data[:-50]), "E_CORRUPT"),
    fault("nrrd cut in its header", written(".nrrd", change=lambda data: data[:150]), "E_CORRUPT"),
    fault("nrrd packed and damaged", written(".nrrd", change=flipped, packed=True), "E_CORRUPT"),
    fault("nrrd without its space", written(".nrrd", change=replaced("space:")), "E_NO_AFFINE"),
    fault("nrrd without its directions", written(".nrrd", change=replaced("space directions:")), "E_NO_AFFINE"),
    fault("nrrd without its origin", written(".nrrd", change=replaced("space origin:")), "E_NO_AFFINE"),
    fault("nrrd in no patient", written(".nrrd", change=replaced("space:", "space: scanner-xyz\n")), "E_NO_AFFINE"),
    fault("nrrd with nan", written(".nrrd", image=holding_nan), "E_NOT_FINITE"),
    fault("nrrd of four volumes", written(".nrrd", image=four_volumes), "E_DIMENSIONS"),
    fault("nrrd that leans", written(".nrrd", change=leaning), "W_TILTED"),
    fault("nrrd of another number of sides", written(".nrrd", change=replaced("sizes:", "sizes: 11 8\n")), "E_CORRUPT"),
    fault("mha cut", written(".mha", change=lambda data: data[:-50]), "E_CORRUPT"),
    fault("mha packed and damaged", written(".mha", change=flipped, packed=True), "E_CORRUPT"),
    fault("mha without its orientation", written(".mha", change=replaced("TransformMatrix")), "E_NO_AFFINE"),
    fault("mha without its spacing", written(".mha", change=replaced("ElementSpacing")), "E_NO_AFFINE"),
    fault("mha squeezed flat", written(".mha", change=replaced("TransformMatrix", FLAT)), "E_SINGULAR_AFFINE"),
    fault("mha of an unknown type", written(".mha", change=replaced("ElementType", "ElementType = MET_ODD\n")),
          "E_CORRUPT"),
    fault("mha in two dimensions", written(".mha", image=lambda volume: to_itk(volume)[:, :, 2]), "E_DIMENSIONS"),
    fault("mhd without its voxels", written(".mhd", change=lambda _: b"", voxels=".raw"), "E_CORRUPT"),
    fault("mhd with few of its voxels", written(".mhd", change=lambda data: data[:99], voxels=".raw"), "E_CORRUPT"),
    fault("mha in micrometres", written(".mha", change=replaced("ElementSpacing", "ElementSpacing = 900 1700 3100\n")),
          "E_SIZE"),
    fault("mha with a spacing of zero", written(".mha", change=replaced("ElementSpacing", "ElementSpacing = 1 0 1\n")),
          "E_CORRUPT"),
]  # fmt: skip

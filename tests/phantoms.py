"""Small awkward scans for all tests.

The house phantom is anisotropic, permuted, flipped, tilted, off-centre and has no two sides equal: on a scan like that,
mixed-up axes, signs or units show. Files are written with the foreign libraries, never with medseg's own writers.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray
from scipy.spatial.transform import Rotation

from medseg.volume import Geometry, LabelMap, Volume

HOUSE_SHAPE = (11, 8, 6)
HOUSE_SPACING_MM = (0.9, 1.7, 3.1)
HOUSE_ORIENTATION = "PSL"
HOUSE_TILT_DEGREES = (8.0, -12.0, 17.0)
HOUSE_CENTRE_MM = (31.5, -42.25, 77.125)

# Each letter's world axis and sign, RAS+.
AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SERIES_UID = "1.2.826.0.1.3680043.2.1125.7"


def all_orientations() -> list[str]:
    """Return the 48 axis codes: three letter pairs in any order, each pointing either way."""
    pairs = itertools.permutations(("RL", "AP", "SI"))
    return ["".join(letters) for order in pairs for letters in itertools.product(*order)]


def house_geometry(
    *,
    shape: tuple[int, int, int] = HOUSE_SHAPE,
    spacing_mm: Sequence[float] = HOUSE_SPACING_MM,
    orientation: str = HOUSE_ORIENTATION,
    tilt_degrees: Sequence[float] = HOUSE_TILT_DEGREES,
    centre_mm: Sequence[float] = HOUSE_CENTRE_MM,
) -> Geometry:
    """Return the phantom's grid; tilts below 30° in all leave the axes pointing to `orientation`."""
    axes = np.zeros((3, 3))
    for column, letter in enumerate(orientation):
        row, sign = AXES[letter]
        axes[row, column] = sign
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", tilt_degrees, degrees=True).as_matrix() @ axes * spacing_mm
    affine[:3, 3] = np.array(centre_mm) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


def house_volume(
    *, geometry: Geometry | None = None, channels: int = 1, dtype: DTypeLike = np.int16, seed: int = 0
) -> Volume:
    """Return noise from −1000 to 1000 (0 to 200 in unsigned and 8-bit types): every voxel tells where it came from."""
    geometry = geometry or house_geometry()
    low, high = (0, 100) if np.dtype(dtype).kind == "u" or np.dtype(dtype).itemsize == 1 else (-1000, 1000)
    noise = np.random.default_rng(seed).integers(low, high, (channels, *geometry.shape), endpoint=True)
    return Volume(noise.astype(dtype), geometry)


def house_label_map(*, geometry: Geometry | None = None, ids: Sequence[int] = (1, 2, 5)) -> LabelMap:
    """Return an off-centre ellipsoid (the first id) with blocks in two corners (the others)."""
    geometry = geometry or house_geometry()
    array = np.zeros(geometry.shape, np.uint16 if max(ids) > 255 else np.uint8)
    place = np.stack([index / max(n - 1, 1) for index, n in zip(np.indices(array.shape), array.shape, strict=True)])
    offset = (place - np.array([0.55, 0.45, 0.6])[:, None, None, None]) / 0.42
    array[(offset**2).sum(axis=0) <= 1] = ids[0]
    for id_, corner in zip(ids[1:], (np.s_[:3, :2, :2], np.s_[-2:, -3:, :1]), strict=False):
        array[corner] = id_
    return LabelMap(array, geometry)


def ramp(geometry: Geometry) -> NDArray[np.float64]:
    """Return a value per voxel that is a linear function of its world position."""
    return linear(geometry.to_world(np.moveaxis(np.indices(geometry.shape), 0, -1)))


def linear(points_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ramp's value at world positions, shape (..., 3)."""
    return np.asarray(points_world @ np.array([1.5, -0.75, 0.4]) + 20.0)


def geometries(*, smallest: int = 1, largest: int = 9) -> st.SearchStrategy[Geometry]:
    """Draw grids of any orientation, spacing and place, tilted by less than 45° in all."""
    degrees = st.floats(-14, 14)
    side = st.integers(smallest, largest)
    spacing = st.floats(0.3, 5)
    place = st.floats(-300, 300)
    return st.builds(
        lambda shape, spacing_mm, orientation, tilt_degrees, centre_mm: house_geometry(
            shape=shape,
            spacing_mm=spacing_mm,
            orientation=orientation,
            tilt_degrees=tilt_degrees,
            centre_mm=centre_mm,
        ),
        st.tuples(side, side, side),
        st.tuples(spacing, spacing, spacing),
        st.sampled_from(all_orientations()),
        st.tuples(degrees, degrees, degrees),
        st.tuples(place, place, place),
    )


def save_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.float64], *, sform: int = 1, qform: int = 0) -> Path:
    """Write a NIfTI file with nibabel: axes (I, J, K[, C]), and the form codes as given."""
    image = nib.Nifti1Image(array, None, dtype=array.dtype)
    image.set_qform(affine, qform)
    image.set_sform(affine, sform)
    nib.save(image, path)
    return path


def to_itk(volume: Volume) -> sitk.Image:
    """Return a volume's first channel as an ITK image."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array[0].T))
    lps = LPS_TO_RAS @ volume.geometry.affine
    image.SetSpacing(volume.geometry.spacing_mm)
    image.SetDirection((lps[:3, :3] / volume.geometry.spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def save_dicom_series(
    folder: Path,
    volume: Volume,
    *,
    uid: str = SERIES_UID,
    tags: dict[str, str] | None = None,
    name: Callable[[int], str] = "{:03d}.dcm".format,
) -> list[Path]:
    """Write a volume's first channel as a CT series, one file per plane along K, in their order.

    Args:
        folder: where; made when it is not there.
        volume: int16 is what CT stores.
        uid: the series instance UID.
        tags: more elements for every slice, such as {"0028|1052": "-1024"}.
        name: slice number → file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = LPS_TO_RAS @ volume.geometry.affine
    directions = (lps[:3, :3] / volume.geometry.spacing_mm).T
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    files = []
    for k in range(volume.geometry.shape[2]):
        image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array[0, :, :, k].T)[None])
        image.SetSpacing(volume.geometry.spacing_mm)
        elements = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{uid}.{k + 1}",
            "0008|0060": "CT",
            "0020|000d": f"{SERIES_UID}.0",
            "0020|000e": uid,
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.10g}" for x in lps[:3, :3] @ [0, 0, k] + lps[:3, 3]),
            "0020|0037": "\\".join(f"{x:.10g}" for x in [*directions[0], *directions[1]]),
            **(tags or {}),
        }
        for key, value in elements.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / name(k)))
        writer.Execute(image)
        files.append(folder / name(k))
    return files


def real_data(*parts: str) -> Path:
    """Return a path in the folder that MEDSEG_TEST_DATA names, or skip the test without it."""
    root = os.environ.get("MEDSEG_TEST_DATA")
    path = Path(root or "", *parts)
    if not root or not path.exists():
        pytest.skip("needs MEDSEG_TEST_DATA, a folder of real scans")
    return path

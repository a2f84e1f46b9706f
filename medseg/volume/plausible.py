"""Plausible: values and grids that no scanner makes. Mostly remarks, because the eye may know better."""

import numpy as np

from medseg.errors import SizeError
from medseg.remarks import Remark
from medseg.volume.geometry import Geometry
from medseg.volume.volume import Volume

# Scanners fill what lies outside their circle with values below that of air (−2000, −3024, −32768).
LOWEST_AIR_HU = -1200
# Every patient has fat (−120 to −60 HU), and nearly every scan shows air; a scan without either is not in HU.
HIGHEST_FAT_HU = -50
# Values that all lie within this were normalised: to 0..1, −1..1, or to a standard deviation of 1.
NORMALISED = 50
# Label maps have few values, and neighbours mostly share theirs: in those of organs more than half of them do, in
# scans, even of 8 bits, less than a fifth (background left out).
MOST_LABELS = 256
ALIKE = 0.4
# As many slices tell.
SLICES = 16
# The longest side of a scan: above a vertebra's crop, below any table's travel. In metres or micrometres by mistake, it
# is off by a thousand.
LONGEST_SIDE_MM = (5.0, 3000.0)


def hu_remarks(volume: Volume, *, modality: str = "") -> tuple[Remark, ...]:
    """Return W_NOT_HU when a CT's values cannot be Hounsfield units, saying what they look like; otherwise nothing.

    A scan in HU has voxels of fat or air, below −50, and voxels above water, 0. Padding, below −1200, is left out of
    account. A volume of one value says nothing about its unit.

    Args:
        volume: finite values; each of its channels should be a CT.
        modality: what it was taken with, as DICOM or a manifest says; empty where nothing is said.
    """
    low, high = float(volume.array.min()), float(volume.array.max())
    if low < LOWEST_AIR_HU:
        low = float(volume.array.min(where=volume.array >= LOWEST_AIR_HU, initial=high))
    if low == high or (low < HIGHEST_FAT_HU and high > 0):
        return ()
    text = f"Its values go from {low:.4g} to {high:.4g}"
    if modality and "CT" not in modality.upper():
        advice = f" and are no Hounsfield units, for it is {modality}. Choose a model or a recipe for {modality}."
        return (Remark("W_NOT_HU", text + advice),)
    advice = "Convert the scan from its DICOM again, without scaling its values"
    other = "" if modality else "; or, if it is no CT, choose a model for what it is"
    return (Remark("W_NOT_HU", f"{text}: {_likeness(volume, low, high)}. {advice}{other}."),)


def _likeness(volume: Volume, low: float, high: float) -> str:
    """Return what values that are no HU look like."""
    if is_label_map(volume):
        return "they look like the ids of a label map"
    if high <= 0:
        return "nothing is denser than water, as if the rescale intercept had been added twice"
    if high <= NORMALISED:
        return "they look normalised"
    if low >= 0 and high <= 255:
        return "they look like the grey values of a picture, 0 to 255"
    if low >= 0:
        return "nothing is as light as fat or air, as if the rescale intercept had not been added"
    return "nothing is as light as fat or air"


def is_label_map(volume: Volume) -> bool:
    """Say whether a volume looks like a label map: whole numbers from 0, few of them, and neighbours mostly alike."""
    if volume.channels != 1 or volume.array.min() != 0:
        return False
    planes = volume.array[0, :, :, :: max(1, volume.geometry.shape[2] // SLICES)]
    here, there = planes[:-1], planes[1:]
    shown = (here != 0) | (there != 0)
    if not shown.any() or (here == there)[shown].mean() < ALIKE:
        return False
    return not np.any(planes % 1) and len(np.unique(planes)) <= MOST_LABELS


def scan_remarks(volume: Volume) -> tuple[Remark, ...]:
    """Return what is odd about any scan.

    One value everywhere, those of a label map, a single slice, a size below that of any body.
    """
    low, high = volume.array.min(), volume.array.max()
    remarks = []
    if low == high:
        remarks.append(Remark("W_CONSTANT", f"Every voxel is {float(low):g}. Check that the export was complete."))
    elif is_label_map(volume):
        remarks.append(Remark("W_LABEL_MAP", "It looks like a label map. Give the scan that it was drawn on."))
    if 1 in volume.geometry.shape:
        text = (
            f"Its shape is {volume.geometry.shape}. Give the whole scan, unless the model was made for single slices."
        )
        remarks.append(Remark("W_SINGLE_SLICE", text))
    if not is_body_sized(volume.geometry):
        text = f"It measures {_size(volume.geometry)}. Check the header's spacing, which may be in metres."
        remarks.append(Remark("W_SIZE", text))
    return tuple(remarks)


def check_size(geometry: Geometry) -> None:
    """Raise SizeError for a grid that is longer than any body; preparing it would fill any memory."""
    if max(sides_mm(geometry)) > LONGEST_SIDE_MM[1]:
        raise SizeError(
            "placing the voxels in the patient",
            found=f"the scan measures {_size(geometry)}",
            remedy="correct the header's spacing, which may be in micrometres, or convert from DICOM again",
        )


def leaning_remarks(geometry: Geometry) -> tuple[Remark, ...]:
    """Return W_TILTED when the axes are not at right angles, with the angle."""
    if not geometry.leans:
        return ()
    text = f"Its axes are {geometry.skew_degrees:.1f}° off right angles. It is straightened for the network, and the"
    return (Remark("W_TILTED", f"{text} result lies on the original grid."),)


def is_body_sized(geometry: Geometry) -> bool:
    """Say whether a grid's longest side is that of a scan of a body, or of a part of one."""
    shortest, longest = LONGEST_SIDE_MM
    return shortest <= max(sides_mm(geometry)) <= longest


def _size(geometry: Geometry) -> str:
    return " × ".join(f"{side:.0f}" if side >= 10 else f"{side:.2g}" for side in sides_mm(geometry)) + " mm"


def sides_mm(geometry: Geometry) -> tuple[float, ...]:
    """Return the lengths of a grid along I, J and K, from the first voxel's outer face to the last one's."""
    return tuple(n * spacing for n, spacing in zip(geometry.shape, geometry.spacing_mm, strict=True))

"""Where a NIfTI header puts its voxels: the form that counts, its unit, and what is odd about them."""

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError

from medseg.axes import Sides
from medseg.errors import NoAffineError, SingularAffineError
from medseg.remarks import Remark
from medseg.volume.geometry import TOLERANCE_MM, Geometry
from medseg.volume.plausible import check_size, is_body_sized, leaning_remarks

# The three low bits of xyzt_units: 2 is millimetres, 0 says nothing, and is taken for millimetres by everyone.
UNIT_BITS = 0x07
UNITS_MM = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
# A qform keeps three parts of a quaternion as float32. Near a half turn, which is how DICOM's axes become NIfTI's, the
# fourth part is lost below 6e-4, and the rotation with it is off by twice as much.
QFORM_RADIANS = 1.2e-3


def place(header: Any, affine: Any, shape: Sides, path: Path) -> tuple[Geometry, tuple[Remark, ...]]:
    """Return the grid of a NIfTI image in millimetres, and what is odd about how its header tells it.

    Args:
        header: nibabel's.
        affine: nibabel's, of the sform, or of the qform where there is no sform.
        shape: voxels along I, J, K.
        path: the file, for messages.

    Raises:
        NoAffineError: neither sform nor qform is set.
        SingularAffineError, SizeError: the grid is no scan's.
    """
    if not (int(header["sform_code"]) or int(header["qform_code"])):
        raise NoAffineError(
            f"placing {path} in the patient",
            found="its header sets neither sform nor qform",
            remedy="set one once you know the scan's orientation, or convert it from its DICOM again",
        )
    stated = Geometry(shape, affine)
    geometry, unit = _in_mm(header, stated)
    check_size(geometry)
    return geometry, (*unit, *leaning_remarks(geometry), *_form_remarks(header, stated))


def _in_mm(header: Any, stated: Geometry) -> tuple[Geometry, tuple[Remark, ...]]:
    """Return a grid in the unit that the header names, converted to millimetres.

    Some headers name a unit that their numbers are not in: where only millimetres give the size of a body, these are
    taken.
    """
    unit, factor = UNITS_MM.get(int(header["xyzt_units"]) & UNIT_BITS, ("", 1.0))
    if not unit:
        return stated, ()
    converted = Geometry(stated.shape, np.diag([factor, factor, factor, 1.0]) @ stated.affine)
    if is_body_sized(stated) and not is_body_sized(converted):
        text = f"Its header says {unit}, in which no body has its size; its numbers were taken for millimetres."
        return stated, (Remark("W_UNIT", text),)
    return converted, (Remark("W_UNIT", f"Its header says {unit}, which were converted to millimetres."),)


def _form_remarks(header: Any, sform: Geometry) -> tuple[Remark, ...]:
    """Return W_FORMS_DISAGREE when sform and qform are both set and put a corner of the grid in different places.

    A qform cannot lean, so a leaning sform is left alone.
    """
    if not (int(header["sform_code"]) and int(header["qform_code"])) or sform.leans:
        return ()
    diagonal = float(np.linalg.norm(np.multiply(sform.shape, sform.spacing_mm)))
    try:
        distance = sform.distance_mm(Geometry(sform.shape, header.get_qform()))
    except (HeaderDataError, SingularAffineError, ValueError):
        return (Remark("W_FORMS_DISAGREE", "Its qform is no rotation with a spacing; its sform was taken."),)
    if distance <= TOLERANCE_MM + QFORM_RADIANS * diagonal:
        return ()
    text = (
        f"Its sform and its qform lie up to {distance:.1f} mm apart; the sform was taken. Compare the result with the"
    )
    return (Remark("W_FORMS_DISAGREE", f"{text} scan in your viewer, or convert the scan from its DICOM again."),)

"""Remarks: what is worth knowing about a scan although it can be used, each idea once, with a code to look up."""

from dataclasses import dataclass

# Code → what it means. Errors stop a case and stand in `errors.py`; a remark only stands beside its result.
REMARKS: dict[str, str] = {
    "W_TILTED": "the slices lean on each other (a tilted gantry, or axes that are not at right angles)",
    "W_SLICES_FILLED": "missing slices were filled from their neighbours, because --allow-gaps was given",
    "W_SAME_SLICE_TWICE": "a slice is there twice with the same content; one copy is used",
    "W_SLICE_LEFT_OUT": "a slice that may belong to the scan was left out, because its direction or spacing differ",
    "W_SERIES_SPLIT": "one series holds several stacks of slices; each is a case of its own",
    "W_MODALITY": "the scan was taken with something else than the scans that the model was trained on",
    "W_NOT_HU": "the intensities are not Hounsfield units, which the model expects of a CT",
    "W_LABEL_MAP": "the scan looks like a label map: few whole numbers, and neighbours mostly alike",
    "W_CONSTANT": "every voxel of the scan has one value",
    "W_SINGLE_SLICE": "the scan is a single slice",
    "W_SIZE": "the scan is smaller than any that is made of a body, so its spacing may be in another unit",
    "W_UNIT": "the header names another unit than millimetres",
    "W_SLOPE": "the header's slope turns the intensities around, or is no number",
    "W_FORMS_DISAGREE": "the header's sform and qform place the voxels differently; the sform counts",
    "W_NO_LABEL": "the label map shows no label",
    "W_LABEL_NOT_IN_FOLD": "a label that other folds have is in no case of a fold",
    "W_SAME_SCAN_TWICE": "two cases hold the same voxels",
    "W_IN_FILE": "memory would not have held what the network says of the scan, and a file did",
    "W_MAX_RAM": "scan and model need more memory than --max-ram allows",
    "W_NO_SERIES": "a DICOM output was left out, because the scan is no DICOM series",
}


@dataclass(frozen=True)
class Remark:
    """One thing worth knowing about a case.

    Attributes:
        code: a key of REMARKS.
        message: what was found, with its numbers, and what to do if it is unwanted.
    """

    code: str
    message: str

    def __post_init__(self) -> None:
        assert self.code in REMARKS, self.code

    def as_json(self) -> dict[str, str]:
        """Return code and message, as they stand in results.jsonl."""
        return {"code": self.code, "message": self.message}

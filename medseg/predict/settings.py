"""Settings: what of a command changes the outputs, besides the scan and the model."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """How cases are read and what is written of them.

    Attributes:
        formats: keys of `FORMATS`, in the order they are written.
        deidentify: whether DICOM outputs leave the patient out, and results the folders of the scans.
        allow_gaps: whether missing slices of a DICOM series are filled from their neighbours.
        overlay: whether each label map is also drawn on its scan.
    """

    formats: tuple[str, ...] = ("nifti",)
    deidentify: bool = False
    allow_gaps: bool = False
    overlay: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the settings as they stand in results.jsonl and run.json."""
        return {**asdict(self), "formats": list(self.formats)}

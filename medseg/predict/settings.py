"""Settings: what of a command changes the outputs, besides the scan and the model."""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any

FINGERPRINT_DIGITS = 16


@dataclass(frozen=True)
class Settings:
    """How cases are read and what is written of them.

    Attributes:
        formats: keys of `FORMATS`, in the order they are written.
        key: with it DICOM outputs leave the patient out and replace UIDs under it, and results leave out the folders of
            the scans; None keeps all. It stands in no file that is written.
        allow_gaps: whether missing slices of a DICOM series are filled from their neighbours.
        overlay: whether each label map is also drawn on its scan.
        preset: a key of `PRESETS`.
        max_ram: bytes of memory that the process should hold at most. It changes no output.
    """

    formats: tuple[str, ...] = ("nifti",)
    key: bytes | None = field(default=None, repr=False)
    allow_gaps: bool = False
    overlay: bool = False
    preset: str = "balanced"
    max_ram: int | None = None

    @property
    def deidentify(self) -> bool:
        """Whether results tell nothing of patient and place."""
        return self.key is not None

    def sealed(self, digest: str) -> str:
        """Return what results say of a scan's digest: itself, or with a key what only its holder can compute."""
        if self.key is None:
            return digest
        return hmac.new(self.key, f"scan {digest}".encode(), hashlib.sha256).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Return the settings as they stand in results.jsonl and run.json, with the key's fingerprint for the key."""
        key = None if self.key is None else hashlib.sha256(b"medseg " + self.key).hexdigest()[:FINGERPRINT_DIGITS]
        return {
            "formats": list(self.formats),
            "deidentify": self.deidentify,
            "key": key,
            "allow_gaps": self.allow_gaps,
            "overlay": self.overlay,
            "preset": self.preset,
        }

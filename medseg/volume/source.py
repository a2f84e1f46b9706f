"""Source: where a case's voxels come from on disk."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


@dataclass(frozen=True)
class Source:
    """One scan on disk.

    Attributes:
        case_id: the name its results carry: the file's without its suffix, or the series folder's.
        paths: the file; several are the channels of one scan, or the slices of one DICOM series.
        kind: "file" or "dicom".
    """

    case_id: str
    paths: tuple[Path, ...]
    kind: Literal["file", "dicom"] = "file"

    @property
    def place(self) -> Path:
        """The path to name in messages: the file, or the folder of a series."""
        return self.paths[0].parent if self.kind == "dicom" else self.paths[0]


def stem(path: Path) -> str:
    """Return a file's name without its image suffix: 'spleen_8.nii.gz' → 'spleen_8'."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def duplicate_ids(case_ids: Sequence[str]) -> set[str]:
    """Return the case ids that occur more than once."""
    return {case_id for case_id, count in Counter(case_ids).items() if count > 1}


def is_dicom(path: Path) -> bool:
    """Say whether a file has DICOM's mark, "DICM" after 128 bytes (PS3.10, section 7.1)."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False

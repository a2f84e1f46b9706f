"""Source: where a case's voxels come from on disk."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg.volume.dicom.series import Series
from medseg.volume.dicom.stored import contents
from medseg.volume.read.detached import detached_files

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
# What else scans and their zips are called.
OTHER_SUFFIXES = (".dcm", ".dicom", ".ima", ".zip", ".hdr", ".img")
# What medseg calls its own DICOM outputs; the case id stands before it.
ANNOTATION_SUFFIXES = (".seg.dcm", ".rtstruct.dcm")


@dataclass(frozen=True)
class Source:
    """One scan, or one label map, on disk.

    Attributes:
        case_id: the name its results carry: the file's without its suffix, or the series folder's.
        paths: the file; several are the channels of one scan, or the files of a DICOM series (the zip that holds them).
        kind: "file"; "dicom", a series; "segmentation" or "structures", labels in a DICOM SEG or RTSTRUCT.
        series: the DICOM series.
    """

    case_id: str
    paths: tuple[Path, ...]
    kind: Literal["file", "dicom", "segmentation", "structures"] = "file"
    series: Series | None = None

    @classmethod
    def of_series(cls, case_id: str, series: Series) -> "Source":
        """Return the source of a DICOM series."""
        return cls(case_id, tuple(dict.fromkeys(file.path for file in series.files)), "dicom", series)

    @property
    def place(self) -> Path:
        """The path to name in messages: the file, or the folder or zip of a series."""
        if self.series is None:
            return self.paths[0]
        first = self.series.files[0]
        return first.path if first.member else first.folder

    @property
    def modality(self) -> str:
        """What a DICOM series says it was taken with: CT, MR, PT…; empty where nothing is said."""
        return self.series.slices[0].modality if self.series and self.series.slices else ""

    @property
    def files(self) -> list[Path]:
        """Its paths, each followed by the files that its header names as the place of its voxels."""
        if self.series is not None:
            return list(self.paths)
        return [file for path in self.paths for file in (path, *filter(Path.is_file, detached_files(path)))]

    def digest(self) -> str:
        """Return the SHA-256 of the content of its files, in their order, in hexadecimal.

        Raises:
            OSError: a file cannot be read.
            ArchiveError: a member of a zip does not unpack.
        """
        digest = hashlib.sha256()
        if self.series is not None:
            for _, data in contents(self.series.files):
                digest.update(data)
            return digest.hexdigest()
        for path in self.files:
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
        return digest.hexdigest()


def stem(path: Path) -> str:
    """Return a file's name without its image suffix: 'spleen_8.nii.gz' → 'spleen_8'."""
    for suffix in (*SUFFIXES, *ANNOTATION_SUFFIXES, *OTHER_SUFFIXES):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name  # what follows the last point may be the end of a UID


def duplicate_ids(case_ids: Sequence[str]) -> set[str]:
    """Return the case ids that occur more than once."""
    return {case_id for case_id, count in Counter(case_ids).items() if count > 1}

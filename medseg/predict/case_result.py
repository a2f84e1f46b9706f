"""CaseResult: what became of one case, a line of results.jsonl."""

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from medseg.errors import MedsegError
from medseg.remarks import Remark

# Paths that a message quotes, or that begin at the root, up to the last name in them.
QUOTED = re.compile(r"(['\"])[^'\"]*[/\\]([^'\"/\\]*)\1")
ABSOLUTE = re.compile(r"(?<![^\s('\"])/(?:[^\s/:;,'\"()]+/)+(?=[^\s/])")


@dataclass
class CaseResult:
    """What became of one case.

    Attributes:
        case_id: the case.
        input: the file or series folder it was read from; with --deidentify only its own name.
        status: "ok" or "failed".
        error: code and message, or None.
        warnings: what is worth knowing although the case went through, each with code and message.
        outputs: the files written, relative to the output folder.
        volumes_ml: label → millilitres.
        seconds: read, preprocess, infer, restore, write, and total, their sum. Cases overlap, so that a run takes less
            than its cases together.
        peak_ram_mb: the most memory the process had held by the end of the case.
        peak_gpu_mb: the same of the GPU, None without one.
        series_uid: the series instance UID of a DICOM series, None for other scans.
        files: output → its "bytes" and "sha256".
        input_sha256: of the scan's files, None when they could not be read; with --deidentify under the key.
        model_sha256: of the model that segmented it.
        settings: what else the outputs depend on, as in `Settings`.
        medseg: the version that made them, which DICOM outputs name.
    """

    case_id: str
    input: str
    status: str = "ok"
    error: dict[str, str] | None = None
    warnings: list[dict[str, str]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    volumes_ml: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_ram_mb: int = 0
    peak_gpu_mb: int | None = None
    series_uid: str | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    input_sha256: str | None = None
    model_sha256: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    medseg: str | None = None

    @property
    def failed(self) -> bool:
        """Whether there is an error."""
        return self.error is not None

    def fail(self, error: MedsegError) -> None:
        """Record an error."""
        self.status = "failed"
        self.error = error.as_json()

    def warn(self, *remarks: Remark) -> None:
        """Record what is worth knowing."""
        self.warnings += [remark.as_json() for remark in remarks]

    def messages(self) -> list[str]:
        """Return what there is to say about the case: its warnings and its error, each with the case id and a code."""
        return [f"{self.case_id}: {m['code']} {m['message']}" for m in (*self.warnings, self.error) if m]

    def hide(self, folders: list[str]) -> None:
        """Take the names of folders, of those in zips too, out of the messages; a file keeps its own."""
        for message in filter(None, (*self.warnings, self.error)):
            text = message["message"]
            for folder in sorted(folders, key=len, reverse=True):
                text = text.replace(folder, "")
            message["message"] = ABSOLUTE.sub("", QUOTED.sub(r"\1\2\1", text))

    def as_json(self) -> dict[str, Any]:
        """Return the line of results.jsonl."""
        return asdict(self)

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> "CaseResult":
        """Build a result from a line of results.jsonl; what other versions add or lack is left out.

        Raises:
            TypeError: the line is none of a case.
        """
        if not isinstance(line, dict) or not all(isinstance(line.get(key), str) for key in ("case_id", "input")):
            raise TypeError
        if not all(isinstance(name, str) for name in line.get("outputs", [])):
            raise TypeError
        return cls(**{known.name: line[known.name] for known in fields(cls) if known.name in line})

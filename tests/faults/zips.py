"""Zips of DICOM that are wrong, or dangerous."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from faults.dicom import write
from faults.fault import fault
from faults.nifti import Make, scan
from medseg.volume import Volume


def pack(path: Path, files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def packed(
    change: Callable[[bytes], bytes] = bytes,
    *,
    prefix: str = "",
    extra: dict[str, bytes] | None = None,
    method: int = zipfile.ZIP_DEFLATED,
) -> Make:
    """Return what writes a zip of a series, and then changes its bytes."""

    def make(folder: Path, volume: Volume) -> None:
        slices = write(folder, volume)
        files = {f"{prefix}{file.name}": file.read_bytes() for file in slices}
        for file in slices:
            file.unlink()
        path = pack(scan(folder, ".zip"), {**files, **(extra or {})}, method=method)
        path.write_bytes(change(path.read_bytes()))

    return make


def encrypted(data: bytes) -> bytes:
    """Mark the first member as encrypted."""
    changed = bytearray(data)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[data.index(mark) + at] |= 1
    return bytes(changed)


def boasting(data: bytes) -> bytes:
    """Let each member say that it unpacks to 4 GB."""
    changed = bytearray(data)
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        changed[at + 24 : at + 28] = b"\xf0\xff\xff\xff"
        at = data.find(b"PK\x01\x02", at + 4)
    return bytes(changed)


def damaged(data: bytes) -> bytes:
    """Change a byte of the first member."""
    return data[:200] + bytes([data[200] ^ 255]) + data[201:]


def linked(folder: Path, _: Volume) -> None:
    """Write a zip that holds a link."""
    link = zipfile.ZipInfo("slice.dcm")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(scan(folder, ".zip"), "w") as archive:
        archive.writestr(link, "/etc/passwd")


def within(folder: Path, volume: Volume) -> None:
    """Write a zip in a zip."""
    packed()(folder, volume)
    path = scan(folder, ".zip")
    pack(path, {"inner.zip": path.read_bytes()})


def of_text(folder: Path, _: Volume) -> None:
    """Write a zip that holds no scan."""
    pack(scan(folder, ".zip"), {"notes.txt": b"no scan"})


ZIPS = [
    fault("zip", packed()),
    fault("zip of folders", packed(prefix="DICOM/PA 1/")),
    fault("zip with a mac's shadow files", packed(extra={"__MACOSX/._000.dcm": b"x", ".DS_Store": b"x"})),
    fault("zip cut", packed(lambda data: data[: len(data) // 2]), "E_ARCHIVE"),
    fault("zip damaged within", packed(damaged), "E_ARCHIVE"),
    fault("zip encrypted", packed(encrypted), "E_ARCHIVE"),
    fault("zip bomb", packed(boasting), "E_ARCHIVE"),
    fault("zip that climbs out", packed(extra={"../../evil.dcm": b"x"}), "E_ARCHIVE"),
    fault("zip of an absolute path", packed(extra={"/etc/evil.dcm": b"x"}), "E_ARCHIVE"),
    fault("zip with a link", linked, "E_ARCHIVE"),
    fault("zip in a zip", within, "E_EMPTY_FOLDER", cases=0),
    fault(
        "zip of text",
        lambda folder, _: pack(scan(folder, ".zip"), {"notes.txt": b"no scan"}),
        "E_EMPTY_FOLDER",
        cases=0,
    ),
]

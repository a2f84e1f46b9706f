"""Read the names of labels that an image file carries in its header."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import nibabel as nib

from medseg.labels import Label, LabelSet, colour_of, tidy
from medseg.volume.read.detached import is_nrrd, read_header
from medseg.volume.write.nifti import CARET, PARTS

SEGMENT = re.compile(r"segment(\d+)_name")

# Id → its name and its parts.
Named = dict[int, tuple[str, tuple[int, ...]]]


def labels_in_image(path: Path) -> LabelSet | None:
    """Return the labels that a NIfTI file (as Connectome Workbench has them) or a NRRD file (as 3D Slicer) names.

    Names that stand at two ids get the id behind them. None where the header names nothing, or cannot be read: that
    is for those to say who want its voxels.
    """
    try:
        named = _in_nrrd(path) if is_nrrd(path) else _in_nifti(path)
    except Exception:  # of zlib, nibabel, expat…: a damaged header may raise anything
        return None
    named.pop(0, None)
    taken: set[str] = set()
    labels = []
    for id_, (text, parts) in named.items():
        name = tidy(text) or f"label_{id_}"
        name = f"{name}_{id_}" if name in taken else name
        taken.add(name)
        labels.append(Label(id_, name, parts, colour_of(name, id_)))
    known = {0, *(part for label in labels for part in (label.id, *label.parts))}
    return LabelSet(tuple(labels), frozenset(known)) if labels else None


def _in_nifti(path: Path) -> Named:
    named: Named = {}
    for extension in nib.load(path).header.extensions:
        if extension.get_code() == CARET:
            root = ET.fromstring(bytes(extension.content).rstrip(b"\0 "))
            parts = {
                int(id_): tuple(int(part) for part in ids)
                for entry in root.iterfind("VolumeInformation/MetaData/MD")
                if entry.findtext("Name") == PARTS
                for id_, ids in json.loads(entry.findtext("Value") or "{}").items()
            }
            for label in root.iterfind("VolumeInformation/LabelTable/Label"):
                id_ = int(label.attrib["Key"])
                named[id_] = (label.text or "", parts.get(id_, (id_,)))
    return named


def _in_nrrd(path: Path) -> Named:
    with path.open("rb") as file:
        header = read_header(file, path, True)
    named: Named = {}
    for key, value in header.items():
        if match := SEGMENT.fullmatch(key):
            id_ = int(header[f"segment{match[1]}_labelvalue"].removeprefix("="))
            named[id_] = (value.removeprefix("=").encode("latin-1").decode(errors="replace"), (id_,))
    return named

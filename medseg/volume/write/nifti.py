"""Write NIfTI-1 files with nibabel, deflated by isal."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from medseg.labels import LabelSet
from medseg.volume.geometry import Geometry

# isal's levels run from 0 to 3; 2 writes label maps 4 times faster than zlib's default at the same size.
GZIP_LEVEL = 2
SCANNER = 1
MILLIMETRES_AND_SECONDS = ("mm", "sec")
# nifti1.h: the voxels are indices into a set of labels.
INTENT_LABEL = 1002
# The extension that Connectome Workbench reads names and colours from, and TotalSegmentator writes them to.
CARET = 30
# The entry in it that tells which ids make up a label, where a label has several.
PARTS = "medseg parts"
# An extension's length, with 8 bytes of its own header, is a multiple of this.
EXTENSION_BYTES = 16


def save_nifti(array: NDArray[Any], geometry: Geometry, path: Path, labels: LabelSet | None = None) -> None:
    """Write channels, shape (C, I, J, K), as a 3D file, or a 4D one when C is above 1.

    Names and colours of labels go into an extension of the header. The sform holds the affine exactly (in float32, as
    every NIfTI file does); the qform the nearest rotation, for readers that prefer it.
    """
    voxels = array[0] if len(array) == 1 else np.moveaxis(array, 0, 3)
    image = nib.Nifti1Image(voxels, None, dtype=voxels.dtype)  # nibabel wants int64 to be asked for
    image.set_qform(geometry.affine, SCANNER)
    image.set_sform(geometry.affine, SCANNER)
    image.header.set_xyzt_units(*MILLIMETRES_AND_SECONDS)
    if labels is not None:
        image.header.set_intent(INTENT_LABEL)
        image.header.extensions.append(nib.nifti1.Nifti1Extension(CARET, label_table(labels)))
    data = image.to_bytes()
    path.write_bytes(igzip.compress(data, GZIP_LEVEL, mtime=0) if path.name.lower().endswith(".gz") else data)


def label_table(labels: LabelSet) -> bytes:
    """Return names and colours as Connectome Workbench's XML, ended by spaces where nibabel would put null bytes."""
    root = ET.Element("CaretExtension")
    volume = ET.SubElement(root, "VolumeInformation", Index="0")
    table = ET.SubElement(volume, "LabelTable")
    for label in labels:
        red, green, blue = (f"{part / 255:.6g}" for part in label.colour)
        entry = ET.SubElement(table, "Label", Key=str(label.id), Red=red, Green=green, Blue=blue, Alpha="1")
        entry.text = label.name
    ET.SubElement(volume, "VolumeType").text = "Label"
    if any(label.parts != (label.id,) for label in labels):
        entry = ET.SubElement(ET.SubElement(volume, "MetaData"), "MD")
        ET.SubElement(entry, "Name").text = PARTS
        ET.SubElement(entry, "Value").text = json.dumps({label.id: label.parts for label in labels})
    xml: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return xml + b" " * (-(len(xml) + 8) % EXTENSION_BYTES)

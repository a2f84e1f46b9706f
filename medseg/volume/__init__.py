"""Scans: voxels that never travel without their grid."""

from medseg.volume.dicom.series import Series
from medseg.volume.find import Found, find_label_map, find_source, find_sources, look_through, tell_apart
from medseg.volume.geometry import Geometry
from medseg.volume.label_map import LabelMap
from medseg.volume.read.names import names_in, shared_labels
from medseg.volume.read.numbering import completed, numbered
from medseg.volume.read.reference import read_pair, read_reference
from medseg.volume.read.scan import read_label_map, read_volume
from medseg.volume.resample import resample
from medseg.volume.source import Source
from medseg.volume.turn import turn
from medseg.volume.volume import Volume
from medseg.volume.write import write_image
from medseg.volume.write.rtstruct import write_rtstruct
from medseg.volume.write.seg import write_seg

__all__ = [
    "Found",
    "Geometry",
    "LabelMap",
    "Series",
    "Source",
    "Volume",
    "completed",
    "find_label_map",
    "find_source",
    "find_sources",
    "look_through",
    "names_in",
    "numbered",
    "read_label_map",
    "read_pair",
    "read_reference",
    "read_volume",
    "resample",
    "shared_labels",
    "tell_apart",
    "turn",
    "write_image",
    "write_rtstruct",
    "write_seg",
]

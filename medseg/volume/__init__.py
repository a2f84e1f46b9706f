"""Scans: voxels that never travel without their grid."""

from medseg.volume.find import find_source, find_sources
from medseg.volume.geometry import Geometry
from medseg.volume.label_map import LabelMap
from medseg.volume.read.scan import read_label_map, read_volume
from medseg.volume.resample import resample
from medseg.volume.source import Source
from medseg.volume.turn import turn
from medseg.volume.volume import Volume
from medseg.volume.write import write_image

__all__ = [
    "Geometry",
    "LabelMap",
    "Source",
    "Volume",
    "find_source",
    "find_sources",
    "read_label_map",
    "read_volume",
    "resample",
    "turn",
    "write_image",
]

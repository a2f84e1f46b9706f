"""Seconds and bytes of DICOM SEG and RTSTRUCT, written and read back.

    python benchmarks/annotations.py SERIES

SERIES is a folder with a DICOM series of CT slices. Twenty overlapping ellipsoids are cut into its body, so that their
outlines follow real anatomy; what is read back has to equal them voxel for voxel.
"""

import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from medseg.labels import LabelSet
from medseg.volume import LabelMap, Volume, find_source, read_reference, read_volume, write_rtstruct, write_seg

LABELS, ROUNDS = 20, 3
WRITERS = {
    "a.seg.dcm": ("SEG, binary", partial(write_seg, kind="binary")),
    "b.seg.dcm": ("SEG, label map", partial(write_seg, kind="labelmap")),
    "c.rtstruct.dcm": ("RTSTRUCT", write_rtstruct),
}


def main() -> None:
    """Write, read and compare, and print a line for each form."""
    source = find_source(Path(sys.argv[1]))
    volume = read_volume(source)
    label_map, labels = made_up(volume), LabelSet.from_ids(range(1, LABELS + 1))
    print(f"{' × '.join(map(str, volume.geometry.shape))} voxels, {LABELS} labels, median of {ROUNDS}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (form, write) in WRITERS.items():
            path = Path(folder, name)
            written, read = [], []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                write(label_map, source.series, labels, path)
                written.append(time.perf_counter() - began)
                began = time.perf_counter()
                again = read_reference(path, geometry=volume.geometry, labels=labels)
                read.append(time.perf_counter() - began)
                if not np.array_equal(again.array, label_map.array):
                    raise SystemExit(f"{form}: what was read back differs")
            times = f"written in {statistics.median(written):.2f} s, read in {statistics.median(read):.2f} s"
            print(f"  {form:<15} {times}, {path.stat().st_size / 1e6:.1f} MB")


def made_up(volume: Volume) -> LabelMap:
    """Return ellipsoids in a row through the body, later ones over earlier ones, and nothing in air."""
    i, j, k = np.indices(volume.geometry.shape, sparse=True)
    ni, nj, nk = volume.geometry.shape
    ids = np.zeros(volume.geometry.shape, np.uint8)
    for number in range(1, LABELS + 1):
        centre = ni * (0.15 + 0.7 * number / LABELS)
        inside = ((i - centre) / (0.12 * ni)) ** 2 + ((j - nj / 2) / (0.12 * nj)) ** 2 + ((k - nk / 2) / (nk / 2)) ** 2
        ids[inside < 1] = number
    ids[volume.array[0] < 0] = 0
    return LabelMap(ids, volume.geometry)


if __name__ == "__main__":
    main()

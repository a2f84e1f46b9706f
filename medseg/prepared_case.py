"""PreparedCase: a scan as training reads it, with or without labels."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.atomic import whole, write_json
from medseg.volume import Geometry

LABEL_MAP, POINTS, LABELLED = "label_map.npy", "points.npy", "labelled.npy"


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A scan and its reference, where it has one, on the prepared grid.

    Attributes:
        case_id: its id.
        image: float32, shape (C, I, J, K), prepared.
        label_map: the dataset's label ids at the same voxels, shape (I, J, K); 0 everywhere in a case without labels,
            where it takes no space.
        points_voxel: some voxels of each label, in the order of the label set: one int32 array (n, 3) per label; n is 0
            where the case lacks it.
        geometry: the prepared grid.
        native: the scan's own grid, to which predictions return.
        present: whether the case has each label, in the same order; where not, its voxels are unknown, not background.
        labelled_voxel: some of the voxels that are labelled, background or not, int32 (n, 3), where others are not;
            None where all voxels are.
    """

    case_id: str
    image: NDArray[np.float32]
    label_map: NDArray[np.unsignedinteger[Any]]
    points_voxel: tuple[NDArray[np.int32], ...]
    geometry: Geometry
    native: Geometry
    present: tuple[bool, ...]
    labelled_voxel: NDArray[np.int32] | None = None

    def save(self, folder: Path) -> None:
        """Write the case to a folder of .npy files, which appears whole."""
        with whole(folder) as temporary:
            temporary.mkdir(parents=True)
            np.save(temporary / "image.npy", self.image)
            if self.present:
                np.save(temporary / LABEL_MAP, self.label_map)
            if self.points_voxel:  # in one file, which is opened for each patch that is drawn
                np.save(temporary / POINTS, np.concatenate(self.points_voxel))
            if self.labelled_voxel is not None:
                np.save(temporary / LABELLED, self.labelled_voxel)
            grids = {"geometry": self.geometry.as_json(), "native": self.native.as_json()}
            counts = [len(points) for points in self.points_voxel]
            facts = {"case_id": self.case_id, **grids, "present": self.present, "points": counts}
            write_json(temporary / "case.json", facts)

    @classmethod
    def load(cls, folder: Path) -> "PreparedCase":
        """Read what `save` wrote; the arrays are memory maps."""
        facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        ends = np.cumsum(facts["points"], dtype=np.intp)
        image: NDArray[np.float32] = np.load(folder / "image.npy", mmap_mode="r")
        labelled = bool(facts["present"])
        return cls(
            case_id=facts["case_id"],
            image=image,
            label_map=np.load(folder / LABEL_MAP, mmap_mode="r") if labelled else unlabelled(image.shape[1:]),
            points_voxel=tuple(np.split(np.load(folder / POINTS, mmap_mode="r"), ends[:-1])) if len(ends) else (),
            geometry=Geometry.from_json(facts["geometry"]),
            native=Geometry.from_json(facts["native"]),
            present=tuple(facts["present"]),
            labelled_voxel=np.load(folder / LABELLED) if (folder / LABELLED).is_file() else None,
        )


def unlabelled(shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return the label map of a case without labels: one 0, seen at every voxel."""
    return np.broadcast_to(np.uint8(0), tuple(shape))

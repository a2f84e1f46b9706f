"""Facts: what a dataset is like, as far as a recipe depends on it. nnU-Net calls it the dataset's fingerprint."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medseg.axes import Sides
from medseg.modality import is_magnetic

Spacing = tuple[float, float, float]
# World coordinates, to the right, the front and the head.
Point = tuple[float, float, float]


@dataclass(frozen=True)
class LabelFacts:
    """One label in one case.

    Attributes:
        voxels: how many show it, at least 1.
        volume_ml: the same in millilitres.
        components: connected parts (sharing faces).
        thickness_mm: four times volume by surface, which is the diameter of a long cylinder.
        centre_mm: where its voxels lie in the mean.
    """

    voxels: int
    volume_ml: float
    components: int
    thickness_mm: float
    centre_mm: Point


@dataclass(frozen=True)
class CaseFacts:
    """One case, its axes turned to RAS.

    Attributes:
        case_id: the case.
        shape: voxels along I, J and K.
        inside: the same of the box that is left when margins that hold nothing are cut off.
        labelled: the same of the box around everything labelled; 0 where nothing is.
        spacing_mm: between voxel centres along I, J and K.
        middle_mm: where the middle of the scan lies.
        hounsfield: whether its intensities may be Hounsfield units.
        labels: name → what the case shows of it; labels that it does not show are left out.
    """

    case_id: str
    shape: Sides
    inside: Sides
    labelled: Sides
    spacing_mm: Spacing
    middle_mm: Point
    hounsfield: bool
    labels: dict[str, LabelFacts]


@dataclass(frozen=True)
class Intensities:
    """One channel's intensities inside the labels, every label of every case alike.

    Attributes:
        low: the 0.5th percentile.
        median: the 50th.
        high: the 99.5th.
    """

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Facts:
    """A dataset.

    Attributes:
        name: the dataset's.
        manifest: the shipped manifest that it is; None where it brings its own.
        modalities: what each channel was taken with.
        labels: the names of all its labels, background left out.
        cases: those that can be read, at least one.
        intensities: for each channel; empty where no case shows a label.
        partial: whether labels were drawn in some cases only.
        masked: whether that is so, or some voxels may be anything.
        fold: the first that training can hold out; None where there is none, and every case is trained on.
        held_out: how many cases are scored after it.
        left_out: case id → why it cannot be used.
        seconds: how long it took to read the cases.
    """

    name: str
    manifest: str | None
    modalities: tuple[str, ...]
    labels: tuple[str, ...]
    cases: tuple[CaseFacts, ...]
    intensities: tuple[Intensities, ...]
    partial: bool
    masked: bool
    fold: int | None
    held_out: int
    left_out: dict[str, str]
    seconds: float

    @property
    def found(self) -> tuple[str, ...]:
        """The labels that at least one case shows, in the dataset's order."""
        shown = {name for case in self.cases for name in case.labels}
        return tuple(name for name in self.labels if name in shown)

    @property
    def tomograms(self) -> bool:
        """Whether every channel is a CT."""
        return all(name.strip().upper() == "CT" for name in self.modalities)

    @property
    def magnetic(self) -> bool:
        """Whether a channel is an MR image."""
        return any(map(is_magnetic, self.modalities))

    def spacings_mm(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the cases' spacings, shape (cases, 3)."""
        return np.array([case.spacing_mm for case in self.cases], np.float64)

    def extents_mm(self, *, cropped: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the lengths of the cases' sides, shape (cases, 3), without their margins or with them."""
        shapes = np.array([case.inside if cropped else case.shape for case in self.cases], np.float64)
        return shapes * self.spacings_mm()

    def median_extent_mm(self, *, cropped: bool) -> Spacing:
        """Return the median lengths of the sides, without the margins or with them."""
        i, j, k = (float(side) for side in np.median(self.extents_mm(cropped=cropped), axis=0))
        return i, j, k

    def thickness_mm(self) -> dict[str, float]:
        """Return label → its median thickness over the cases that show it."""
        return {
            name: float(np.median([case.labels[name].thickness_mm for case in self.cases if name in case.labels]))
            for name in self.found
        }

    def labelled_share(self) -> float:
        """Return which part of a case's box is labelled, the median over the cases; 0 to 1."""
        shares = [sum(label.voxels for label in case.labels.values()) / np.prod(case.inside) for case in self.cases]
        return min(1.0, float(np.median(shares)))

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return asdict(self)

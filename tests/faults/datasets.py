"""Datasets whose cases, labels or lists are wrong."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from phantoms import house_label_map, house_volume, save_nifti

CASES = 10
LABELS = {0: "background", 1: "spleen", 2: "liver", 5: "aorta"}

Listing = dict[str, Any]
Change = Callable[[Path, Listing], object]


@dataclass(frozen=True)
class DatasetFault:
    """One faulty dataset of ten cases, "c0" to "c9".

    Attributes:
        name: says it in a few words; its folder is called so.
        change: makes it wrong: given its folder and its listing, which is written afterwards.
        codes: case id → codes with spaces between them; the id is None for the whole dataset.
    """

    name: str
    change: Change
    codes: dict[str | None, str] = field(default_factory=dict)

    def make_in(self, root: Path) -> Path:
        """Write it into a folder of its own, and return that."""
        folder = root / self.name
        entries = []
        for number in range(CASES):
            name = f"c{number}.nii.gz"
            for part in ("imagesTr", "labelsTr"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            volume, labels = house_volume(seed=number), house_label_map()
            save_nifti(folder / "imagesTr" / name, volume.array[0], volume.geometry.affine)
            save_nifti(folder / "labelsTr" / name, labels.array, labels.geometry.affine)
            entries.append({"image": f"imagesTr/{name}", "label": f"labelsTr/{name}", "fold": number % 5})
        listing = {"name": self.name, "modality": {0: "CT"}, "labels": LABELS, "training": entries, "test": []}
        self.change(folder, listing)
        if listing:
            (folder / "dataset.json").write_text(json.dumps(listing))
        return folder


def image(folder: Path, number: int) -> Path:
    """Return where a case's image lies."""
    return folder / "imagesTr" / f"c{number}.nii.gz"


def label(folder: Path, number: int) -> Path:
    """Return where a case's label map lies."""
    return folder / "labelsTr" / f"c{number}.nii.gz"


def drawn(change: Callable[[NDArray[np.uint8]], NDArray[Any]], *numbers: int, shift_mm: float = 0) -> Change:
    """Return what changes the label maps of some cases, of the third where none is named."""

    def apply(folder: Path, _: Listing) -> None:
        for number in numbers or (3,):
            old = nib.load(label(folder, number))
            affine = old.affine.copy()
            affine[0, 3] += shift_mm
            save_nifti(label(folder, number), change(np.asarray(old.dataobj)), affine)

    return apply


def holding(value: float) -> Change:
    """Return what puts one value into the label map of the third case, as a float."""

    def change(array: NDArray[np.uint8]) -> NDArray[np.float32]:
        changed = array.astype(np.float32)
        changed[0, 0, 0] = value
        return changed

    return drawn(change)


def same(*numbers: int) -> Change:
    """Return what gives some cases the image of the first."""
    return lambda folder, _: [image(folder, number).write_bytes(image(folder, 0).read_bytes()) for number in numbers]


def listed(number: int, **entry: Any) -> Change:
    """Return what changes a case's entry."""
    return lambda _, listing: listing["training"][number].update(entry)


def without(number: int, *keys: str) -> Change:
    """Return what takes something out of a case's entry."""
    return lambda _, listing: [listing["training"][number].pop(key) for key in keys]


def whole(**entries: Any) -> Change:
    """Return what changes the listing."""
    return lambda _, listing: listing.update(entries)


def reoriented(folder: Path, _: Listing) -> None:
    """Write a label map in another order of its axes, which is sound."""
    nib.save(nib.as_closest_canonical(nib.load(label(folder, 3))), label(folder, 3))


def garbled(folder: Path, listing: Listing) -> None:
    """Write a list that is no JSON."""
    listing.clear()
    (folder / "dataset.json").write_text('{"name": "x", ')


def four_volumes(folder: Path, _: Listing) -> None:
    """Give a case four volumes."""
    old = nib.load(image(folder, 3))
    save_nifti(image(folder, 3), np.stack([np.asarray(old.dataobj)] * 4, axis=3), old.affine)


def normalised(folder: Path, _: Listing) -> None:
    """Normalise a case."""
    old = nib.load(image(folder, 3))
    save_nifti(image(folder, 3), (np.asarray(old.dataobj) / 1000).astype(np.float32), old.affine)


def cut(folder: Path, _: Listing) -> None:
    """Cut an image and a label map."""
    for path in (image(folder, 3), label(folder, 4)):
        path.write_bytes(path.read_bytes()[:-9])


DATASETS = [
    DatasetFault("sound", whole()),
    DatasetFault("sound without folds", lambda _, d: [entry.pop("fold") for entry in d["training"]]),
    DatasetFault("sound with labels in another order", reoriented),
    DatasetFault("sound with labels of whole floats", drawn(lambda labels: labels.astype(np.float32))),
    DatasetFault("sound MR", whole(modality={0: "MRI"})),
    DatasetFault("image missing", lambda folder, _: image(folder, 3).unlink(), {"c3": "E_MISSING"}),
    DatasetFault("label map missing", lambda folder, _: label(folder, 3).unlink(), {"c3": "E_MISSING"}),
    DatasetFault("label map not named", without(3, "label"), {"c3": "E_MANIFEST"}),
    DatasetFault("both damaged", cut, {"c3": "E_CORRUPT", "c4": "E_CORRUPT"}),
    DatasetFault("image of four volumes", four_volumes, {"c3": "E_DIMENSIONS"}),
    DatasetFault("image normalised", normalised, {"c3": "W_NOT_HU"}),
    DatasetFault("label map elsewhere", drawn(np.array, shift_mm=2), {"c3": "E_GRID_MISMATCH"}),
    DatasetFault("label map of another shape", drawn(lambda labels: labels[1:]), {"c3": "E_GRID_MISMATCH"}),
    DatasetFault("unknown id", holding(7), {"c3": "E_UNKNOWN_LABEL"}),
    DatasetFault("mask of 0 and 255", drawn(lambda labels: (labels > 0) * np.uint8(255)), {"c3": "E_UNKNOWN_LABEL"}),
    DatasetFault("fractional", holding(0.5), {"c3": "E_FRACTIONAL_LABEL"}),
    DatasetFault("below zero", holding(-1), {"c3": "E_FRACTIONAL_LABEL"}),
    DatasetFault("label map with nan", holding(np.nan), {"c3": "E_NOT_FINITE"}),
    DatasetFault("all background", drawn(np.zeros_like), {"c3": "W_NO_LABEL"}),
    DatasetFault("label lacking in a fold", drawn(lambda labels: labels * (labels != 5), 1, 6),
                 {None: "W_LABEL_NOT_IN_FOLD"}),
    DatasetFault("label too rare for every fold", drawn(lambda labels: labels * (labels != 5), 0, 1, 2, 3, 4, 5)),
    DatasetFault("same scan in one fold", same(5), {"c5": "W_SAME_SCAN_TWICE"}),
    DatasetFault("same scan in two folds", same(1, 5), {"c1": "E_SCAN_IN_TWO_FOLDS", "c5": "W_SAME_SCAN_TWICE"}),
    DatasetFault("patient in two folds", lambda _, d: [d["training"][n].update(patient_id="p") for n in (0, 1)],
                 {None: "E_PATIENT_IN_TWO_FOLDS"}),
    DatasetFault("patient in training and test", whole(test=["imagesTs/c3.nii.gz"]),
                 {"c3": "E_PATIENT_IN_TWO_FOLDS"}),
    DatasetFault("one id twice", listed(3, case_id="c4"), {None: "E_DUPLICATE_CASE"}),
    DatasetFault("fold lacking in an entry", without(3, "fold"), {None: "E_MANIFEST"}),
    DatasetFault("checksum of another file", listed(3, sha256={"image": "0" * 64}), {"c3": "E_CHECKSUM"}),
    DatasetFault("no cases", whole(training=[]), {None: "E_NO_CASES"}),
    DatasetFault("no labels", lambda _, listing: listing.pop("labels"), {None: "E_MANIFEST"}),
    DatasetFault("list that is no json", garbled, {None: "E_MANIFEST"}),
]  # fmt: skip

"""Manifest: which cases a dataset has, and what its labels mean.

The form is the Medical Segmentation Decathlon's `dataset.json` (name, modality, labels, training, test), and its files
are read as they were published. medseg's own manifests add to each case `case_id`, `patient_id`, `fold` and `sha256`.
A `dataset.json` of nnU-Net says the same in other words (`nnunet.py`).

A dataset may be labelled in part: a case with `labels_present` lacks the other labels, whose voxels are 0 there as
background is; and voxels with an id of `ignore` are not labelled.
"""

import json
import re
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from medseg.choose import suggestion
from medseg.complaints import complaints, keys_of
from medseg.errors import ManifestError, MissingFileError
from medseg.labels import ORGAN_COLOURS, LabelSet, alike, tidy
from medseg.nnunet import NnUNetListing, is_nnunet
from medseg.volume.source import stem

M = TypeVar("M", bound=BaseModel)

# What a dataset's folder calls its manifest.
LISTING = "dataset.json"
# Other programs' keys are passed over, unless they are this much like one of ours (difflib): `label_present`, but not
# `patient_age`.
MISSPELT = 0.8
# SHA-256 as it is written.
CHECKSUM = re.compile(r"[0-9a-fA-F]{64}")
# What 16 bits hold.
HIGHEST_ID = 65535


def _own(kind: type[BaseModel], entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry without other programs' keys; misspelt ones of ours stay, and will be refused."""
    keys = keys_of(kind)
    return {key: value for key, value in entry.items() if key in keys or suggestion(key, keys, likeness=MISSPELT)}


class Case(BaseModel):
    """One scan with its reference: the unit of scoring.

    Paths are relative to the dataset's folder. `labels_present` names the labels that the reference has, where it lacks
    some; None is all of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: tuple[str, ...]
    label: str | None = None
    case_id: str = ""
    patient_id: str = ""
    fold: int | None = Field(default=None, ge=0)
    labels_present: tuple[str, ...] | None = None
    sha256: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """Accept the Decathlon's forms: an entry is a path, or has one path as its image, and no ids."""
        if isinstance(value, cls):
            return value
        entry = dict(value) if isinstance(value, dict) else {"image": value}
        images = entry.get("image")
        images = [images] if isinstance(images, str) else images
        if not isinstance(images, list | tuple) or not images or not all(isinstance(path, str) for path in images):
            raise ValueError("a case needs an image: a path, or a list of paths")
        entry["image"] = tuple(images)
        entry.setdefault("case_id", stem(Path(images[0])))
        entry.setdefault("patient_id", entry["case_id"])
        return _own(cls, entry)

    @field_validator("case_id")
    @classmethod
    def _names_a_file(cls, value: str) -> str:
        if not value or "/" in value or "\\" in value or min(value) < " ":
            raise ValueError("a case id names the case's results, so it is not empty, and has no slash or line break")
        return value

    @model_validator(mode="after")
    def _checksum_of_one_file(self) -> Self:
        if "image" in self.sha256 and len(self.image) > 1:
            raise ValueError("sha256: that of the image is one file's, and the image has several")
        return self

    @field_validator("sha256")
    @classmethod
    def _are_checksums(cls, value: dict[str, str]) -> dict[str, str]:
        for what, checksum in value.items():
            if what not in ("image", "label"):
                raise ValueError(f"it is that of the image and of the label, and {what!r} is neither")
            if not CHECKSUM.fullmatch(checksum):
                raise ValueError(f"that of the {what} is {checksum!r}, and not 64 hexadecimal digits")
        return {what: checksum.lower() for what, checksum in value.items()}

    @field_validator("labels_present")
    @classmethod
    def _has_some(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value == ():
            raise ValueError("it names no label, so there is nothing to learn from the case: leave it out")
        return value


class Manifest(BaseModel):
    """A dataset: names, labels and cases.

    `training` holds the cases with a reference. A shipped manifest may leave it empty: the cases are then those of the
    published `dataset.json`, once its folder is given. `ignore` lists the ids of voxels that are not labelled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str = ""
    licence: str = ""
    reference: str = ""
    address: str = ""
    md5: str = ""
    modality: dict[int, str]
    labels: dict[int, str]
    ignore: tuple[int, ...] = ()
    num_training: int = Field(default=0, alias="numTraining")
    num_test: int = Field(default=0, alias="numTest")
    training: tuple[Case, ...] = ()
    test: tuple[Case, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_others_too(cls, value: Any) -> Any:
        """Accept lists with keys of other programs."""
        if not isinstance(value, dict):
            return value
        entry = dict(value)
        if "license" in entry:
            entry.setdefault("licence", entry.pop("license"))
        return _own(cls, entry)

    @field_validator("modality")
    @classmethod
    def _has_channels(cls, value: dict[int, str]) -> dict[int, str]:
        if not value:
            raise ValueError('it names no channel; an image has at least one, such as {"0": "CT"}')
        return value

    @field_validator("labels")
    @classmethod
    def _are_ids(cls, value: dict[int, str]) -> dict[int, str]:
        for id_, name in value.items():
            if not 0 <= id_ <= HIGHEST_ID:
                raise ValueError(f"{id_} ({name!r}) is no id of a label map, which are 0 to {HIGHEST_ID}")
            if id_ != 0 and not tidy(name):
                raise ValueError(f"the label {id_} has no name")
            if id_ == 0 and tidy(name) in ORGAN_COLOURS:
                raise ValueError(f"0 is background, and cannot be {name!r}: give that an id of its own")
        return value

    @field_validator("labels")
    @classmethod
    def _differ(cls, value: dict[int, str]) -> dict[int, str]:
        if found := alike(name for id_, name in value.items() if id_ != 0):
            raise ValueError(f"{found[0]!r} and {found[1]!r} are one name for two labels")
        return value

    @field_validator("ignore")
    @classmethod
    def _name_no_label(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        labels = {0: "background"} | info.data.get("labels", {})
        for id_ in value:
            if id_ in labels:
                raise ValueError(f"{id_} is {labels[id_]!r}; voxels that are not labelled need an id of their own")
            if not 0 < id_ <= HIGHEST_ID:
                raise ValueError(f"{id_} is no id of a label map, which are 1 to {HIGHEST_ID}")
        return value

    @field_validator("training", "test")
    @classmethod
    def _have_known_labels(cls, value: tuple[Case, ...], info: ValidationInfo) -> tuple[Case, ...]:
        known = {tidy(name) for id_, name in info.data.get("labels", {}).items() if id_ != 0}
        for case in value:
            for name in case.labels_present or ():
                if tidy(name) not in known:
                    near = suggestion(tidy(name), known) or f"there is {', '.join(sorted(known)) or 'none'}"
                    raise ValueError(f"case {case.case_id} has the label {name!r} present, which is none; {near}")
        return value

    @property
    def modalities(self) -> tuple[str, ...]:
        """What each channel was taken with, in their order."""
        return tuple(name for _, name in sorted(self.modality.items()))

    @property
    def channels(self) -> int:
        """How many channels each image has."""
        return len(self.modality)

    @property
    def label_set(self) -> LabelSet:
        """The labels, background left out."""
        return LabelSet.from_names(self.labels).ignoring(self.ignore)

    def labels_of(self, case: Case) -> LabelSet:
        """Return the labels that a case's reference has; it may not hold the ids of others."""
        return self.label_set if case.labels_present is None else self.label_set.only(case.labels_present)

    @property
    def partial(self) -> dict[str, LabelSet]:
        """Case id → the labels that its reference has, for the cases that name them.

        A reference's own name stands for its case, too, unless that is the id of another.
        """
        every = (*self.training, *self.test)
        drawn = {case.case_id: self.labels_of(case) for case in every if case.labels_present is not None}
        references = {stem(Path(case.label)): case.case_id for case in every if case.label and case.case_id in drawn}
        ids = {case.case_id for case in every}
        return drawn | {name: drawn[case_id] for name, case_id in references.items() if name not in ids}


def read_manifest(path: Path) -> Manifest:
    """Read a manifest or a dataset.json, the Decathlon's or nnU-Net's.

    One without a name is called after its folder, or its file where that is no dataset.json.

    Raises:
        MissingFileError: no such file.
        ManifestError: no JSON, or fields are missing, misspelt or of the wrong kind; the message names them.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"reading {path}", found="there is no such file", remedy="give a dataset.json or a manifest"
        ) from error
    except (ValueError, OSError) as error:
        raise ManifestError(f"reading {path}", found=str(error), remedy="give a JSON manifest") from error
    if isinstance(value, dict):
        value = {"name": path.resolve().parent.name if path.name == LISTING else path.stem, **value}
    if is_nnunet(value):
        value |= _checked(NnUNetListing, value, path).as_manifest(path.parent)
    return _checked(Manifest, value, path)


def _checked(kind: type[M], value: Any, path: Path) -> M:
    """Return what a file says as what it should be, or raise ManifestError with all that is wrong."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ManifestError(f"reading {path}", found=complaints(error, kind), remedy="correct it there") from error

"""Manifest: which cases a dataset has, and what its labels mean.

The form is the Medical Segmentation Decathlon's `dataset.json` (name, modality, labels, training, test), and its files
are read as they were published. medseg's own manifests add to each case `case_id`, `patient_id`, `fold` and `sha256`.

A dataset may be labelled in part: a case with `labels_present` lacks the other labels, whose voxels are 0 there as
background is; and voxels with an id of `ignore` are not labelled.
"""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from medseg.choose import suggestion
from medseg.errors import ManifestError, MissingFileError
from medseg.labels import LabelSet, alike, tidy
from medseg.volume.source import stem

# What 16 bits hold.
HIGHEST_ID = 65535
# Channels of MR are often named after their sequence.
SEQUENCES = re.compile(r"MR|FLAIR|ADC|DWI|SWI|(?<![A-Z0-9])(T1|T2|PD)", re.IGNORECASE)


def is_magnetic(modality: str) -> bool:
    """Say whether a modality, as manifests name it, is magnetic resonance: MRI, T1w, FLAIR, ADC and so on."""
    return SEQUENCES.search(modality) is not None


class Case(BaseModel):
    """One scan with its reference: the unit of scoring.

    Paths are relative to the dataset's folder. `labels_present` names the labels that the reference has, where it lacks
    some; None is all of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: tuple[str, ...]
    label: str | None = None
    case_id: str = ""
    patient_id: str = ""
    fold: int | None = None
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
        return entry

    @field_validator("case_id")
    @classmethod
    def _names_a_file(cls, value: str) -> str:
        if not value or "/" in value or "\\" in value:
            raise ValueError("a case id names the case's results, so it is not empty and has no slash")
        return value

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

    model_config = ConfigDict(frozen=True, extra="ignore")

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
        """Case id → the labels that its reference has, for the cases that name them."""
        return {case.case_id: self.labels_of(case) for case in self.training if case.labels_present is not None}


def read_manifest(path: Path) -> Manifest:
    """Read a manifest or a Decathlon dataset.json.

    Raises:
        MissingFileError: no such file.
        ManifestError: no JSON, or a field is missing or of the wrong kind; the message names it.
    """
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"reading {path}", found="there is no such file", remedy="give a dataset.json or a manifest"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ManifestError(
            f"reading {path}",
            found=f"{place}: {first['msg'].removeprefix('Value error, ').lower()}",
            remedy="mend this entry",
        ) from error
    except (ValueError, OSError) as error:
        raise ManifestError(f"reading {path}", found=str(error), remedy="give a JSON manifest") from error

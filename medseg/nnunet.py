"""nnU-Net's datasets, listed as medseg's manifests list theirs.

nnU-Net's dataset.json has names for the channels and ids for the names of labels, and no cases: these are the label
maps in `labelsTr`, and `imagesTr` has a file for each of their channels, CASE_0000.nii.gz and so on
(https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md, version 2).
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from medseg.volume.source import SUFFIXES

# What nnU-Net calls voxels that are not labelled.
IGNORE = "ignore"


def is_nnunet(listing: Any) -> bool:
    """Say whether the content of a dataset.json is in nnU-Net's form."""
    return isinstance(listing, dict) and "channel_names" in listing and "modality" not in listing


class Entry(BaseModel):
    """The files of one case, where a dataset.json lists them: a path for each channel, and the label map's."""

    images: tuple[str, ...]
    label: str


class NnUNetListing(BaseModel):
    """nnU-Net's dataset.json; keys that only its training follows are left out."""

    model_config = ConfigDict(frozen=True)

    channel_names: dict[int, str]
    labels: dict[str, int]
    file_ending: str
    num_training: int = Field(default=0, alias="numTraining")
    dataset: dict[str, Entry] | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _are_no_regions(cls, value: Any) -> Any:
        regions = [name for name, ids in value.items() if isinstance(ids, list)] if isinstance(value, dict) else []
        if regions:
            raise ValueError(
                f"{regions[0]!r} is a region, of the ids {value[regions[0]]}: name each id by itself, and make regions "
                'of them in a recipe, by its [labels] and head = "sigmoid"'
            )
        return value

    @field_validator("labels")
    @classmethod
    def _differ(cls, value: dict[str, int]) -> dict[str, int]:
        names: dict[int, str] = {}
        for name, id_ in value.items():
            if names.setdefault(id_, name) != name:
                raise ValueError(f"{names[id_]!r} and {name!r} are both {id_}")
        return value

    @field_validator("file_ending")
    @classmethod
    def _is_read(cls, value: str) -> str:
        if value not in SUFFIXES:
            raise ValueError(f"medseg reads {', '.join(SUFFIXES)}")
        return value

    def as_manifest(self, folder: Path) -> dict[str, Any]:
        """Return the same facts under a manifest's keys.

        Args:
            folder: where the dataset.json lies; without labels in it there are no cases.
        """
        names = {id_: name for name, id_ in self.labels.items() if name != IGNORE}
        return {
            "modality": self.channel_names,
            "labels": names,
            "ignore": [self.labels[IGNORE]] if IGNORE in self.labels else [],
            "numTraining": self.num_training,
            "training": self._listed() if self.dataset is not None else self._found(folder),
        }

    def _listed(self) -> list[dict[str, Any]]:
        return [
            {"case_id": case_id, "image": entry.images, "label": entry.label}
            for case_id, entry in (self.dataset or {}).items()
        ]

    def _found(self, folder: Path) -> list[dict[str, Any]]:
        ending, channels = self.file_ending, sorted(self.channel_names)
        case_ids = sorted(path.name.removesuffix(ending) for path in (folder / "labelsTr").glob(f"[!.]*{ending}"))
        return [
            {
                "case_id": case_id,
                "image": [f"imagesTr/{case_id}_{channel:04d}{ending}" for channel in channels],
                "label": f"labelsTr/{case_id}{ending}",
            }
            for case_id in case_ids
        ]

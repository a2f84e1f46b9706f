"""Rules: how label maps are cleaned, one rule for a label.

First the objects that a label's rule does not keep become background, for all labels; then holes are filled, for all
labels. So the order of the rules does not matter, what is removed within an organ is filled with the organ where its
rule says so, and a map that was cleaned stays as it is when it is cleaned again.

An object is a component of a label's voxels. A hole is a component of the background that reaches no border of the
volume and touches one label only: where another label lies within, nobody knows whose the gap between the two is, and
it stays. `medseg.postprocess.components` says how components are connected.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from medseg.errors import PackageError
from medseg.labels import Label, LabelSet

Volumes = NDArray[np.floating[Any]]
# Volumes that differ by less of themselves are equal: headers store spacings in 32 bits.
ROUNDING = 1e-6


class Rule(BaseModel):
    """How one label is cleaned; the defaults leave it as it is. Volumes are in mm³, 0 or more."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    label: str
    """The label's name."""
    keep_largest: bool = False
    """Whether the label's largest object is the only one that may stay."""
    smallest_mm3: float = Field(default=0.0, ge=0)
    """Objects smaller than this become background, the largest as well."""
    holes_mm3: float = Field(default=0.0, ge=0)
    """Holes in the label up to this large get the label."""

    @property
    def changes_nothing(self) -> bool:
        """Whether the rule leaves every label map as it is."""
        return not (self.keep_largest or self.smallest_mm3 or self.holes_mm3)

    def __str__(self) -> str:
        """Return what the rule does, in words."""
        deeds = [
            "only the largest object stays" if self.keep_largest else "",
            f"objects below {self.smallest_mm3:g} mm³ are removed" if self.smallest_mm3 else "",
            f"holes of up to {self.holes_mm3:g} mm³ are filled" if self.holes_mm3 else "",
        ]
        return f"{self.label}: {', '.join(deed for deed in deeds if deed) or 'left as it is'}"

    def removes(self, volumes_mm3: Volumes, largest: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of a label's objects become background.

        Args:
            volumes_mm3: of each object, shape (n,).
            largest: whether it is the label's largest, shape (n,).
        """
        return (volumes_mm3 < self.smallest_mm3 * (1 - ROUNDING)) | (~largest & self.keep_largest)

    def fills(self, volumes_mm3: Volumes) -> NDArray[np.bool_]:
        """Return which of a label's holes get the label, by their volumes, shape (n,)."""
        return volumes_mm3 <= self.holes_mm3 * (1 + ROUNDING)


def rules_as_json(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """Return rules as plain values, for model.json."""
    return [rule.model_dump(mode="json") for rule in rules]


def rules_from_json(value: Any) -> tuple[Rule, ...]:
    """Build rules from what `rules_as_json` returned.

    Raises:
        PackageError: it is no list of rules: an unknown or a missing key, or a value out of range.
    """
    try:
        return tuple(TypeAdapter(list[Rule]).validate_python(value))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _unfit(f"{place or 'the whole'}: {first['msg']} (it is {first['input']!r})") from error


def check_rules(rules: Sequence[Rule], labels: LabelSet) -> None:
    """Check that label maps of these labels can be cleaned by these rules.

    Raises:
        PackageError: a rule for a label that is not there or that shares voxels with another, or two rules for one.
    """
    cleaned = {label.name for label in cleanable(labels)}
    there = {label.name for label in labels}
    for name, count in Counter(rule.label for rule in rules).items():
        if name not in there:
            raise _unfit(f"there is a rule for {name!r}, and the labels are {', '.join(sorted(there)) or 'none'}")
        if name not in cleaned:
            raise _unfit(f"there is a rule for {name!r}, which overlaps another label")
        if count > 1:
            raise _unfit(f"there are {count} rules for {name!r}")


def _unfit(found: str) -> PackageError:
    return PackageError(
        "reading the rules by which label maps are cleaned", found=found, remedy="train or download the package again"
    )


def cleanable(labels: LabelSet) -> tuple[Label, ...]:
    """Return the labels that rules may be for: those that share no id with another.

    Labels that overlap, as regions within regions do, are left alone: a label map shows the uppermost, and does not say
    what lies below an object that would be removed.
    """
    owners = Counter(part for label in labels for part in set(label.parts))
    return tuple(label for label in labels if all(owners[part] == 1 for part in label.parts))

"""Ensemble: several models as one, whose logits are averaged."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg.errors import OptionError
from medseg.modality import alike
from medseg.package import ModelPackage, load_package


def load_models(text: str) -> ModelPackage:
    """Read a model, or several joined by commas as an ensemble.

    Args:
        text: packages or runs; a path that is there is one model, whatever commas it has.

    Raises:
        UnknownNameError, PackageError: one of them cannot be read.
        OptionError: they do not belong together.
    """
    paths = [Path(text)] if Path(text).exists() else [Path(part.strip()) for part in text.split(",")]
    packages = [load_package(path) for path in paths]
    for path, package in zip(paths[1:], packages[1:], strict=True):
        unlike = _unlike(packages[0], package)
        if unlike:
            raise OptionError(
                f"averaging {paths[0]} and {path}",
                found=f"their {unlike} are not the same",
                remedy="average models of the same labels, kind of image and head",
            )
    return together(packages)


def together(packages: Sequence[ModelPackage]) -> ModelPackage:
    """Return one package of several; scores are left out, and rules unless all have the same.

    Args:
        packages: of the same labels, channels and head, at least one; a single one is returned as it is.
    """
    first, *rest = packages
    if not rest:
        return first
    members = [member for package in packages for member in (package, *package.others)]
    alone = [replace(member, others=(), rules=(), scores={}) for member in members]
    same = all(package.rules == first.rules for package in rest)
    return replace(alone[0], others=tuple(alone[1:]), rules=first.rules if same else ())


def _unlike(one: ModelPackage, other: ModelPackage) -> str:
    """Return in what two models differ that cannot be averaged; nothing where they can."""
    if one.labels.labels != other.labels.labels:  # the ids that their datasets know besides may differ
        return "labels"
    if one.channels != other.channels:
        return "channels"
    if not alike(one.modality, other.modality):
        return "kinds of image"
    return "heads" if one.recipe.model.head != other.recipe.model.head else ""

"""Modality: what a scan was taken with, as DICOM, datasets and people call it."""

import re
from collections.abc import Iterable, Sequence

from medseg.remarks import Remark

# Channels of MR are often named after their sequence.
SEQUENCES = re.compile(r"MR|FLAIR|ADC|DWI|SWI|(?<![A-Z0-9])(T1|T2|PD)", re.IGNORECASE)
# DICOM's names for what datasets call otherwise (PS3.3 C.7.3.1.1.1).
TOMOGRAPHY, EMISSION = re.compile(r"\b(CB?)?CT", re.IGNORECASE), re.compile(r"\bPE?T", re.IGNORECASE)


def is_magnetic(modality: str) -> bool:
    """Say whether a modality, as manifests name it, is magnetic resonance: MRI, T1w, FLAIR, ADC and so on."""
    return SEQUENCES.search(modality) is not None


def known_as(modality: str) -> str:
    """Return DICOM's name of a modality that it or a manifest names: "T1w" → "MR"; empty where it is not known."""
    for name, known in (("MR", SEQUENCES), ("CT", TOMOGRAPHY), ("PT", EMISSION)):
        if known.search(modality):
            return name
    return ""


def alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether images may have been taken with the same, channel by channel.

    They were not where a channel is known to be another kind, or where the same channels stand in another order.
    """
    if not one or not other:
        return True
    names, others = ([_sequence(name) for name in channels] for channels in (one, other))
    moved = sorted(names) == sorted(others) and names != others
    kinds = [{known_as(a), known_as(b)} for a, b in zip(names, others, strict=False)]
    return not moved and all("" in kind or len(kind) == 1 for kind in kinds)


def _sequence(name: str) -> str:
    """Return a channel's name without what some leave out of one of MR: "T1w" and "t1-weighted" are "t1"."""
    return re.sub(r"(?<=t[12])(w|[-_ ]?weighted)$", "", name.strip().casefold())


def modality_remarks(scan: Iterable[str], trained_on: Iterable[str]) -> tuple[Remark, ...]:
    """Return W_MODALITY when a scan was taken with something that a model never saw; nothing where that is not known.

    Args:
        scan: what its channels were taken with, as DICOM or a manifest says.
        trained_on: what those of the model's training images were taken with, as their manifest says.
    """
    seen = {known_as(name) for name in trained_on}
    strange = sorted({known_as(name) for name in scan} - seen - {""})
    if not strange or not seen or "" in seen:
        return ()
    text = f"It is {' and '.join(strange)}, and the model was trained on {' and '.join(sorted(seen))}."
    return (Remark("W_MODALITY", f"{text} Choose a model for what it is."),)

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
    """Return whether images were taken with the same, channel by channel, as far as their manifests tell.

    Sequences of MR are told apart where there are several, for their order matters then.
    """
    several = sum(map(is_magnetic, one)) > 1
    return not one or not other or all(_alike(*pair, several) for pair in zip(one, other, strict=True))


def _alike(one: str, other: str, several: bool) -> bool:
    """Return whether two channels may be of one kind."""
    known = {known_as(one), known_as(other)}
    same = known != {"MR"} or not several or one.strip().casefold() == other.strip().casefold()
    return "" in known or (len(known) == 1 and same)


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

"""Formats: how label maps are written, each with the end of its files' names."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from medseg.choose import choose
from medseg.errors import OptionError
from medseg.labels import LabelSet
from medseg.volume import LabelMap, Series, Source, write_image, write_rtstruct, write_seg


class SeriesWriter(Protocol):
    """Writes a label map of a DICOM series to a file that appears whole."""

    def __call__(
        self, label_map: LabelMap, series: Series, labels: LabelSet, path: Path, *, deidentify: bytes | None = None
    ) -> None:
        """Write it, with or without the patient."""


@dataclass(frozen=True)
class Format:
    """A way to write label maps.

    Attributes:
        suffix: follows the case id.
        of_series: how it is written of a DICOM series, which it refers to; None writes NIfTI, of any scan.
    """

    suffix: str
    of_series: SeriesWriter | None = None

    def write(self, label_map: LabelMap, source: Source, labels: LabelSet, path: Path, *, key: bytes | None) -> None:
        """Write a label map.

        Args:
            label_map: on the scan's own grid.
            source: the scan.
            labels: what the ids mean.
            path: ends in the suffix.
            key: with it a DICOM file leaves the patient out, and replaces UIDs under it; a NIfTI file names none.

        Raises:
            UnwritableError: no permission or no space.
        """
        if self.of_series is None:
            write_image(label_map, path, labels=labels)
        else:
            assert source.series
            self.of_series(label_map, source.series, labels, path, deidentify=key)


FORMATS: dict[str, Format] = {
    "nifti": Format(".nii.gz"),
    "dicom-seg": Format(".seg.dcm", partial(write_seg, kind="binary")),
    "dicom-seg-labelmap": Format(".seg.dcm", partial(write_seg, kind="labelmap")),
    "rtstruct": Format(".rtstruct.dcm", write_rtstruct),
}


def chosen_formats(text: str) -> tuple[str, ...]:
    """Return the formats that a list such as "nifti,rtstruct" names.

    Raises:
        UnknownNameError: there is no such format.
        OptionError: no format, or two whose files would be called the same.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    suffixes = [choose(FORMATS, name, kind="format").suffix for name in chosen]
    if not chosen or len(set(suffixes)) < len(suffixes):
        raise OptionError(
            f"--format {text}",
            found="two of these formats would be written to one file" if chosen else "it names no format",
            remedy=f"choose from {', '.join(FORMATS)}, and one kind of DICOM SEG at a time",
        )
    return chosen

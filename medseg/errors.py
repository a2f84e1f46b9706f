"""Everything that can go wrong, each idea once, with a code that users can look up.

MedsegError
├── UsageError                      what was typed: exit code 2
│   ├── UnknownNameError            E_UNKNOWN_NAME
│   ├── RecipeError                 E_RECIPE
│   └── OptionError                 E_OPTION
├── FileError                       the file itself
│   ├── MissingFileError            E_MISSING
│   ├── EmptyFolderError            E_EMPTY_FOLDER
│   ├── NotAnImageError             E_NOT_AN_IMAGE
│   ├── UnreadableError             E_UNREADABLE
│   ├── CorruptFileError            E_CORRUPT
│   ├── ArchiveError                E_ARCHIVE
│   └── UnwritableError             E_UNWRITABLE
├── ScanError                       a scan that reads, but cannot be used
│   ├── NoAffineError               E_NO_AFFINE
│   ├── SingularAffineError         E_SINGULAR_AFFINE
│   ├── SizeError                   E_SIZE
│   ├── DimensionError              E_DIMENSIONS
│   ├── NotFiniteError              E_NOT_FINITE
│   ├── MissingSliceError           E_MISSING_SLICE
│   ├── DoubleSliceError            E_DOUBLE_SLICE
│   ├── SliceSpacingError           E_SLICE_SPACING
│   └── NotASeriesError             E_NOT_A_SERIES
├── LabelError                      a reference that does not fit
│   ├── GridMismatchError           E_GRID_MISMATCH
│   ├── UnknownLabelError           E_UNKNOWN_LABEL
│   └── FractionalLabelError        E_FRACTIONAL_LABEL
├── DatasetError                    cases that do not fit together
│   ├── ManifestError               E_MANIFEST
│   ├── DuplicateCaseError          E_DUPLICATE_CASE
│   ├── PatientInTwoFoldsError      E_PATIENT_IN_TWO_FOLDS
│   ├── ScanInTwoFoldsError         E_SCAN_IN_TWO_FOLDS
│   ├── ChecksumError               E_CHECKSUM
│   └── NoCasesError                E_NO_CASES
├── PackageError                    E_PACKAGE
├── TrainingError                   E_TRAINING
├── DeviceError                     E_DEVICE
├── OutOfMemoryError                E_MEMORY
└── UnexpectedError                 E_UNEXPECTED
"""

from typing import ClassVar


class MedsegError(Exception):
    """Something medseg was asked to do and could not.

    Args:
        asked: what was being done, naming the file, case or option.
        found: what stood in the way.
        remedy: what the user can do about it, as a sentence without its full stop.
    """

    code: ClassVar[str] = "E_MEDSEG"

    def __init__(self, asked: str, *, found: str, remedy: str) -> None:
        self.asked = asked
        self.found = found
        self.remedy = remedy
        super().__init__(f"{asked}: {_stopped(found)} {_stopped(remedy[:1].upper() + remedy[1:])}")

    def as_json(self) -> dict[str, str]:
        """Return code and message, as they stand in results.jsonl, run.json and summary.json."""
        return {"code": self.code, "message": str(self)}

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.asked, self.found, self.remedy)


def _stopped(text: str) -> str:
    """Return a text on one line that ends in a full stop, or in a mark of its own."""
    line = " ".join(text.split())
    return line if line.endswith((".", "?", "!")) else f"{line}."


def _rebuild(kind: type[MedsegError], asked: str, found: str, remedy: str) -> MedsegError:
    return kind(asked, found=found, remedy=remedy)


class UsageError(MedsegError):
    """The command line asks for something that does not exist."""

    code = "E_USAGE"


class UnknownNameError(UsageError):
    """A recipe, model, loss, label or option was named that medseg does not have."""

    code = "E_UNKNOWN_NAME"


class RecipeError(UsageError):
    """A recipe has a misspelt key or a value out of range."""

    code = "E_RECIPE"


class OptionError(UsageError):
    """An option has a value it cannot take, or options contradict each other."""

    code = "E_OPTION"


class FileError(MedsegError):
    """A file or folder cannot be read or written."""

    code = "E_FILE"


class MissingFileError(FileError):
    """There is nothing at this path."""

    code = "E_MISSING"


class EmptyFolderError(FileError):
    """The folder holds no scan."""

    code = "E_EMPTY_FOLDER"


class NotAnImageError(FileError):
    """The file is no image that medseg reads."""

    code = "E_NOT_AN_IMAGE"


class UnreadableError(FileError):
    """The system does not let the file be read."""

    code = "E_UNREADABLE"


class CorruptFileError(FileError):
    """The file is damaged: its length, compression or checksum does not hold."""

    code = "E_CORRUPT"


class ArchiveError(FileError):
    """A zip is damaged, encrypted, beyond the limits, or holds what a zip of scans never does."""

    code = "E_ARCHIVE"


class UnwritableError(FileError):
    """The output cannot be written: no permission, or no space left."""

    code = "E_UNWRITABLE"


class ScanError(MedsegError):
    """The scan reads, but cannot be segmented as it is."""

    code = "E_SCAN"


class NoAffineError(ScanError):
    """The header does not say where the voxels lie in the patient."""

    code = "E_NO_AFFINE"


class SingularAffineError(ScanError):
    """The affine squeezes space flat, or holds values that are not finite."""

    code = "E_SINGULAR_AFFINE"


class SizeError(ScanError):
    """The scan is larger than any body, so its spacing is in another unit than millimetres."""

    code = "E_SIZE"


class DimensionError(ScanError):
    """The image has too few or too many dimensions or channels for its use."""

    code = "E_DIMENSIONS"


class NotFiniteError(ScanError):
    """Voxels are NaN or infinite, or what a network says of them."""

    code = "E_NOT_FINITE"


class MissingSliceError(ScanError):
    """A DICOM series lacks slices between its first and its last."""

    code = "E_MISSING_SLICE"


class DoubleSliceError(ScanError):
    """A DICOM series holds different slices at one position."""

    code = "E_DOUBLE_SLICE"


class SliceSpacingError(ScanError):
    """A DICOM series spaces its slices unevenly."""

    code = "E_SLICE_SPACING"


class NotASeriesError(ScanError):
    """DICOM output was asked for, and the scan is no DICOM series that it could refer to."""

    code = "E_NOT_A_SERIES"


class LabelError(MedsegError):
    """A reference does not fit its scan or its label set."""

    code = "E_LABEL"


class GridMismatchError(LabelError):
    """Image and label map, or prediction and reference, lie on different grids."""

    code = "E_GRID_MISMATCH"


class UnknownLabelError(LabelError):
    """A label map holds an id that its label set does not name."""

    code = "E_UNKNOWN_LABEL"


class FractionalLabelError(LabelError):
    """A label map holds values that are not whole numbers."""

    code = "E_FRACTIONAL_LABEL"


class DatasetError(MedsegError):
    """The cases of a dataset do not fit together."""

    code = "E_DATASET"


class ManifestError(DatasetError):
    """A manifest or dataset.json cannot be read or lacks what is needed."""

    code = "E_MANIFEST"


class DuplicateCaseError(DatasetError):
    """Two cases have the same id, so their results would overwrite each other."""

    code = "E_DUPLICATE_CASE"


class PatientInTwoFoldsError(DatasetError):
    """One patient stands in two folds, or in training and test, so scores would be on training data."""

    code = "E_PATIENT_IN_TWO_FOLDS"


class ScanInTwoFoldsError(DatasetError):
    """Two cases in different folds hold the same voxels, so validation would see training data."""

    code = "E_SCAN_IN_TWO_FOLDS"


class ChecksumError(DatasetError):
    """A file is not the one that the manifest describes."""

    code = "E_CHECKSUM"


class NoCasesError(DatasetError):
    """Nothing is left to train on, predict or score."""

    code = "E_NO_CASES"


class PackageError(MedsegError):
    """A model package is incomplete, altered or of an unknown form."""

    code = "E_PACKAGE"


class TrainingError(MedsegError):
    """Training cannot start or go on."""

    code = "E_TRAINING"


class DeviceError(MedsegError):
    """The device asked for is not there."""

    code = "E_DEVICE"


class OutOfMemoryError(MedsegError):
    """The memory of the machine or of its GPU does not suffice."""

    code = "E_MEMORY"


class UnexpectedError(MedsegError):
    """Something medseg did not foresee; the message keeps its kind and words."""

    code = "E_UNEXPECTED"

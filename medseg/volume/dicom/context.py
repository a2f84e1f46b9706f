"""Context: what an annotation takes over from the series it was drawn on, and the UIDs and dates it gets."""

import hashlib
import hmac
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage, generate_uid
from pydicom.valuerep import validate_value

from medseg import __version__
from medseg.labels import LabelSet
from medseg.volume.dicom.series import Series
from medseg.volume.dicom.slices import Slice
from medseg.volume.dicom.stored import StoredFile, contents
from medseg.volume.label_map import LabelMap

# Patient and study in every DICOM object: empty where the source does not tell (type 2 in PS3.3, C.7.1.1 and C.7.2.1).
REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
# What else is taken over where the source has it.
OPTIONAL = (
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDescription",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)
# A clinical trial (PS3.3, C.7.1.3) needs its first two; the next three may be empty, and one of the last two is told.
TRIAL = ("ClinicalTrialSponsorName", "ClinicalTrialProtocolID")
TRIAL_REQUIRED = ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName")
TRIAL_SUBJECT = ("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID")
# Text is the patient's as it stands; these are left empty where they do not have the form that the standard wants.
FORMATTED = {"AS", "CS", "DA", "DS", "TM"}
SEXES = {"M", "F", "O"}
# The classes of sources that do not name theirs.
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
# Results carry the source's date and not today's, so that the same scan, model and labels give the same bytes: sending
# a result again replaces it in the archive instead of doubling it, and a resumed run leaves what a whole one does.
DATES = ("Content", "Acquisition", "Series", "Study")
NO_DATE, NO_TIME = "19000101", "000000"
# The characters of a name (LO).
LONGEST_NAME = 64
# Tell apart names that are alike in what fits.
NAME_DIGITS = 8
METHOD_UNTOLD = "not told by the source"
METHOD = "medseg: nothing of patient and study kept, UIDs replaced"
# PS3.15, annex E: the profile, as a code of CID 7050.
PROFILE = ("113100", "DCM", "Basic Application Confidentiality Profile")


@dataclass(frozen=True)
class Instance:
    """The stored image that a slice is in.

    Attributes:
        sop_class: its storage class UID.
        sop_instance: its UID.
        frame: the number of the frame from 1, or None for an image of one slice.
    """

    sop_class: str
    sop_instance: str
    frame: int | None

    def reference(self) -> pydicom.Dataset:
        """Return a reference to it, for any sequence of references."""
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID = self.sop_class
        item.ReferencedSOPInstanceUID = self.sop_instance
        if self.frame is not None:
            item.ReferencedFrameNumber = self.frame
        return item


@dataclass(frozen=True, eq=False)
class Context:
    """What an annotation takes over.

    Attributes:
        study: the study instance UID.
        series: the series instance UID.
        frame_of_reference: its UID.
        instances: for each slice of the series the image it is in.
        date: of the source's content, YYYYMMDD.
        time: HHMMSS, with or without a fraction.
        identity: the elements of patient and study.
    """

    study: str
    series: str
    frame_of_reference: str
    instances: tuple[Instance, ...]
    date: str = NO_DATE
    time: str = NO_TIME
    identity: pydicom.Dataset = field(default_factory=pydicom.Dataset)

    def uid(self, *facts: str) -> str:
        """Return the UID of something made from this series: another for other facts, and always the same for these."""
        return _made_up(self.study, self.series, *(i.sop_instance for i in self.instances), *facts)


def read_context(series: Series, *, deidentify: bytes | None = None) -> Context:
    """Return what an annotation of a series takes over from it.

    Anonymised data may lack UIDs. Those that are missing are made up from the content of the files, so that a series
    has the same ones every time.

    Args:
        series: with at least one slice.
        deidentify: a secret key, to keep nothing that tells patient or study, empty the dates, and replace UIDs: under
            one key the same UID by the same other one, which nobody can find out who has not the key (PS3.15, annex E).
    """
    header = _header(series.slices[0].file)
    instances = tuple(_instances(series.slices))
    uid = series.uid or _made_up("series", *(instance.sop_instance for instance in instances))
    study = series.slices[0].study or _made_up("study", uid)
    frame_of_reference = series.slices[0].frame_of_reference or _made_up("frame of reference", uid)
    if deidentify is not None:
        hidden = partial(_hidden, key=deidentify)
        images = tuple(Instance(i.sop_class, hidden(i.sop_instance), i.frame) for i in instances)
        identity = _identity_removed(header)
        return Context(hidden(study), hidden(uid), hidden(frame_of_reference), images, identity=identity)
    date, time = _date_and_time(header)
    return Context(study, uid, frame_of_reference, instances, date, time, _identity(header))


def fingerprint(label_map: LabelMap, labels: LabelSet, *facts: str) -> str:
    """Return a hash of all that an annotation's content depends on, beside its series."""
    digest = hashlib.sha256()
    told = [__version__, labels.as_json(), label_map.geometry.as_json(), *facts]
    digest.update(json.dumps(told, sort_keys=True).encode())
    for plane in label_map.array.transpose(2, 0, 1):
        digest.update(plane.astype("<u2").tobytes())
    return digest.hexdigest()


def complete(dataset: pydicom.Dataset, context: Context, *, fingerprint: str) -> None:
    """Set the elements that tell which object this is, whose it is and when it was made."""
    dataset.update(context.identity)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StudyInstanceUID = context.study
    dataset.SeriesInstanceUID = context.uid("series", fingerprint)
    dataset.SOPInstanceUID = context.uid("instance", fingerprint)
    dataset.FrameOfReferenceUID = context.frame_of_reference
    dataset.PositionReferenceIndicator = ""
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = context.date, context.time
    dataset.SeriesDate, dataset.SeriesTime = context.date, context.time


@contextmanager
def lenient() -> Iterator[None]:
    """Let pydicom read and write values of sources that are not quite as the standard wants them, without a word."""
    with pydicom.config.disable_value_validation():
        yield


def text(value: str, length: int) -> str:
    """Return a text for an element of so many characters; a backslash would part it in two."""
    return value.replace("\\", "/")[:length]


def name_text(name: str) -> str:
    """Return a label's name for a file: as it is, or changed to what fits with an end that no other name gets."""
    fitting = text(name, LONGEST_NAME)
    if fitting == name:
        return name
    end = f"_{hashlib.sha256(name.encode()).hexdigest()[:NAME_DIGITS]}"
    return fitting[: LONGEST_NAME - len(end)] + end


def code_item(code: tuple[str, str], scheme: str = "SCT") -> pydicom.Dataset:
    """Return a code and its meaning as the item of a code sequence."""
    item = pydicom.Dataset()
    item.CodeValue, item.CodeMeaning = code
    item.CodingSchemeDesignator = scheme
    return item


def _header(file: StoredFile) -> pydicom.Dataset:
    source: Any = io.BytesIO(next(contents([file]))[1]) if file.member else file.path
    return pydicom.dcmread(source, stop_before_pixels=True, force=True)


def _instances(slices: Sequence[Slice]) -> Iterator[Instance]:
    digests: dict[StoredFile, str] = {}
    for slice_ in slices:
        if not slice_.sop_instance and slice_.file not in digests:
            digests[slice_.file] = hashlib.sha256(next(contents([slice_.file]))[1]).hexdigest()
        yield Instance(
            slice_.sop_class or CLASSES.get(slice_.modality, CTImageStorage),
            slice_.sop_instance or _made_up("instance", digests[slice_.file]),
            None if slice_.frame is None else slice_.frame + 1,
        )


def _made_up(*facts: str) -> str:
    return str(generate_uid(entropy_srcs=["medseg", *facts]))


def _hidden(uid: str, *, key: bytes) -> str:
    return _made_up("deidentified", hmac.new(key, uid.encode(), hashlib.sha256).hexdigest())


def _identity(header: pydicom.Dataset) -> pydicom.Dataset:
    identity = pydicom.Dataset()
    in_trial = all(_value(header, name) for name in TRIAL)
    required = (*REQUIRED, *(TRIAL_REQUIRED if in_trial else ()))
    for name in (*required, *OPTIONAL, *((*TRIAL, *TRIAL_SUBJECT) if in_trial else ())):
        value = _value(header, name)
        if value or name in required:
            setattr(identity, name, value)
    if identity.PatientSex not in SEXES:
        identity.PatientSex = ""
    if identity.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethodCodeSequence" not in identity:
        identity.DeidentificationMethod = identity.get("DeidentificationMethod") or METHOD_UNTOLD
    return identity


def _identity_removed(header: pydicom.Dataset) -> pydicom.Dataset:
    identity = pydicom.Dataset()
    for name in REQUIRED:
        setattr(identity, name, "")
    identity.PatientIdentityRemoved = "YES"
    identity.DeidentificationMethod = METHOD
    identity.DeidentificationMethodCodeSequence = [code_item((PROFILE[0], PROFILE[2]), PROFILE[1])]
    identity.LongitudinalTemporalInformationModified = "REMOVED"
    return identity


def _date_and_time(header: pydicom.Dataset) -> tuple[str, str]:
    """Return the first date that the source tells, with the time beside it."""
    for name in DATES:
        if date := _value(header, f"{name}Date"):
            return str(date), str(_value(header, f"{name}Time") or NO_TIME)
    return NO_DATE, NO_TIME


def _value(header: pydicom.Dataset, name: str) -> Any:
    """Return an element's value, or an empty text where it is missing or has not the form it should."""
    value = header.get(name)
    vr = dictionary_VR(name)
    if value is None or isinstance(value, pydicom.multival.MultiValue):
        return ""
    try:
        if vr in FORMATTED:
            validate_value(vr, str(value), pydicom.config.RAISE)
    except ValueError:
        return ""
    return value

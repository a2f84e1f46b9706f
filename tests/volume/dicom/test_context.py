"""What annotations take over from their series: its own where it tells, and always the same where it does not."""

from dataclasses import replace

import pydicom
import pytest
from annotations import PATIENT, save_slices
from phantoms import house_geometry, house_label_map

from medseg.labels import LabelSet
from medseg.volume import Series
from medseg.volume.dicom.context import fingerprint, read_context, text

KEY = b"a key"
GRID = house_geometry(shape=(4, 3, 2), orientation="LPS")
NO_UIDS = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"), "")
DATES = [f"{name}{part}" for name in ("Content", "Acquisition", "Series", "Study") for part in ("Date", "Time")]


@pytest.mark.parametrize("told", ["Content", "Acquisition", "Series", "Study"])
def test_the_date_is_the_first_that_the_source_tells(tmp_path, told):
    elements = dict.fromkeys(DATES, "") | {f"{told}Date": "20240229", f"{told}Time": "235959.5"}
    later = DATES[DATES.index(f"{told}Time") + 1 :]
    elements |= {name: "20200101" if name.endswith("Date") else "120000" for name in later}
    context = read_context(save_slices(tmp_path, GRID, **elements))
    assert (context.date, context.time) == ("20240229", "235959.5")


@pytest.mark.parametrize("date", ["2024-02-29", "today", ""])
def test_a_date_that_is_none_is_passed_over(tmp_path, date):
    elements = dict.fromkeys(DATES, None) | {"ContentDate": date, "StudyDate": "20240229"}
    context = read_context(save_slices(tmp_path, GRID, **elements))
    assert (context.date, context.time) == ("20240229", "000000")
    assert context.identity.StudyTime == ""


def test_uids_are_the_sources(tmp_path):
    series = save_slices(tmp_path, GRID)
    context = read_context(series)
    first = series.slices[0]
    assert (context.study, context.series, context.frame_of_reference) == (
        first.study,
        first.series,
        first.frame_of_reference,
    )
    assert [instance.sop_instance for instance in context.instances] == [s.sop_instance for s in series.slices]


def test_missing_uids_are_made_from_the_files_contents(tmp_path):
    first, second = (read_context(_nameless(save_slices(tmp_path / copy, GRID, **NO_UIDS))) for copy in "ab")
    assert first.instances == second.instances
    assert len({instance.sop_instance for instance in first.instances}) == 2
    assert all(pydicom.uid.UID(instance.sop_instance).is_valid for instance in first.instances)
    assert (first.study, first.series, first.frame_of_reference) == (
        second.study,
        second.series,
        second.frame_of_reference,
    )
    assert len({first.study, first.series, first.frame_of_reference}) == 3


def _nameless(series):
    """Return a series whose images name neither instance nor class, in their meta information neither."""
    return Series(tuple(replace(slice_, sop_instance="", sop_class="") for slice_ in series.slices))


def test_one_uid_is_replaced_by_one_other(tmp_path):
    series = save_slices(tmp_path, GRID)
    plain, hidden, again = (read_context(series, deidentify=hide) for hide in (None, KEY, KEY))
    assert hidden.instances == again.instances
    assert (hidden.study, hidden.series, hidden.frame_of_reference) == (
        again.study,
        again.series,
        again.frame_of_reference,
    )
    old = {plain.study, plain.series, plain.frame_of_reference, *(i.sop_instance for i in plain.instances)}
    new = {hidden.study, hidden.series, hidden.frame_of_reference, *(i.sop_instance for i in hidden.instances)}
    assert len(new) == len(old) == 5
    assert not new & old


def test_without_the_key_nobody_can_tell_which_uid_became_which(tmp_path):
    series = save_slices(tmp_path, GRID)
    ours, theirs = (read_context(series, deidentify=key) for key in (KEY, b"another"))
    uids = [{c.study, c.series, c.frame_of_reference, *(i.sop_instance for i in c.instances)} for c in (ours, theirs)]
    assert uids[0].isdisjoint(uids[1])


def test_deidentified_identity_is_an_allow_list(tmp_path):
    identity = read_context(save_slices(tmp_path, GRID), deidentify=KEY).identity
    assert not {str(element.value) for element in identity} & set(PATIENT.values())
    assert (identity.PatientIdentityRemoved, identity.LongitudinalTemporalInformationModified) == ("YES", "REMOVED")
    assert identity.DeidentificationMethodCodeSequence[0].CodeValue == "113100"


def test_uids_differ_by_what_they_are_for(tmp_path):
    context = read_context(save_slices(tmp_path, GRID))
    assert context.uid("a") == context.uid("a") != context.uid("b")
    assert pydicom.uid.UID(context.uid("a")).is_valid


def test_a_fingerprint_tells_contents_grids_labels_and_facts_apart():
    grid = house_geometry()
    labels = LabelSet.from_names({1: "spleen", 2: "liver", 5: "thing"})
    others = [
        fingerprint(house_label_map(geometry=grid), labels, "SEG"),
        fingerprint(house_label_map(geometry=grid, ids=(1, 5, 2)), labels, "SEG"),
        fingerprint(house_label_map(geometry=house_geometry(centre_mm=(0, 0, 0))), labels, "SEG"),
        fingerprint(house_label_map(geometry=grid), LabelSet.from_names({1: "spleen", 2: "liver"}), "SEG"),
        fingerprint(house_label_map(geometry=grid), labels, "RTSTRUCT"),
    ]
    assert len(set(others)) == 5
    assert fingerprint(house_label_map(geometry=grid), labels, "SEG") == others[0]


def test_text_is_cut_to_what_fits_and_stays_one_value():
    assert text("a\\b" * 30, 16) == "a/ba/ba/ba/ba/ba"

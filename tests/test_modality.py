"""Modality: what scans were taken with is known by any of its names."""

import pytest

from medseg.modality import alike, is_magnetic, known_as, modality_remarks


@pytest.mark.parametrize("modality", ["MRI", "mr", "FLAIR", "T1w", "t1gd", "T2", "ADC", "T1-weighted", "PD"])
def test_sequences_are_magnetic_resonance(modality: str) -> None:
    assert is_magnetic(modality)


@pytest.mark.parametrize("modality", ["CT", "PET", "US", "ct2", "unknown"])
def test_other_modalities_are_not(modality: str) -> None:
    assert not is_magnetic(modality)


@pytest.mark.parametrize(
    ("name", "known"),
    [("CT", "CT"), ("ct2", "CT"), ("CBCT", "CT"), ("T1w", "MR"), ("PET", "PT"), ("PT", "PT"), ("US", ""), ("", "")],
)
def test_a_modality_is_known_by_any_of_its_names(name: str, known: str) -> None:
    assert known_as(name) == known


@pytest.mark.parametrize(("scan", "model"), [("CT", ["MRI"]), ("MR", ["CT"]), ("PT", ["T1w", "CT"])])
def test_a_scan_of_a_modality_that_a_model_never_saw_is_told(scan: str, model: list[str]) -> None:
    (remark,) = modality_remarks([scan], model)
    assert remark.code == "W_MODALITY"
    assert remark.message.startswith(f"It is {known_as(scan)}, and the model was trained on ")


@pytest.mark.parametrize(
    ("scan", "model"), [("MR", ["T2"]), ("", ["CT"]), ("US", ["CT"]), ("CT", []), ("CT", ["scan"])]
)
def test_what_is_the_same_or_not_known_is_not_told(scan: str, model: list[str]) -> None:
    assert modality_remarks([scan], model) == ()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("CT",), ("ct",), True),
        (("CT",), ("PET",), False),
        (("MRI",), ("T1w",), True),
        (("CT",), (), True),
        (("CT",), ("something",), True),
        (("CT", "PET"), ("CT", "PT"), True),
        (("CT", "PET"), ("PET", "CT"), False),
        (("T1", "T2"), ("t1", "T2 "), True),
        (("T1", "T2"), ("T2", "T1"), False),
        (("T1w", "T2-weighted"), ("T2w", "T1"), False),
        (("T1w", "t1gd", "T2w", "FLAIR"), ("T1", "T1ce", "T2", "FLAIR"), True),
        (("MR", "MR"), ("T1", "T2"), True),
        (("CT", "PET"), ("CT",), True),
    ],
    ids=str,
)
def test_images_are_alike_channel_by_channel(one: tuple[str, ...], other: tuple[str, ...], expected: bool) -> None:
    assert alike(one, other) is expected
    assert alike(other, one) is expected

"""What is odd between cases: one scan under two names, one patient on two sides, a fold that lacks a label."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from medseg.check.finding import Finding
from medseg.check.look import Look
from medseg.errors import PatientInTwoFoldsError, ScanInTwoFoldsError
from medseg.labels import LabelSet
from medseg.manifest import Manifest
from medseg.remarks import Remark


def same_scans(looks: Sequence[Look], folds: Mapping[str, int]) -> Iterator[Finding]:
    """Yield a finding for each case whose voxels another case has; an error where the two are in different folds.

    Args:
        looks: the cases.
        folds: case id → fold; empty for scans that nobody trains on.
    """
    first_with: dict[str, str] = {}
    for look in looks:
        first = first_with.setdefault(look.digest, look.case_id) if look.digest else look.case_id
        if first == look.case_id:
            continue
        here, there = folds.get(look.case_id), folds.get(first)
        if here == there:
            text = f"It holds the same voxels as {first}. Leave one of them out, or give each its own scan."
            yield Finding.of(look.case_id, Remark("W_SAME_SCAN_TWICE", text))
            continue
        error = ScanInTwoFoldsError(
            f"comparing the voxels of {look.case_id} and {first}",
            found=f"they are the same, in folds {here} and {there}: validation would see training data",
            remedy="leave one of them out, or give both the same patient_id",
        )
        yield Finding.of(look.case_id, error)


def patients_on_both_sides(manifest: Manifest) -> Iterator[Finding]:
    """Yield an error for each training case whose patient is also in the test list."""
    tested = {case.patient_id: case.case_id for case in manifest.test}
    for case in manifest.training:
        if case.patient_id in tested:
            error = PatientInTwoFoldsError(
                f"comparing the training and test lists of {manifest.name}",
                found=f"patient {case.patient_id} is in both, in the test list as {tested[case.patient_id]}",
                remedy="take the patient out of one of them",
            )
            yield Finding.of(case.case_id, error)


def lacking_labels(looks: Sequence[Look], folds: Mapping[str, int], labels: LabelSet) -> Iterator[Finding]:
    """Yield a remark for each label that a fold lacks, although at least as many cases have it as there are folds."""
    everywhere = sorted({folds[look.case_id] for look in looks})
    for label in labels:
        cases = Counter(folds[look.case_id] for look in looks if label.id in look.ids)
        lacking = [fold for fold in everywhere if not cases[fold]]
        if lacking and cases.total() >= len(everywhere):
            where = ", ".join(map(str, lacking))
            text = (
                f"{label.name} is in {cases.total()} cases, but in none of fold {where}, which cannot score it. Share"
            )
            yield Finding.of(None, Remark("W_LABEL_NOT_IN_FOLD", f"{text} its cases out over the folds."))

"""Resume: what of an earlier command still holds, so that it need not be done again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg import __version__
from medseg.cases import Case
from medseg.errors import MedsegError
from medseg.predict.case_result import CaseResult
from medseg.predict.outputs import fingerprint, picture
from medseg.predict.settings import Settings
from medseg.progress import Notify, Progress, ignore
from medseg.volume.opens import opens


def done_before(
    cases: Sequence[Case],
    earlier: Sequence[CaseResult],
    folder: Path,
    *,
    model_sha256: str,
    settings: Settings,
    notify: Notify = ignore,
) -> list[CaseResult | None]:
    """Return for each case the result of an earlier command if it still holds, else None.

    A result holds when it says "ok", when each of its outputs is there, whole and opens, its picture among them where
    one is asked for, and when scan, model, settings and the version of medseg are the same.

    Args:
        cases: what is to be done.
        earlier: the lines of results.jsonl.
        folder: where the outputs are.
        model_sha256: the model's.
        settings: of this command.
        notify: hears of each case looked at.
    """
    by_id = {
        result.case_id: result for result in earlier if made_alike(result, model_sha256=model_sha256, settings=settings)
    }
    held: list[CaseResult | None] = []
    for case in cases:
        old = by_id.get(case.case_id)
        stands = old is not None and _stands(old, folder, settings) and _same_scan(old, case, settings)
        held.append(replace(old, input=case.named(settings.deidentify)) if old and stands else None)
        note = f"{len(held) - held.count(None)} done before"
        notify(Progress("resume", len(held), len(cases), note=note))
    return held


def made_alike(old: CaseResult, *, model_sha256: str, settings: Settings) -> bool:
    """Say whether a case went well with this model, these settings and this version of medseg."""
    made = (old.status, old.model_sha256, old.settings, old.medseg)
    return made == ("ok", model_sha256, settings.as_json(), __version__)


def stays(old: CaseResult, folder: Path, *, model_sha256: str, settings: Settings) -> bool:
    """Say whether the result of a case that this command is not about stays in the record.

    It does when its outputs are there and this command would have made them alike. They are not read again.
    """
    there = bool(old.outputs) and all((folder / name).is_file() for name in old.outputs)
    return there and made_alike(old, model_sha256=model_sha256, settings=settings)


def _stands(old: CaseResult, folder: Path, settings: Settings) -> bool:
    """Say whether every output is there as it was written, and the picture was not left out for want of a place."""
    if settings.overlay and picture(old.case_id) not in old.outputs:
        return False
    paths = [folder / name for name in old.outputs]
    try:
        return bool(paths) and all(
            path.stat().st_size == old.files[name]["bytes"] and fingerprint(path) == old.files[name] and opens(path)
            for name, path in zip(old.outputs, paths, strict=True)
        )
    except (OSError, KeyError):
        return False


def _same_scan(old: CaseResult, case: Case, settings: Settings) -> bool:
    """Say whether the scan's files hold what they held; a scan that cannot be read is done again, and fails there."""
    try:
        return case.source is not None and settings.sealed(case.source.digest()) == old.input_sha256
    except (OSError, MedsegError):
        return False

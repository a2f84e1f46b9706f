"""Predict: scans and a model in, label maps on the scans' own grids out. Each case stands alone."""

from pathlib import Path
from typing import Any

from medseg.cases import Cases
from medseg.package import ModelPackage
from medseg.predict.case_result import CaseResult
from medseg.predict.outputs import EVERYTHING, names, remove_leftovers, remove_stale, spare_scans, unrecorded
from medseg.predict.pipeline import pipeline
from medseg.predict.record import Record
from medseg.predict.resume import done_before, stays
from medseg.predict.settings import Settings
from medseg.predict.stages import Stages
from medseg.predict.tally import Tally
from medseg.predict.work import Work
from medseg.processor import keep_freed_memory, one_thread_for_numpy
from medseg.progress import Notify, Progress, ignore
from medseg.run import Run
from medseg.segment import Segmenter

DEFAULTS = Settings()


def predict(
    package: ModelPackage,
    cases: Cases,
    folder: Path,
    *,
    device: str = "auto",
    engine: str = "auto",
    settings: Settings = DEFAULTS,
    resume: bool = False,
    notify: Notify = ignore,
) -> list[CaseResult]:
    """Segment every case and write its label map, one line in results.jsonl each, and run.json.

    While one case is inferred, the next is read and prepared, and the one before brought home and written; a network
    that takes all cores of this machine is left alone meanwhile. When it is interrupted (KeyboardInterrupt…), the case
    being written is finished and the record is kept.

    Args:
        package: the model.
        cases: from `find_cases`.
        folder: where results go.
        device: where the network runs: auto, cpu, cuda, cuda:1, mps.
        engine: what runs it there: auto, openvino, torch.
        settings: how cases are read and what is written.
        resume: leave out the cases that an earlier command finished, and whose outputs, scan, model and settings are
            still the same, and keep the record of other cases whose outputs are there and made alike. Otherwise all
            begin anew: what an earlier command wrote of the cases to be done is removed.
        notify: hears of each finished or failed case.

    Returns:
        A result for each case, in their order.

    Raises:
        OptionError: an output would overwrite a scan, or run.json that of another command.
        PackageError, DeviceError, UnknownNameError: the model, the device, the engine or the preset cannot be had.
        UnwritableError: the folder cannot be written to.
    """
    keep_freed_memory()
    spare_scans((*cases.own, *cases.elsewhere), folder, settings)
    segmenter = Segmenter.of(package, engine=engine, device=device, preset=settings.preset)
    record = Record(Run(folder), cases, deidentify=settings.deidentify, **_facts(package, segmenter, settings))
    stages = Stages(package, folder, segmenter=segmenter, settings=settings)
    remove_leftovers(folder, [name for case in cases.own for name in names(case.case_id, EVERYTHING)])
    earlier = record.read()
    believed = earlier if resume else []
    before = done_before(
        cases.own,
        believed,
        folder,
        model_sha256=package.sha256,
        settings=settings,
        notify=notify if believed else ignore,
    )
    todo = [case for case, result in zip(cases.own, before, strict=True) if result is None]
    results = [result for result in before if result]
    remove_stale(earlier, cases, todo, folder)

    def keep(other: CaseResult) -> bool:
        return resume and stays(other, folder, model_sha256=package.sha256, settings=settings)

    record.begin(results, keep=keep)
    if left := [old.case_id for old in unrecorded(earlier, cases, folder) if not keep(old)]:
        some = ", ".join(left[:3]) + ", …" * (len(left) > 3)
        message = f"label maps of an earlier command stay in {folder}, and no record tells of them any more: {some}"
        notify(Progress("predict", len(results), len(cases.own), message=message))
    tally = Tally(len(cases.own), skipped=len(results), notify=notify)

    def write(work: Work) -> None:
        result = stages.write(work)
        record.append(result)
        results.append(result)
        tally.add(result)

    try:
        with one_thread_for_numpy():
            pipeline(todo, read=stages.read, work=stages.infer, write=write, beside_work=segmenter.engine.leaves_cores)
    finally:
        record.close()
    return sorted(results, key=lambda result: (result.case_id, result.input))


def _facts(package: ModelPackage, segmenter: Segmenter, settings: Settings) -> dict[str, Any]:
    """Return what run.json says besides the cases."""
    return {
        "device": segmenter.engine.device,
        "engine": segmenter.engine.name,
        "recipe": package.recipe_json,
        "labels": package.labels.as_json(),
        "model_sha256": package.sha256,
        "settings": settings.as_json(),
    }

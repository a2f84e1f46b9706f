"""Predict: scans and a model in, label maps on the scans' own grids out. Each case stands alone."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from medseg.device import keep_freed_memory
from medseg.errors import DuplicateCaseError, MedsegError, OptionError, UnexpectedError
from medseg.labels import LabelSet
from medseg.overlay import write_overlay
from medseg.package import ModelPackage
from medseg.progress import Notify, Progress, ignore
from medseg.run import Run, append_line, peak_ram_mb
from medseg.segment import Segmenter
from medseg.stopwatch import Stopwatch
from medseg.volume import LabelMap, Source, Volume, find_sources, read_volume, write_image
from medseg.volume.source import duplicate_ids


@dataclass
class CaseResult:
    """What became of one case: a line of results.jsonl.

    Attributes:
        case_id: the case.
        input: the file or series folder it was read from.
        status: "ok" or "failed".
        error: code and message, or None.
        warnings: what is worth knowing although the case went through, each with code and message.
        outputs: the files written, relative to the output folder.
        volumes_ml: label → millilitres.
        seconds: read, preprocess, infer, restore, write, total.
        peak_ram_mb: the most memory the process had held by the end of the case.
        peak_gpu_mb: the same of the GPU, None without one.
    """

    case_id: str
    input: str
    status: str = "ok"
    error: dict[str, str] | None = None
    warnings: list[dict[str, str]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    volumes_ml: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_ram_mb: int = 0
    peak_gpu_mb: int | None = None

    def fail(self, error: MedsegError) -> None:
        """Record an error."""
        self.status = "failed"
        self.error = error.as_json()


Found = tuple[Source | None, CaseResult]


def find_cases(inputs: Sequence[Path]) -> list[Found]:
    """Return every scan at the inputs, each with a result to fill in.

    An input that is missing or empty becomes a failed case, named after its path, and so does every scan whose case id
    stands twice: their outputs would overwrite each other. The others go on.
    """
    found: list[Found] = []
    for path in inputs:
        try:
            found += [(source, CaseResult(source.case_id, str(source.place))) for source in find_sources([path])]
        except MedsegError as error:
            result = CaseResult(path.name, str(path))
            result.fail(error)
            found.append((None, result))
    repeated = duplicate_ids([result.case_id for source, result in found if source])
    for index, (_, result) in enumerate(found):
        if result.case_id in repeated and result.error is None:
            result.fail(
                DuplicateCaseError(
                    f"predicting {result.input}",
                    found=f"another input also has the case id {result.case_id!r}, and their outputs would collide",
                    remedy="rename one of them, or predict them into different folders",
                )
            )
            found[index] = (None, result)
    return found


def predict(
    package: ModelPackage,
    cases: Sequence[Found],
    folder: Path,
    *,
    device: torch.device,
    overlays: bool = False,
    notify: Notify = ignore,
) -> list[CaseResult]:
    """Segment every case and write its label map, one line in results.jsonl each, and run.json.

    Args:
        package: the model.
        cases: from `find_cases`.
        folder: where results go.
        device: where the network runs.
        overlays: also draw each label map on its scan, into `overlays/`.
        notify: hears of each finished or failed case.

    Raises:
        OptionError: a label map would overwrite a scan.
        PackageError: the model cannot be loaded.
        UnwritableError: the folder cannot be written to.
    """
    keep_freed_memory()
    _spare_inputs([source for source, _ in cases if source], folder)
    run = Run(folder)
    segmenter = Segmenter.of(package, device)
    run.results.unlink(missing_ok=True)
    results: list[CaseResult] = []
    _write_record(run, package, device, results)  # the labels' names are there even when the run is broken off
    for done, (source, result) in enumerate(cases, start=1):
        if source is not None:
            _predict_safely(segmenter, package, source, result, folder, overlays=overlays)
        append_line(run.results, asdict(result))
        results.append(result)
        message = f"{result.case_id}: {result.error['code']} {result.error['message']}" if result.error else ""
        note = f"{result.case_id}, {sum(r.status == 'failed' for r in results)} failed"
        notify(Progress("predict", done, len(cases), note=note, message=message))
    _write_record(run, package, device, results)
    return results


def _write_record(run: Run, package: ModelPackage, device: torch.device, results: Sequence[CaseResult]) -> None:
    """Write run.json: the model's recipe and labels, and what became of the cases so far."""
    run.write_record(
        command="predict",
        device=str(device),
        recipe=package.recipe.model_dump(mode="json", exclude_none=True),
        labels=package.labels.as_json(),
        cases=[result.case_id for result in results],
        failed=[result.case_id for result in results if result.status == "failed"],
    )


def output_path(folder: Path, case_id: str) -> Path:
    """Return where a case's label map goes."""
    return folder / f"{case_id}.nii.gz"


def _spare_inputs(sources: Sequence[Source], folder: Path) -> None:
    """Refuse a folder in which a label map would take the place of a scan."""
    scans = {path.resolve() for source in sources for path in source.paths}
    for source in sources:
        if output_path(folder, source.case_id).resolve() in scans:
            raise OptionError(
                f"--out {folder}",
                found=f"the label map of {source.case_id} would overwrite the scan of that name",
                remedy="choose another folder",
            )


def _predict_safely(
    segmenter: Segmenter, package: ModelPackage, source: Source, result: CaseResult, folder: Path, *, overlays: bool
) -> None:
    """Fill in the result of one case, whatever happens to it."""
    start = time.perf_counter()
    watch = Stopwatch()
    try:
        _predict_case(segmenter, package, source, result, folder, watch, overlays=overlays)
    except MedsegError as error:
        result.fail(error)
    except Exception as error:  # one case's surprise must not stop the others; its kind and words are kept
        result.fail(
            UnexpectedError(
                f"predicting {source.place}",
                found=f"{type(error).__name__}: {error}",
                remedy="please report this with the scan's header",
            )
        )
    total = time.perf_counter() - start
    result.seconds = {stage: round(seconds, 4) for stage, seconds in {**watch.seconds, "total": total}.items()}
    result.peak_ram_mb = peak_ram_mb()
    if segmenter.device.type == "cuda":
        result.peak_gpu_mb = round(torch.cuda.max_memory_allocated(segmenter.device) / 2**20)


def _predict_case(
    segmenter: Segmenter,
    package: ModelPackage,
    source: Source,
    result: CaseResult,
    folder: Path,
    watch: Stopwatch,
    *,
    overlays: bool,
) -> None:
    """Read, segment and write one case."""
    with watch.stage("read"):
        volume = read_volume(source, channels=package.channels)
    label_map = segmenter.segment(volume, stopwatch=watch)
    with watch.stage("write"):
        output = output_path(folder, source.case_id)
        write_image(label_map, output)
        result.outputs.append(output.name)
        result.volumes_ml = volumes_ml(label_map, package.labels)
        if overlays:
            _draw(volume, label_map, package, result, folder)


def _draw(volume: Volume, label_map: LabelMap, package: ModelPackage, result: CaseResult, folder: Path) -> None:
    """Draw a case; a picture that cannot be written is a warning, because the label map is there."""
    picture = Path("overlays") / f"{result.case_id}.png"
    window = package.recipe.preprocess.window_hu
    try:
        write_overlay(folder / picture, volume, label_map, package.labels, window=window, title=result.case_id)
    except MedsegError as error:
        result.warnings.append(error.as_json())
    else:
        result.outputs.append(str(picture))


def volumes_ml(label_map: LabelMap, labels: LabelSet) -> dict[str, float]:
    """Return the volume of each label in millilitres."""
    counts = dict(enumerate(label_map.counts().tolist()))
    voxel_ml = label_map.geometry.voxel_ml
    return {label.name: round(sum(counts.get(part, 0) for part in label.parts) * voxel_ml, 4) for label in labels}

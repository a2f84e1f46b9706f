"""Stages: what is done to each case, in three parts that may run side by side."""

import math
from pathlib import Path

from medseg import __version__
from medseg.amount import memory_text
from medseg.cases import Case
from medseg.labels import LabelSet
from medseg.modality import modality_remarks
from medseg.package import ModelPackage
from medseg.patches import Scratch
from medseg.predict.case_result import CaseResult
from medseg.predict.outputs import draw, possible_formats, write_outputs
from medseg.predict.settings import Settings
from medseg.predict.work import Work
from medseg.remarks import Remark
from medseg.run import peak_ram_mb
from medseg.segment import Segmenter
from medseg.volume import LabelMap, read_volume
from medseg.volume.plausible import hu_remarks, scan_remarks

# What restoring takes at a time, all threads together.
RESTORE_BYTES = 100 * 10**6


class Stages:
    """Reads, infers and writes cases. Whatever goes wrong with a case stands in its result.

    Args:
        package: the model.
        folder: where outputs go.
        segmenter: holds the model's network.
        settings: how cases are read and written.
    """

    def __init__(self, package: ModelPackage, folder: Path, *, segmenter: Segmenter, settings: Settings) -> None:
        self._package, self._folder, self._settings = package, folder, settings
        self._segmenter = segmenter

    def blank(self, case: Case) -> CaseResult:
        """Return the result of a case that nothing was done to."""
        result = CaseResult(
            case.case_id,
            case.named(self._settings.deidentify),
            model_sha256=self._package.sha256,
            settings=self._settings.as_json(),
            medseg=__version__,
        )
        if case.source and case.source.series and not self._settings.deidentify:
            result.series_uid = case.source.series.uid or None
        if case.error:
            result.fail(case.error)
        return result

    def read(self, case: Case) -> Work:
        """Read and prepare a scan."""
        work = Work(case, self.blank(case))
        if case.source is None:
            return work
        with work.alone():
            with work.watch.stage("read"):
                work.formats, left_out = possible_formats(case.source, self._settings)
                volume = read_volume(case.source, channels=self._package.channels, allow_gaps=self._settings.allow_gaps)
                work.result.input_sha256 = self._settings.sealed(case.source.digest())
            with work.watch.stage("preprocess"):
                work.result.warn(*volume.remarks, *scan_remarks(volume), *left_out)
                work.result.warn(*modality_remarks([case.source.modality], self._package.modality))
                if self._package.recipe.preprocess.window_hu is not None:
                    work.result.warn(*hu_remarks(volume, modality=case.source.modality))
                work.prepared = self._segmenter.prepare(volume)
            work.native = volume.geometry
            work.scan = volume if self._settings.overlay else None
        return work

    def infer(self, work: Work) -> Work:
        """Run the network and bring home what it says."""
        if work.prepared is not None:
            assert work.native is not None
            with work.alone():
                scratch = Scratch(
                    self._settings.max_ram, self._folder, besides=RESTORE_BYTES + math.prod(work.native.shape)
                )
                work.label_map = self._segmenter.predict(
                    work.prepared, work.native, scratch=scratch, stopwatch=work.watch
                )
                work.result.warn(*self._memory_remarks(scratch))
        work.prepared = None
        work.result.peak_gpu_mb = self._segmenter.engine.peak_gpu_mb()
        return work

    def _memory_remarks(self, scratch: Scratch) -> list[Remark]:
        """Say what was done to keep to --max-ram."""
        remarks = []
        if scratch.in_file:
            size = memory_text(scratch.sums_bytes)
            remarks.append(Remark("W_IN_FILE", f"{size} of what the network says were kept in a file, for --max-ram"))
        if scratch.short_bytes:
            least = (self._settings.max_ram or 0) + scratch.short_bytes
            remarks.append(Remark("W_MAX_RAM", f"this scan and this model take about {memory_text(least)} at least"))
        if self._settings.max_ram and not self._segmenter.in_slabs:
            told = "the models see scans on different grids, and all that they say of one is held in memory"
            remarks.append(Remark("W_MAX_RAM", told))
        return remarks

    def write(self, work: Work) -> CaseResult:
        """Write the label map; return the finished result."""
        result = work.result
        with work.alone():
            if not result.failed:
                self._write(work)
        if self._settings.deidentify:
            result.hide([*work.case.folders, str(self._folder / "x")[:-1]])
        seconds = work.watch.seconds
        result.seconds = {stage: round(s, 4) for stage, s in {**seconds, "total": sum(seconds.values())}.items()}
        result.peak_ram_mb = peak_ram_mb()
        return result

    def _write(self, work: Work) -> None:
        assert work.label_map is not None
        label_map, labels, settings = work.label_map, self._package.labels, self._settings
        with work.watch.stage("restore"):
            work.result.volumes_ml = volumes_ml(label_map, labels)
        with work.watch.stage("write"):
            write_outputs(work, label_map, labels, self._folder, key=settings.key)
            if work.scan is not None:
                draw(work, label_map, labels, self._folder, window_hu=self._window_hu(work))

    def _window_hu(self, work: Work) -> tuple[float, float] | None:
        """Return the recipe's window, or None where it would show nothing, because the scan is not in HU."""
        strange = any(warning["code"] == "W_NOT_HU" for warning in work.result.warnings)
        return None if strange else self._package.recipe.preprocess.window_hu


def volumes_ml(label_map: LabelMap, labels: LabelSet) -> dict[str, float]:
    """Return the volume of each label in millilitres."""
    counts = dict(enumerate(label_map.counts().tolist()))
    voxel_ml = label_map.geometry.voxel_ml
    return {label.name: round(sum(counts.get(part, 0) for part in label.parts) * voxel_ml, 4) for label in labels}

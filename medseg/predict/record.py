"""Record: results.jsonl and run.json of an output folder. Several commands may write to them at once."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from medseg.atomic import locked, write_text
from medseg.cases import Case, Cases
from medseg.errors import OptionError
from medseg.predict.case_result import CaseResult
from medseg.predict.outputs import remove_leftovers
from medseg.run import Run, append_line, as_line, read_lines, read_record

COMMAND = "predict"


class Record:
    """What a folder says about its cases.

    Args:
        run: the folder.
        cases: what this command does, and what others may be doing.
        deidentify: whether the folders of scans are left out.
        facts: what else run.json says.

    Raises:
        OptionError: the folder is the run of another command, whose run.json would be lost.
    """

    def __init__(self, run: Run, cases: Cases, *, deidentify: bool, **facts: Any) -> None:
        _check_folder(run)
        self._run = run
        every = (*cases.own, *cases.elsewhere)
        self._ids = {case.case_id for case in every}
        self._elsewhere: dict[str, list[Case]] = {}
        for case in cases.elsewhere:
            self._elsewhere.setdefault(case.case_id, []).append(case)
        self._deidentify = deidentify
        self._facts = {
            "command": COMMAND,
            **facts,
            "inputs": _names_of_cases(cases.inputs, every) if deidentify else [str(path) for path in cases.inputs],
            "passed_over": [
                {"file": path.name if deidentify else str(path), "reason": reason} for path, reason in cases.passed_over
            ],
        }

    def read(self) -> list[CaseResult]:
        """Return the lines of results.jsonl; what is none, such as one that a crash cut off, is left out."""
        results = []
        for line in read_lines(self._run.results):
            try:
                results.append(CaseResult.from_json(line))
            except TypeError:
                continue
        return results

    def begin(self, held: Iterable[CaseResult], *, keep: Callable[[CaseResult], bool]) -> None:
        """Start with the results that need no work, and leave those of other shards as they are.

        Args:
            held: results of this command's cases.
            keep: says of the result of a case that is neither this command's nor another shard's whether it stays.

        Raises:
            UnwritableError: no permission or no space.
        """
        with locked(self._run.results):
            remove_leftovers(self._run.folder, [self._run.results.name, "run.json"])
            others = [
                result
                for result in self.read()
                if self._is_anothers(result) or (result.case_id not in self._ids and keep(result))
            ]
            self._write([*others, *held])

    def _is_anothers(self, result: CaseResult) -> bool:
        """Say whether a result is that of a case of another shard, which may have spelt its place in another way.

        What was spelt from another folder cannot be looked up here; then the case's id is believed.
        """
        path = Path(result.input)
        for case in self._elsewhere.get(result.case_id, ()):
            if result.input == case.named(self._deidentify):
                return True
            if not self._deidentify and (path.resolve() == case.place.resolve() or not path.exists()):
                return True
        return False

    def append(self, result: CaseResult) -> None:
        """Add a line to results.jsonl.

        Raises:
            UnwritableError: no permission or no space.
        """
        with locked(self._run.results):
            append_line(self._run.results, result.as_json())

    def close(self) -> None:
        """Bring the lines into the order of the case ids, and tell of all of them in run.json.

        Where commands did a case at once, the line of the last counts.

        Raises:
            UnwritableError: no permission or no space.
        """
        with locked(self._run.results):
            self._write(list({(result.case_id, result.input): result for result in self.read()}.values()))

    def _write(self, results: list[CaseResult]) -> None:
        results.sort(key=lambda result: (result.case_id, result.input))
        write_text(self._run.results, "".join(as_line(result.as_json()) for result in results))
        self._run.write_record(
            **self._facts,
            cases=[result.case_id for result in results],
            failed=[result.case_id for result in results if result.failed],
        )


def _check_folder(run: Run) -> None:
    """Raise OptionError for the folder of another command's run, finished or not."""
    command = read_record(run.folder).get("command") or ("train" if run.journal.exists() else COMMAND)
    if command != COMMAND:
        raise OptionError(
            f"--out {run.folder}",
            found=f"it is a run of medseg {command}, whose run.json would be overwritten",
            remedy="choose another folder",
        )


def _names_of_cases(inputs: Sequence[Path], cases: Sequence[Case]) -> list[str]:
    """Return the names of those inputs that are cases themselves; that of a folder around cases may be a patient's."""
    places = {case.place for case in cases}
    return [path.name for path in inputs if path in places]

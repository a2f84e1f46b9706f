"""Begin a training: its folder and batch seen to be possible, and the trainer as a checkpoint left it."""

from medseg.across import processes, rank, wait
from medseg.atomic import write_text
from medseg.errors import RecipeError, TrainingError
from medseg.progress import Notify, Progress
from medseg.recipe import Recipe
from medseg.run import Run, as_line, read_lines, read_record
from medseg.train.checkpoint import has_checkpoint
from medseg.train.fingerprint import check_same_recipe, predicts_alike
from medseg.train.trainer import Trainer


def check_batch(recipe: Recipe) -> None:
    """Raise RecipeError when the processes cannot share a batch evenly."""
    if recipe.training.batch % processes():
        raise RecipeError(
            f"training in {processes()} processes",
            found=f"training.batch is {recipe.training.batch}, and each takes an equal share of it",
            remedy="choose a multiple as training.batch, or another number of processes",
        )


def check_folder(run: Run, *, resume: bool, notify: Notify) -> None:
    """Raise TrainingError when a run is there already and is not to be resumed, or is of another kind.

    `notify` hears when there is nothing to resume.
    """
    _refuse_predictions(run)
    folds = any(run.folder.glob("fold_*"))
    there = has_checkpoint(run.checkpoint) or _has_results(run)
    if folds or (there and not resume):
        raise TrainingError(
            f"training into {run.folder}",
            found=f"a run is there already{', of all folds' * folds}",
            remedy="choose another --out" if folds else "add --resume to go on with it, or choose another --out",
        )
    if not there and resume:
        message = f"there is nothing to resume in {run.folder}: training begins at the first step"
        notify(Progress("train", 0, 1, message=message))


def check_folds_folder(run: Run) -> None:
    """Raise TrainingError when something else than a cross-validation is in a folder that is to hold one."""
    _refuse_predictions(run)
    begun = any(run.folder.glob("fold_*"))
    if has_checkpoint(run.checkpoint) or (_has_results(run) and not begun):
        raise TrainingError(
            f"training all folds into {run.folder}",
            found="a run is there already, which is none of a cross-validation",
            remedy="choose another --out",
        )


def _refuse_predictions(run: Run) -> None:
    """Raise TrainingError when a folder holds predictions."""
    if run.results.exists():
        raise TrainingError(
            f"training into {run.folder}", found="it holds the results of a prediction", remedy="choose another --out"
        )


def begin(run: Run, trainer: Trainer, recipe: Recipe, *, notify: Notify) -> None:
    """Have the trainer go on from the run's checkpoint, where there is one, and write down what the run is about.

    The journal goes as far as the checkpoint: lines of later epochs are left out, and will be written again. A finished
    run whose recipe now predicts in another way is not finished any more: its cases are to be scored again.

    Raises:
        TrainingError: the checkpoint is another run's, or of another recipe, or cannot be read; or there is none, and
            a run is there that is not the finished one that is asked for.
    """
    if _has_results(run) and not has_checkpoint(run.checkpoint):
        _check_finished(run, trainer, recipe)
        return
    if has_checkpoint(run.checkpoint):
        check_same_recipe(run, recipe)
        trainer.load(run.checkpoint, notify=notify)
        if rank() == 0 and run.record.exists() and not predicts_alike(run, recipe):
            run.record.unlink()
            message = "the recipe's [prediction] has changed: the same weights are scored and packaged again"
            notify(Progress("train", trainer.state.step, trainer.total, message=message))
    if rank() == 0:
        kept = [line for line in read_lines(run.journal) if line["epoch"] <= trainer.state.epoch]
        write_text(run.journal, "".join(map(as_line, kept)))
        write_text(run.recipe, recipe.to_toml())
    wait()


def _has_results(run: Run) -> bool:
    """Say whether a run has come to its end, or near it."""
    return run.record.exists() or run.model.exists()


def _check_finished(run: Run, trainer: Trainer, recipe: Recipe) -> None:
    """Raise TrainingError when a run without a checkpoint is not the finished one that is asked for."""
    check_same_recipe(run, recipe)
    same = read_record(run.folder).get("fingerprint") == trainer.state.fingerprint
    if not same or not predicts_alike(run, recipe):
        raise TrainingError(
            f"resuming the run {run.folder}",
            found="it has no checkpoint any more, and is not the finished run of this recipe, dataset, fold, seed and "
            "--from",
            remedy=f"choose another --out, or start another run with this one's weights: --from {run.folder}",
        )

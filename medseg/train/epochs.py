"""Epochs: the steps between two lines of the journal, and all that is kept of them."""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from medseg.across import highest, rank
from medseg.errors import UnwritableError
from medseg.interrupt import held, pending, stop
from medseg.progress import Notify, Progress
from medseg.run import Run, append_line, peak_ram_mb
from medseg.train.checkpoint import save_weights
from medseg.train.stream import PatchStream, batches
from medseg.train.trainer import Trainer
from medseg.train.validate import Validator

# Nothing but the power going loses more than this.
SECONDS_BETWEEN_CHECKPOINTS = 600.0

Samples = Iterator[Sequence[Tensor]]


def take_epochs(
    run: Run,
    trainer: Trainer,
    stream: PatchStream,
    validator: Validator | None,
    *,
    workers: int | None,
    notify: Notify,
) -> None:
    """Train from where the trainer stands to the end of the last epoch.

    Every epoch ends with a line in the journal and a checkpoint; there is one before each validation, too, and long
    epochs have some within. However training is broken off, by a signal for instance, where it stands is kept, unless
    amid a step.

    Args:
        run: where journal and checkpoints go.
        trainer: takes the steps.
        stream: what they are taken with.
        validator: scores the epochs; None where nothing is segmented that could be scored.
        workers: processes that draw for this one; None chooses by the machine's cores.
        notify: hears of each step and epoch.
    """
    samples = iter(
        batches(
            stream,
            batch=trainer.settings.batch,
            first=trainer.state.step,
            last=trainer.total,
            workers=workers,
            pinned=trainer.device.type == "cuda",
        )
    )
    with _kept(run, trainer):
        while trainer.state.epoch < trainer.settings.epochs:
            due = validator if _is_due(trainer) else None
            with held():
                _take_steps(run, trainer, samples, notify)
                if due:  # whole scans take long, and the most memory
                    _save(run, trainer)
            dice = _validate(run, trainer, due) if due else None
            with held():
                _end_epoch(run, trainer, dice, notify)


@contextmanager
def _kept(run: Run, trainer: Trainer) -> Iterator[None]:
    """Write a checkpoint when the block is broken off between two steps."""
    try:
        yield
    except UnwritableError:
        raise
    except BaseException:
        if not trainer.torn:
            with held():
                _save(run, trainer)
        raise


def _take_steps(run: Run, trainer: Trainer, samples: Samples, notify: Notify) -> None:
    """Take what is left of the epoch's steps; a signal in any of the processes ends all of them after the same step."""
    state, settings = trainer.state, trainer.settings
    first = state.epoch * settings.steps_per_epoch
    saved = then = time.perf_counter()
    for sample in itertools.islice(samples, first + settings.steps_per_epoch - state.step):
        loss = trainer.step(*sample)
        now = time.perf_counter()
        state.seconds += now - then
        left = state.seconds / (state.step - first) * (trainer.total - state.step)
        best = "" if state.best_dice is None else f", best Dice {state.best_dice:.3f}"
        left_out = f"step {state.step}: the gradients are not finite, the weights stay" if state.left_out else ""
        note = f"loss {loss:.3f}{best}, {clock(left)} left"
        notify(Progress("train", state.step, trainer.total, note=note, message=left_out))
        if code := highest(pending()):
            stop(code)
        if now - saved > SECONDS_BETWEEN_CHECKPOINTS:
            _save(run, trainer)
            saved = now
        then = time.perf_counter()


def _is_due(trainer: Trainer) -> bool:
    """Say whether the epoch ends with a validation."""
    epoch, settings = trainer.state.epoch + 1, trainer.settings
    return epoch % settings.validate_every == 0 or epoch == settings.epochs


def _validate(run: Run, trainer: Trainer, validator: Validator) -> float:
    """Return the Dice of the averaged weights, and keep those that had the best."""
    state = trainer.state
    dice = validator.dice(most=trainer.settings.validation_cases)
    if state.best_dice is None or dice > state.best_dice:
        if rank() == 0:
            save_weights(run.checkpoint / "best.safetensors", trainer.averaged)
        state.best_dice = dice
    return dice


def _end_epoch(run: Run, trainer: Trainer, dice: float | None, notify: Notify) -> None:
    """Write the journal's line and a checkpoint. Without the checkpoint, resuming writes the line again."""
    state, settings = trainer.state, trainer.settings
    loss, seconds = state.losses / settings.steps_per_epoch, state.seconds
    line = {
        "epoch": state.epoch + 1,
        "step": state.step,
        "loss": loss,
        "validation_dice": dice,
        "learning_rate": trainer.rate(state.epoch * settings.steps_per_epoch),
        "seconds": round(seconds, 3),
        "samples_per_second": round(settings.steps_per_epoch * settings.batch / seconds, 3),
        "peak_ram_mb": peak_ram_mb(),
    }
    if rank() == 0:
        append_line(run.journal, line)
    state.epoch, state.losses, state.seconds = state.epoch + 1, 0.0, 0.0
    _save(run, trainer)
    told = "" if dice is None else f", Dice {dice:.4f}"
    message = f"epoch {state.epoch}/{settings.epochs}: loss {loss:.4f}{told}, {seconds:.0f} s"
    notify(Progress("train", state.step, trainer.total, message=message))


def _save(run: Run, trainer: Trainer) -> None:
    """Write a checkpoint, by one of the processes."""
    if rank() == 0:
        trainer.save(run.checkpoint)


def clock(seconds: float) -> str:
    """Return a duration as people read it: 48 s, 12:05 min, 3:20 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"

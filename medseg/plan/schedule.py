"""The rules of time: how many steps, epochs and validations the minutes given are enough for."""

import math
from dataclasses import dataclass

from medseg.plan.choice import Choice
from medseg.plan.coarse import SHARE_OF_COARSE
from medseg.plan.facts import Facts
from medseg.plan.fit import FEWEST_STEPS, FORWARD, Fit, windows_of
from medseg.plan.measure import Speed
from medseg.plan.prediction import passes_of
from medseg.recipe import Recipe

# An epoch is about so long: it is what a crash may cost, and how often the loss is told.
SECONDS_PER_EPOCH, MOST_EPOCHS = 60.0, 1000
# Validations while training take no more than this part of the time, and are as many at most.
SHARE_OF_VALIDATIONS, MOST_VALIDATIONS, MOST_CASES = 0.05, 10, 16
# The average of the weights looks back over so much of the training (a ninth of it at most: `train/average.py`); of a
# short one, which has hardly settled, it is left out.
SHARE_OF_AVERAGE, SETTLED_STEPS, LONGEST_AVERAGE = 0.1, 200, 0.9999
# However long the rest takes, training gets so much of the time.
SHARE_OF_TRAINING = 0.2
# A plan that takes so many times the minutes given says so.
MUCH_LONGER = 1.15
# Reading a case anew, resampling it and writing it takes about so many times as long as looking at it, when cases are
# prepared one after the other.
PREPARING = 2.0


@dataclass(frozen=True)
class Schedule:
    """How long a training is.

    Attributes:
        choices: the values, and why.
        minutes: from the command to the scores, by this machine's speed; more than were given, where there is so much
            to prepare and to score that hardly any would be left to train.
        late: whether that is too many more to be passed over.
    """

    choices: tuple[Choice, ...]
    minutes: float
    late: bool


def schedule(facts: Facts, fitted: Fit, speed: Speed, *, minutes: float, recipe: Recipe) -> Schedule:
    """Return epochs, steps, the weights' average and validations that fill so many minutes.

    Args:
        facts: the dataset's, with the cases that are scored at the end.
        fitted: patch, batch and network.
        speed: of that network on the machine that will train.
        minutes: from the command to the scores.
        recipe: what has been chosen so far: how held-out cases are segmented, and whether a coarse network is trained.
    """
    prediction, coarse, given = recipe.prediction, recipe.coarse, 60 * minutes
    window = FORWARD * speed.step / fitted.batch
    case = windows_of(fitted, overlap=prediction.overlap) * window
    final = facts.held_out * passes_of(fitted, prediction) * window
    before = PREPARING * facts.seconds * (2 if coarse else 1)
    first = SHARE_OF_COARSE * given if coarse else 0.0
    least = SHARE_OF_TRAINING * given
    left = max(given - before - first - final, least)
    cases, validations = _validations(case, facts.held_out, SHARE_OF_VALIDATIONS * left)
    validating = validations * cases * case
    steps = max(1, int(max(left - validating, least) / speed.seconds))
    needed = (before + first + final + validating + steps * speed.seconds) / 60
    epochs = max(1, min(MOST_EPOCHS, steps, round(steps * speed.seconds / SECONDS_PER_EPOCH)))
    every = max(1, math.ceil(epochs / validations))
    measured = f"a step takes {speed.seconds:.2g} s on the machine that planned this"
    if speed.draw > 0.05 * speed.step and not speed.workers:
        measured += f", {speed.draw:.2g} s of it drawing patches"
    rest = f"{max(0.1, (before + final) / 60):.1f} minutes go to preparing and scoring"
    average = min(LONGEST_AVERAGE, round(1 - 1 / (SHARE_OF_AVERAGE * steps), 4)) if steps >= SETTLED_STEPS else 0.0
    averaged = f"an average of the weights over about {SHARE_OF_AVERAGE:.0%} of the steps is what is kept"
    if coarse:
        rest += f", and {first / 60:.1f} to the coarse network"
    late = needed > MUCH_LONGER * minutes
    fills = f"{needed:.0f} minutes, not {minutes:g}" if late else f"{minutes:g} minutes"
    told = f"{steps} steps in {fills}, with {facts.held_out} case(s) scored at the end: {measured}; {rest}"
    if steps < FEWEST_STEPS / 2:
        told += f". That is little: give more minutes for {FEWEST_STEPS} steps or more"
    per_epoch = max(1, steps // epochs)
    choices = (
        Choice("training.epochs", epochs, told),
        Choice("training.steps_per_epoch", per_epoch, "an epoch takes about a minute, or less"),
        Choice("training.average", average, averaged if average else "weights are not averaged in so few steps"),
        Choice("training.validate_every", every, "the last epoch always has a validation"),
        Choice("training.validation_cases", cases, f"they take {cases * case:.2g} s each time"),
        *_coarse(recipe, fitted, speed, seconds=first, steps_per_epoch=per_epoch),
    )
    return Schedule(choices, needed, late)


def _coarse(recipe: Recipe, fitted: Fit, speed: Speed, *, seconds: float, steps_per_epoch: int) -> list[Choice]:
    """Return the coarse network's epochs, which have as many steps as the fine one's."""
    if not recipe.coarse:
        return []
    step = speed.seconds * math.prod(recipe.coarse.patch) / math.prod(fitted.patch)
    epochs = max(1, round(seconds / (step * steps_per_epoch)))
    reason = f"{SHARE_OF_COARSE:.0%} of the time, for a step of the coarse network takes {step:.2g} s at most"
    return [Choice("coarse.epochs", epochs, reason)]


def _validations(case: float, held_out: int, seconds: float) -> tuple[int, int]:
    """Return how many cases are validated, and how often, to take no more than these seconds where one does."""
    cases = max(1, min(MOST_CASES, held_out, int(seconds / case / 2)))
    return cases, max(1, min(MOST_VALIDATIONS, int(seconds / (case * cases))))

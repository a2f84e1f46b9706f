"""The rules of time: how many steps, epochs and validations the minutes given are enough for."""

import math

from medseg.dataset import FOLDS
from medseg.plan.choice import Choice
from medseg.plan.facts import Facts
from medseg.plan.fit import FEWEST_STEPS, Fit
from medseg.plan.measure import Speed
from medseg.plan.rules import windows_of
from medseg.recipe import Prediction

# An epoch is about so long: it is what a crash may cost, and how often the loss is told.
SECONDS_PER_EPOCH, MOST_EPOCHS = 60.0, 1000
# Validations while training take no more than this part of the time, and are as many at most.
SHARE_OF_VALIDATIONS, MOST_VALIDATIONS, MOST_CASES = 0.05, 10, 16
# The average of the weights looks back over so much of the training; of a short one, which has hardly settled, it is
# left out.
SHARE_OF_AVERAGE, SETTLED_STEPS, LONGEST_AVERAGE = 0.2, 200, 0.9999
# A forward pass is a third of a step (the backward pass is twice as much).
FORWARD = 1 / 3
# Reading a case anew, resampling it and writing it takes about so many times as long as looking at it, when cases are
# prepared one after the other.
PREPARING = 2.0


def schedule(facts: Facts, fitted: Fit, speed: Speed, *, minutes: float, prediction: Prediction) -> tuple[Choice, ...]:
    """Return epochs, steps, the weights' average and validations, for so many minutes with a fifth of the cases scored.

    Args:
        facts: the dataset's.
        fitted: patch, batch and network.
        speed: of that network on the machine that will train.
        minutes: from the command to the scores.
        prediction: how the held-out cases are segmented at the end.
    """
    window = FORWARD * speed.step / fitted.batch
    case = windows_of(fitted) * window
    held_out = max(1, len(facts.cases) // FOLDS)
    final = held_out * windows_of(fitted, margin=prediction.margin) * window * 2 ** len(prediction.flips)
    before = PREPARING * facts.seconds
    left = max(60 * minutes - before - final, 0.2 * 60 * minutes)
    cases, validations = _validations(case, held_out, SHARE_OF_VALIDATIONS * left)
    steps = max(1, int((left - validations * cases * case) / speed.seconds))
    epochs = max(1, min(MOST_EPOCHS, steps, round(steps * speed.seconds / SECONDS_PER_EPOCH)))
    every = max(1, math.ceil(epochs / validations))
    measured = f"a step takes {speed.seconds:.2g} s on the machine that planned this"
    if speed.draw > 0.05 * speed.step and not speed.workers:
        measured += f", {speed.draw:.2g} s of it drawing patches"
    rest = f"{max(0.1, (before + final) / 60):.1f} minutes go to preparing and scoring"
    average = min(LONGEST_AVERAGE, round(1 - 1 / (SHARE_OF_AVERAGE * steps), 4)) if steps >= SETTLED_STEPS else 0.0
    averaged = f"an average of the weights over about {SHARE_OF_AVERAGE:.0%} of the steps is what is kept"
    told = f"{steps} steps in {minutes:g} minutes, with one fold held out: {measured}; {rest}"
    if steps < FEWEST_STEPS / 2:
        told += f". That is little: give more minutes for {FEWEST_STEPS} steps or more"
    return (
        Choice("training.epochs", epochs, told),
        Choice("training.steps_per_epoch", max(1, steps // epochs), "an epoch takes about a minute, or less"),
        Choice("training.average", average, averaged if average else "weights are not averaged in so few steps"),
        Choice("training.validate_every", every, "the last epoch always has a validation"),
        Choice("training.validation_cases", cases, f"they take {cases * case:.2g} s each time"),
    )


def _validations(case: float, held_out: int, seconds: float) -> tuple[int, int]:
    """Return how many cases are validated, and how often, to take no more than these seconds where one does."""
    cases = max(1, min(MOST_CASES, held_out, int(seconds / case / 2)))
    return cases, max(1, min(MOST_VALIDATIONS, int(seconds / (case * cases))))

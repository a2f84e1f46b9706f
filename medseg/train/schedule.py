"""The learning rate of every step."""

import math


def learning_rate(step: int, *, total: int, peak: float, warm_up: float) -> float:
    """Return the rate of a step: it rises in a line from a 25th of the peak, then falls along a cosine to 0.

    One cycle, after Smith and Topin 2019 ("Super-convergence").

    Args:
        step: from 0 to total − 1.
        total: all steps of the training.
        peak: the highest rate.
        warm_up: the fraction of the steps in which it rises.
    """
    rising = warm_up * total
    if step < rising:
        return peak * (0.04 + 0.96 * step / rising)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, total - rising)))

"""Fingerprint: by what a run is known again when it is resumed."""

import hashlib
import json
from typing import Any

from medseg.errors import MedsegError, TrainingError
from medseg.recipe import Recipe, load_recipe
from medseg.run import Run

# A recipe's keys that training does not depend on: words, where the dataset's facts stand, what pretraining follows,
# and how whole scans are segmented, which only scores depend on.
NOT_TRAINED_BY = {"description", "manifest", "pretraining", "prediction"}
# Keys that an error names at most.
MOST_NAMED = 5


def fingerprint(recipe: Recipe, *facts: Any) -> str:
    """Return a hash of what a run is started with: its recipe and plain facts.

    What is left at its default is not in it, so that a run goes on that was begun before there was such a key; nor is
    what training does not depend on.
    """
    choices = recipe.model_dump(mode="json", exclude=NOT_TRAINED_BY, exclude_defaults=True)
    return hashlib.sha256(json.dumps([choices, *facts]).encode()).hexdigest()


def check_same_recipe(run: Run, recipe: Recipe) -> None:
    """Raise TrainingError, naming the keys, when a run was started with another recipe.

    The run's own has its defaults written out, so that those of another version are seen. One that cannot be read is
    passed over: the fingerprint tells whether it was another.
    """
    recorded = _recorded(run)
    if recorded is None:
        return
    before, now = _by_key(recorded), _by_key(recipe)
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if not changed:
        return
    found = [f"{key} was {before.get(key, 'not set')} and is {now.get(key, 'not set')}" for key in changed]
    more = [f"{len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    raise TrainingError(
        f"resuming the run {run.folder}",
        found="it was started with another recipe: " + "; ".join(found[:MOST_NAMED] + more),
        remedy=f"leave the recipe as it was, or start another run with this one's weights: --from {run.folder}",
    )


def predicts_alike(run: Run, recipe: Recipe) -> bool:
    """Return whether a run segments whole scans as a recipe says, as far as its own can be read."""
    recorded = _recorded(run)
    return recorded is None or recorded.prediction == recipe.prediction


def _recorded(run: Run) -> Recipe | None:
    """Return the recipe that a run was started with, or None where it cannot be read."""
    try:
        return load_recipe(str(run.recipe))
    except MedsegError:
        return None


def _by_key(recipe: Recipe) -> dict[str, str]:
    """Return what training depends on, as JSON, by keys such as training.epochs."""
    found = {}
    for name, value in recipe.model_dump(mode="json", exclude=NOT_TRAINED_BY, exclude_none=True).items():
        section = {f"{name}.{key}": own for key, own in value.items()} if isinstance(value, dict) else {name: value}
        found.update({key: json.dumps(own) for key, own in section.items()})
    return found

"""Plan: a dataset in, a recipe out."""

from dataclasses import dataclass
from typing import Any

import torch

from medseg.amount import memory_text
from medseg.dataset import Dataset
from medseg.engine.torch import uses_bf16
from medseg.plan.budget import Budget, memory_to_use
from medseg.plan.choice import Choice, as_recipe
from medseg.plan.facts import Facts
from medseg.plan.grid import flat_axis
from medseg.plan.look import look_at
from medseg.plan.measure import measured_speed, voxels_per_second
from medseg.plan.rules import design
from medseg.plan.schedule import schedule
from medseg.plan.write import commented_toml
from medseg.processor import cores, drawing_workers
from medseg.progress import Notify, Progress, ignore
from medseg.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """What a dataset, and the time and memory given, ask for.

    Attributes:
        facts: what the dataset is like.
        choices: the recipe's values, each with its reason.
        heading: where they come from, in sentences.
    """

    facts: Facts
    choices: tuple[Choice, ...]
    heading: str

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return as_recipe(self.choices)

    def to_toml(self) -> str:
        """Return the recipe as a TOML file with the reasons in comments."""
        return commented_toml(self.choices, heading=self.heading)

    def as_json(self) -> dict[str, Any]:
        """Return facts and choices as `medseg plan --json` prints them."""
        return {"facts": self.facts.as_json(), "choices": [choice.as_json() for choice in self.choices]}


def plan(
    dataset: Dataset,
    *,
    minutes: float,
    memory_bytes: int | None = None,
    device: torch.device,
    notify: Notify = ignore,
) -> Plan:
    """Look at a dataset, and choose everything that training on it depends on.

    Args:
        dataset: the cases; those that cannot be read are told of and left out.
        minutes: what training may take on this machine.
        memory_bytes: what it may take of the device's memory; None is 80 % of what a GPU has free, or else half of the
            machine's.
        device: where training will run.
        notify: hears of each case, and of what is measured.

    Raises:
        NoCasesError: nothing to learn from.
        ManifestError: no case shows a label.
        OutOfMemoryError: not even a small network's training step fits the device, or the one chosen does not.
    """
    facts = look_at(dataset, notify=notify)
    channels, labels = len(facts.modalities), len(facts.found)
    notify(Progress("measure", 0, 2, note="how fast this machine trains"))
    given = memory_bytes or memory_to_use(device)
    pace = voxels_per_second(channels=channels, labels=labels, flat=flat_axis(facts), device=device, memory_bytes=given)
    workers = drawing_workers()
    budget = Budget(minutes, given, workers, pace, bf16=uses_bf16("auto", device))
    designed = design(facts, budget)
    recipe = as_recipe(designed.choices)
    notify(Progress("measure", 1, 2, note="the network chosen"))
    speed = measured_speed(recipe, channels=channels, labels=labels, workers=workers, device=device)
    timed = schedule(facts, designed.fit, speed, minutes=minutes, recipe=recipe)
    warnings = []
    if designed.fit.bytes > given:
        warnings.append(f"Even the smallest patch takes {memory_text(designed.fit.bytes)}.")
    if timed.late:
        warnings.append(
            f"This takes about {timed.minutes:.0f} minutes, not {minutes:g}: preparing the cases and scoring "
            f"{facts.held_out} of them leave too little for training; give more --minutes."
        )
    notify(Progress("measure", 2, 2, message=" ".join(warnings)))
    return Plan(facts, (*designed.choices, *timed.choices), _heading(facts, budget, device))


def _heading(facts: Facts, budget: Budget, device: torch.device) -> str:
    """Return where a recipe comes from."""
    lacking = f" ({len(facts.left_out)} could not be read)" if facts.left_out else ""
    kinds = {"cpu": f"a CPU with {cores()} cores", "cuda": "a CUDA GPU", "mps": "an Apple GPU"}
    return (
        f"Planned by medseg from {len(facts.cases)} case(s) of {facts.name}{lacking}, for {budget.minutes:g} minutes "
        f"of training on {kinds[device.type]} in {memory_text(budget.memory_bytes)} of memory. Each value stands below "
        "its reason and may be changed."
    )

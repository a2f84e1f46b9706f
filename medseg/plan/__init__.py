"""Plan a recipe: look at a dataset once, and choose what suits it and the time and memory given."""

from medseg.plan.facts import Facts
from medseg.plan.plan import Plan, plan

__all__ = ["Facts", "Plan", "plan"]

"""The rules of spacing, patch, batch and network, which share time and memory between them.

nnU-Net fits the largest patch into the memory, with a batch of two at least, and trains for 250,000 steps whatever they
take (Isensee et al. 2021). Where training has to end after so many minutes, time is what is short: everything here
follows from how many voxels the machine can train on in that time.
"""

import math
from dataclasses import dataclass, replace

from medseg.axes import Sides
from medseg.plan.budget import Budget
from medseg.plan.facts import Facts, Spacing
from medseg.plan.grid import full_spacing, shape_at, spacing_within
from medseg.plan.memory import training_bytes

# An axis is halved while four voxels or more remain, five times at most: nnU-Net's.
LEAST_FEATURES, MOST_HALVINGS = 4, 5
# No patch is made smaller than that along an axis, unless the scans are: too little would be seen of an organ. The
# network has three levels at least, which takes a side of 16.
SMALLEST_SIDE, SMALLEST_LONGEST = 32, 16
SMALLEST_BATCH, LARGEST_BATCH = 2, 16
SMALLEST_BATCH_2D, LARGEST_BATCH_2D = 8, 64
# A batch is no more than this part of all voxels there are: nnU-Net's.
BATCH_OF_DATASET = 0.05
# Of the minutes given, what reading, validating and scoring leave to the steps; the schedule counts it exactly.
SHARE_OF_STEPS = 0.85
# Each place of the median case is seen so often, in one case or another; where time is not enough, voxels are made
# larger. The shipped recipes learn organs from one case with 600 looks, and the demo's from ten with 800.
LOOKS = 300
# Training takes so many steps at least, or the learning rate has no time to fall; the demo's takes 320.
FEWEST_STEPS = 500
# A batch is larger than the smallest only where so many steps remain: on the hippocampus, twice the steps of half the
# batch scored as high or higher (README.md).
STEPS_BEFORE_BATCH = 5000
# However short the time, a step has so many voxels: smaller ones see too little, and keep no processor busy.
STEP_VOXELS = 2**18
# Twice the filters, and on the first level four times as many, cost about five times the time: worth it when steps are
# plenty. Of a narrow network the first level, where every voxel counts, has half as many: it scores the same in two
# thirds of the time.
NARROW, WIDE, WIDE_COST, STEPS_FOR_WIDE = 16, 32, 5.0, 10_000
MOST_DOUBLED, MOST_DOUBLED_2D = 10, 16
# A patch that shows less of the median case does not know where it is; nnU-Net asks for a quarter, and else trains a
# coarse network that looks first.
LEAST_COVERED = 0.05
# Between two patches in prediction: nnU-Net's, and where there is no time for it.
OVERLAP, LEAST_OVERLAP = 0.5, 0.25
# A forward pass is a third of a step (the backward pass is twice as much).
FORWARD = 1 / 3
# Cases have no more voxels than scoring those held out with the least overlap takes this part of the time for.
MOST_SCORING = 0.3
# Twice the filters are worth neither coarser voxels nor much less of a case in a patch.
COARSER_AT_MOST, LESS_AT_MOST = 1.1, 0.5


@dataclass(frozen=True)
class Fit:
    """What fits the time and the memory.

    Attributes:
        spacing_mm: of the prepared grid.
        spacing_reason: why.
        shape: the median case's sides at that spacing, in voxels.
        patch: voxels along I, J and K; a 1 makes it 2D.
        batch: patches in a step.
        filters: of each level.
        bytes: of memory that training takes.
    """

    spacing_mm: Spacing
    spacing_reason: str
    shape: Sides
    patch: Sides
    batch: int
    filters: tuple[int, ...]
    bytes: int

    @property
    def flat(self) -> int | None:
        """The axis of slices that are segmented one by one, or None."""
        return self.patch.index(1) if 1 in self.patch else None

    @property
    def wide(self) -> bool:
        """Whether the network has nnU-Net's number of filters."""
        return self.filters[0] == WIDE

    @property
    def cost(self) -> float:
        """How many times as long a voxel takes as with half the filters."""
        return WIDE_COST if self.wide else 1.0

    @property
    def covered(self) -> float:
        """Which part of the median case a patch shows, 0 to 1."""
        return math.prod(min(1.0, side / size) for side, size in zip(self.patch, self.shape, strict=True))

    @property
    def step_voxels(self) -> int:
        """Voxels of a batch."""
        return self.batch * math.prod(self.patch)


def fit(facts: Facts, budget: Budget, *, cropped: bool, flat: int | None) -> Fit:
    """Return the finest spacing, the largest patch and the widest network that time and memory are enough for.

    Args:
        facts: the dataset's.
        budget: the time and memory.
        cropped: whether margins are cut off.
        flat: the axis of slices that are segmented one by one, or None for 3D.
    """
    narrow = _fit(facts, budget, first=NARROW, cost=1.0, cropped=cropped, flat=flat)
    wide = _fit(facts, budget, first=WIDE, cost=WIDE_COST, cropped=cropped, flat=flat)
    steps = budget.voxels(share=SHARE_OF_STEPS, cost=WIDE_COST) / wide.step_voxels
    affordable = steps >= STEPS_FOR_WIDE and wide.bytes <= budget.memory_bytes
    as_fine = math.prod(wide.spacing_mm) <= COARSER_AT_MOST * math.prod(narrow.spacing_mm)
    return wide if affordable and as_fine and wide.covered >= LESS_AT_MOST * narrow.covered else narrow


def _fit(facts: Facts, budget: Budget, *, first: int, cost: float, cropped: bool, flat: int | None) -> Fit:
    """Return what fits with so many filters on the first level, where a voxel costs so much more than with 16."""
    voxels = budget.voxels(share=SHARE_OF_STEPS, cost=cost)
    extent_mm = facts.median_extent_mm(cropped=cropped)
    whole = shape_at(extent_mm, full_spacing(facts)[0])
    # Without bounds of time, to see what memory alone holds.
    held = _largest(facts, budget, whole, math.inf, first, flat)
    by_memory = math.prod(held.patch) / LEAST_COVERED if flat is None else math.inf
    small = STEP_VOXELS / SMALLEST_BATCH  # what a patch holds whole is small enough
    by_time = max(voxels / LOOKS, small)
    by_scoring = max(_scorable(facts, budget, cost=cost, flat=flat), small)
    if by_scoring < min(by_time, by_memory):
        why = f"{facts.held_out} case(s) can be scored in time only up to {_millions(by_scoring)}"
    elif by_time < by_memory:
        why = f"{budget.minutes:g} minutes show each place of a case {LOOKS} times only up to {_millions(by_time)}"
    else:
        why = f"a patch that fits the memory should show {100 * LEAST_COVERED:.0f} % of a case or more"
    spacing, reason = spacing_within(
        facts, max(1.0, min(by_time, by_memory, by_scoring)), why=why, cropped=cropped, flat=flat
    )
    shape = shape_at(extent_mm, spacing)
    found = _largest(facts, budget, shape, voxels, first, flat)
    return replace(found, spacing_mm=spacing, spacing_reason=reason)


def _scorable(facts: Facts, budget: Budget, *, cost: float, flat: int | None) -> float:
    """Return how many voxels a case may have so that all that are held out can be scored in time."""
    often = (1 / (1 - LEAST_OVERLAP)) ** (3 if flat is None else 2)
    return budget.voxels(share=MOST_SCORING, cost=cost) / (max(1, facts.held_out) * FORWARD * often)


def _largest(facts: Facts, budget: Budget, shape: Sides, voxels: float, first: int, flat: int | None) -> Fit:
    """Return the largest patch, then the largest batch, that memory holds and that leave steps enough.

    The patch has the median case's proportions; where even the smallest is too much, it is returned.

    Args:
        facts: the dataset's.
        budget: the memory.
        shape: the median case's sides.
        voxels: to be trained on in all steps together.
        first: filters of the first level.
        flat: the axis of slices that are segmented one by one, or None for 3D.
    """
    step_voxels = max(STEP_VOXELS, voxels / FEWEST_STEPS)

    def at(patch: Sides, batch: int) -> Fit:
        filters = level_filters(patch, first)
        size = training_bytes(
            patch,
            batch,
            filters,
            channels=len(facts.modalities),
            labels=len(facts.found),
            masked=facts.masked,
            bf16=budget.bf16,
        )
        return Fit((1.0, 1.0, 1.0), "", shape, patch, batch, filters, size)

    def fits(found: Fit) -> bool:
        return found.bytes <= budget.memory_bytes and found.step_voxels <= step_voxels

    scale = 1.0
    least, most = (SMALLEST_BATCH, LARGEST_BATCH) if flat is None else (SMALLEST_BATCH_2D, LARGEST_BATCH_2D)
    found = at(scaled_patch(shape, scale, flat), least)
    while not fits(found) and scale > 0.01:
        scale *= 0.96
        found = at(scaled_patch(shape, scale, flat), least)
    dataset_voxels = len(facts.cases) * math.prod(shape)
    most = min(most, int(BATCH_OF_DATASET * dataset_voxels / math.prod(found.patch)))
    for batch in range(least + 1, most + 1):
        larger = at(found.patch, batch)
        if not fits(larger) or larger.step_voxels > voxels / (STEPS_FOR_WIDE if found.wide else STEPS_BEFORE_BATCH):
            break
        found = larger
    return found


def scaled_patch(shape: Sides, scale: float, flat: int | None) -> Sides:
    """Return a patch that holds so much of each side, rounded up to what the network can halve.

    Args:
        shape: the median case's sides.
        scale: 0 to 1.
        flat: the axis to see one slice of, or None.
    """
    sides = [halvable(max(math.ceil(size * scale), min(size, SMALLEST_SIDE))) for size in shape]
    axes = [axis for axis in range(3) if axis != flat]
    longest = max(axes, key=lambda axis: sides[axis])
    sides[longest] = max(sides[longest], SMALLEST_LONGEST)
    i, j, k = (1 if axis == flat else side for axis, side in enumerate(sides))
    return i, j, k


def halvings(side: int) -> int:
    """Return how often a side is halved: while four voxels or more remain, five times at most."""
    return max(0, min(MOST_HALVINGS, int(math.log2(side / LEAST_FEATURES)))) if side >= LEAST_FEATURES else 0


def halvable(side: int) -> int:
    """Return the next side, at least 8, that can be halved as often as its length asks for."""
    side = max(side, 2 * LEAST_FEATURES)
    by = 1 << halvings(side)
    return by * math.ceil(side / by)


def level_filters(patch: Sides, first: int) -> tuple[int, ...]:
    """Return the filters of each level: doubled each time, up to ten times the first, in 2D sixteen, as nnU-Net's.

    The first level of a narrow network has half of what that makes.
    """
    most = first * (MOST_DOUBLED_2D if 1 in patch else MOST_DOUBLED)
    levels = 1 + max(halvings(side) for side in patch)
    doubled = [min(most, first * 2**level) for level in range(levels)]
    return (doubled[0] // 2 if first == NARROW else doubled[0], *doubled[1:])


def windows_of(fitted: Fit, *, overlap: float = OVERLAP, margin: int = 0) -> int:
    """Return how many patches that overlap cover the median case, continued by a margin on every side."""
    counts = []
    for size, side in zip(fitted.shape, fitted.patch, strict=True):
        beyond = max(size - side, 0) + (2 * margin if side > 1 else 0)
        counts.append(1 + math.ceil(beyond / max(1.0, side * (1 - overlap))))
    return math.prod(counts)


def _millions(voxels: float) -> str:
    return f"{voxels / 1e6:.2g} million voxels"

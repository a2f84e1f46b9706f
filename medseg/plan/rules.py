"""The rules: from the facts of a dataset, and the time and memory given, to the choices of a recipe.

Each rule gives its reason, which stands in the recipe above its value.
"""

from dataclasses import dataclass

from medseg.plan.augmentation import augmentation, flip_axes
from medseg.plan.budget import Budget
from medseg.plan.choice import Choice
from medseg.plan.coarse import coarse
from medseg.plan.facts import Facts
from medseg.plan.fit import STEPS_BEFORE_BATCH, Fit, fit
from medseg.plan.grid import crop, crops, flat_axis, window
from medseg.plan.prediction import prediction

# Of patches centred on a label: nnU-Net's third where a patch shows most of a case, more where labels are rare.
OFTEN, RARE_SHARE = 0.33, {0.10: 0.33, 0.01: 0.5, 0.0: 0.67}
MOST_COVERED = 0.5
# High ones, which README.md compares, for narrow networks and for wide ones.
RATE = 5e-3
WEIGHT_DECAY = 0.1


@dataclass(frozen=True)
class Design:
    """A recipe but for its schedule.

    Attributes:
        fit: what the time and the memory are enough for.
        choices: the values, and why.
    """

    fit: Fit
    choices: tuple[Choice, ...]


def design(facts: Facts, budget: Budget) -> Design:
    """Return everything that a recipe chooses, but for how many steps there are."""
    windowed = window(facts)
    cropped = crops(windowed.value)
    fitted = fit(facts, budget, cropped=cropped, flat=flat_axis(facts))
    axes, _ = mirrored = flip_axes(facts, fitted)
    choices = [
        *(
            [Choice("manifest", facts.manifest, "names the files and labels, for the folder has no dataset.json")]
            * bool(facts.manifest)
        ),
        description(facts, fitted),
        *labels(facts),
        Choice("preprocess.orientation", "RAS", "axes to the right, the front and the head, whatever the scanner's"),
        Choice("preprocess.spacing_mm", list(fitted.spacing_mm), fitted.spacing_reason),
        windowed,
        crop(facts, cropped=cropped),
        *augmentation(facts, fitted, budget, mirrored=mirrored),
        *network(fitted),
        *training(facts, fitted, budget),
        *coarse(facts, fitted, budget),
        *prediction(facts, fitted, budget, axes=axes),
    ]
    return Design(fitted, tuple(choices))


def description(facts: Facts, fitted: Fit) -> Choice:
    """Return what the recipe is for, in a sentence."""
    names = [name.replace("_", " ") for name in facts.found]
    named = ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:4])} and {len(names) - 4} more labels"
    kinds = " and ".join(dict.fromkeys(facts.modalities))
    dimensions = "3D" if fitted.flat is None else "2D"
    return Choice("description", f"{named} in {kinds}, {dimensions}", "")


def labels(facts: Facts) -> list[Choice]:
    """Return a table of the labels that occur, where the dataset names others, too, which nothing can learn."""
    absent = [name.replace("_", " ") for name in facts.labels if name not in facts.found]
    if not absent:
        return []
    some = f"{', '.join(absent[:6])}{'…' * (len(absent) > 6)}"
    reason = f"no case shows {len(absent)} of the dataset's {len(facts.labels)} labels: {some}"
    return [Choice(f"labels.{name}", [name], reason if name == facts.found[0] else "") for name in facts.found]


def network(fitted: Fit) -> list[Choice]:
    """Return nnU-Net's U-Net, with as many levels as the patch can be halved, and filters for the time."""
    width = (
        "nnU-Net's 32 filters first, for time allows"
        if fitted.wide
        else "half of nnU-Net's filters, and a quarter on the first level: five times as many steps in the time"
    )
    return [
        Choice("model.name", "dynunet", "nnU-Net's U-Net, which halves each axis while 4 voxels or more remain"),
        Choice(
            "model.options", {"filters": list(fitted.filters)}, f"{len(fitted.filters)} levels by the patch; {width}"
        ),
    ]


def training(facts: Facts, fitted: Fit, budget: Budget) -> list[Choice]:
    """Return patch, batch, loss, sampling and rate."""
    shape = " × ".join(map(str, fitted.shape))
    patch = f"shows {100 * fitted.covered:.0f} % of the median case, {shape} voxels"
    if fitted.flat is not None:
        slices = f"slices, for {fitted.shape[fitted.flat]} that lie so far apart say little of each other"
        patch = f"{slices}; the median case has {shape} voxels"
    elif fitted.covered < 0.25:
        patch += "; nnU-Net would have a coarse network look first, and a fine one follow it everywhere"
    held = f"training takes about {fitted.bytes / 1e9:.1f} GB of the {budget.memory_bytes / 1e9:.1f} GB given"
    return [
        Choice("training.patch", list(fitted.patch), patch),
        Choice(
            "training.batch", fitted.batch, f"{held}; more would be worth it where {STEPS_BEFORE_BATCH} steps remain"
        ),
        Choice("training.loss", "dice_ce", "Dice and cross-entropy together, as nnU-Net"),
        Choice("training.learning_rate", RATE, "the peak of one cycle, as high as training is sure to stand"),
        Choice("training.weight_decay", WEIGHT_DECAY, "keeps the weights small, and so the steps large"),
        sampling(facts, fitted),
    ]


def sampling(facts: Facts, fitted: Fit) -> Choice:
    """Return the fraction of patches centred on a label."""
    share = facts.labelled_share()
    told = f"{100 * share:.2g} % of the median case is labelled"
    if fitted.flat is None and fitted.covered >= MOST_COVERED:
        return Choice("training.foreground", OFTEN, f"{told}, and a patch shows most of it wherever it lies")
    chosen = next(value for least, value in RARE_SHARE.items() if share >= least)
    return Choice("training.foreground", chosen, told)

"""Presets: how much time a prediction may take for how good an answer, in three words."""

from medseg.choose import choose
from medseg.recipe import Recipe

# What each is for, as the help has it; README.md has what they took and found.
PRESETS = {
    "fast": "patches overlap by a quarter, nothing is mirrored and no margin added, and a coarse model, where the "
    "package has one, finds first where to look",
    "balanced": "as the recipe says and the package was scored",
    "accurate": "mirrored along every axis that training mirrored, patches overlap by half or more, full precision",
}
FAST_OVERLAP, ACCURATE_OVERLAP = 0.25, 0.5


def with_preset(recipe: Recipe, preset: str) -> Recipe:
    """Return a recipe that predicts as a preset says.

    Raises:
        UnknownNameError: no preset of this name.
    """
    choose(PRESETS, preset, kind="preset")
    prediction, training = recipe.prediction, recipe.training
    if preset == "fast":
        changes = {"flips": (), "margin": 0, "overlap": min(prediction.overlap, FAST_OVERLAP)}
        prediction = prediction.model_copy(update=changes)
    if preset == "accurate":
        trained = recipe.augment.flip_axes if recipe.augment.flip else ()
        wide = [axis for axis, side in zip("IJK", training.patch, strict=True) if side > 1]
        flips = tuple(axis for axis in wide if axis in (*prediction.flips, *trained))
        changes = {"flips": flips, "overlap": max(prediction.overlap, ACCURATE_OVERLAP)}
        prediction = prediction.model_copy(update=changes)
        training = training.model_copy(update={"precision": "fp32"})
    return recipe.model_copy(update={"prediction": prediction, "training": training})

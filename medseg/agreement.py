"""Agreement: a recipe and a dataset seen to fit each other, before any work."""

from medseg.dataset import Dataset
from medseg.errors import ManifestError, RecipeError
from medseg.labels import LabelSet
from medseg.manifest import Manifest
from medseg.modality import is_magnetic
from medseg.recipe import Recipe


def chosen_labels(recipe: Recipe, dataset: Dataset) -> LabelSet:
    """Return what is segmented, once recipe and dataset are seen to fit each other.

    Raises:
        RecipeError, ManifestError, UnknownNameError: they do not.
    """
    check_window(recipe, dataset.manifest)
    labels = dataset.manifest.label_set.select(recipe.labels)
    if not labels.labels:
        raise ManifestError(
            f"training on {dataset.manifest.name}", found="it names no label but background", remedy="name its labels"
        )
    if labels.overlapping and recipe.model.head == "softmax":
        raise RecipeError(
            "reading the recipe's labels",
            found="some share a part, and a softmax head has one label per voxel",
            remedy='set model.head = "sigmoid"',
        )
    return labels


def check_window(recipe: Recipe, manifest: Manifest) -> None:
    """Raise RecipeError when the recipe wants Hounsfield units of a dataset that has none."""
    modalities = ", ".join(manifest.modalities)
    if recipe.preprocess.window_hu is not None and any(map(is_magnetic, manifest.modalities)):
        raise RecipeError(
            f"training on {manifest.name}",
            found=f"the recipe has a window in HU, and the images are {modalities}",
            remedy="leave window_hu out, or choose a recipe for MR",
        )

"""Expected: what a model, a recipe or a manifest wants of its scans."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.manifest import Manifest, read_manifest
from medseg.modality import modality_remarks
from medseg.recipe import Recipe, load_recipe
from medseg.remarks import Remark
from medseg.shipped import manifest_path, shipped
from medseg.volume import Source, Volume
from medseg.volume.plausible import hu_remarks

CT = "CT"


@dataclass(frozen=True)
class Expected:
    """What scans are to be.

    Attributes:
        channels: how many they have; None for any number.
        hounsfield: whether all channels are in Hounsfield units, because the model cuts its window out of them.
        modalities: what each channel was taken with; a CT is in Hounsfield units.
        recipe: the recipe, where it is one that scans are for: a dataset has to fit it.
        trained_on: what each channel of a model's training images was taken with; empty where that is not known.
    """

    channels: int | None = None
    hounsfield: bool = False
    modalities: tuple[str, ...] = ()
    recipe: Recipe | None = None
    trained_on: tuple[str, ...] = ()

    @classmethod
    def by(cls, named: str) -> "Expected":
        """Return what a recipe (a .toml file, or a shipped one's name), a model or an ensemble of several wants.

        Raises:
            UnknownNameError: neither a path nor a shipped recipe.
            RecipeError, PackageError, OptionError: it cannot be read.
        """
        word = not (Path(named).exists() or set(named) & set("/\\,"))
        if named.endswith(".toml") or named in shipped("pipelines", ".toml") or word:
            recipe = load_recipe(named)
            channels = read_manifest(manifest_path(recipe.manifest)).channels if recipe.manifest else None
            return cls(channels, recipe.preprocess.window_hu is not None, recipe=recipe)
        from medseg.ensemble import load_models  # brings torch along, which takes longer than most checks

        package = load_models(named)
        wants_hu = package.recipe.preprocess.window_hu is not None
        return cls(package.channels, wants_hu, trained_on=package.modality)

    def of_dataset(self, manifest: Manifest) -> "Expected":
        """Return the same for the scans of a dataset; a recipe takes as many channels as the dataset has."""
        channels = None if self.recipe else self.channels
        return replace(self, channels=channels or manifest.channels, modalities=manifest.modalities)

    def remarks(self, volume: Volume, source: Source) -> tuple[Remark, ...]:
        """Return W_MODALITY where a scan is not what the model was trained on, and W_NOT_HU where it should be in HU.

        A DICOM series tells its own modality.
        """
        told = self.modalities or (source.modality,)
        return (*modality_remarks(told, self.trained_on), *self._hu_remarks(volume, dict(enumerate(told))))

    def _hu_remarks(self, volume: Volume, modalities: Mapping[int, str]) -> tuple[Remark, ...]:
        tomograms = [channel for channel, name in modalities.items() if name.strip().upper() == CT]
        channels = range(volume.channels) if self.hounsfield else tomograms
        return tuple(
            remark
            for channel in channels
            for remark in hu_remarks(
                Volume(volume.array[channel : channel + 1], volume.geometry), modality=modalities.get(channel, "")
            )
        )

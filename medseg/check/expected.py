"""Expected: what a model, a recipe or a manifest wants of its scans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.manifest import Manifest, read_manifest
from medseg.recipe import load_recipe
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
        labels: what the recipe makes of the dataset's labels, as in the recipe; None for all.
    """

    channels: int | None = None
    hounsfield: bool = False
    modalities: tuple[str, ...] = ()
    labels: Mapping[str, Sequence[str]] | None = None

    @classmethod
    def by(cls, named: str) -> "Expected":
        """Return what a recipe (a .toml file, or a shipped one's name), a run or a model package wants.

        Raises:
            UnknownNameError: neither a path nor a shipped recipe.
            RecipeError, PackageError, MissingFileError: it cannot be read.
        """
        if named.endswith(".toml") or named in shipped("pipelines", ".toml") or not Path(named).exists():
            recipe = load_recipe(named)
            channels = read_manifest(manifest_path(recipe.manifest)).channels if recipe.manifest else None
            return cls(channels, recipe.preprocess.window_hu is not None, labels=recipe.labels)
        from medseg.package import load_package  # brings torch along, which takes longer than most checks

        package = load_package(Path(named))
        return cls(package.channels, package.recipe.preprocess.window_hu is not None)

    def of_dataset(self, manifest: Manifest) -> "Expected":
        """Return the same for the scans of a dataset."""
        modalities = tuple(name for _, name in sorted(manifest.modality.items()))
        return Expected(self.channels or manifest.channels, self.hounsfield, modalities, self.labels)

    def hu_remarks(self, volume: Volume, source: Source) -> tuple[Remark, ...]:
        """Return W_NOT_HU where Hounsfield units are wanted and a channel has none; a DICOM series tells its own."""
        series = source.series
        modalities = self.modalities or ((series.slices[0].modality,) if series and series.slices else ())
        tomograms = [n for n, name in enumerate(modalities) if name.strip().upper() == CT]
        channels = range(volume.channels) if self.hounsfield else tomograms
        return tuple(
            remark
            for channel in channels
            for remark in hu_remarks(Volume(volume.array[channel : channel + 1], volume.geometry))
        )

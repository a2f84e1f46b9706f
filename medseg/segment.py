"""Segmenter: a network at work on whole scans, from a volume to its label map."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.axes import AXES
from medseg.choose import choose
from medseg.engine import Engine, EnsembleEngine, OpenVINOEngine
from medseg.errors import OptionError
from medseg.labels import LabelSet
from medseg.package import ModelPackage
from medseg.patches import Scratch, Slab, Tiling, slabs, slide
from medseg.postprocess import Rule, postprocess
from medseg.preprocess import prepare
from medseg.presets import with_preset
from medseg.recipe import Recipe
from medseg.restore import Restorer
from medseg.stopwatch import Stopwatch
from medseg.volume import Geometry, LabelMap, Volume, resample

ENGINES = ("auto", "openvino", "torch")
# Where one of these exists there may be a GPU, and torch is asked; elsewhere it need not be imported to know.
GPU_SIGNS = (
    "/dev/nvidiactl",
    "/dev/kfd",  # AMD's
    "/dev/dxg",  # Linux in Windows
    "C:/Windows/System32/nvcuda.dll",
    "/System/Library/Frameworks/Metal.framework",
)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as the networks see it.

    Attributes:
        image: on the grid and with the intensities that the network expects.
        coarse: as the coarse network does; None where there is none.
        others: as the others of an ensemble do, which prepare it their own way.
    """

    image: Volume
    coarse: Volume | None = None
    others: tuple["Prepared", ...] = ()


class Segmenter:
    """Segments scans with one network, or with several.

    Args:
        engine: runs the network.
        recipe: says how to prepare, tile and decide.
        labels: what the channels mean.
        coarse: finds where to look; None looks everywhere.
        others: the others of an ensemble that prepare or tile scans in another way; their logits, times the number of
            networks that each stands for, are averaged with this one's.
        networks: how many networks the engine runs.
        rules: how label maps are cleaned.
    """

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        labels: LabelSet,
        *,
        coarse: "Segmenter | None" = None,
        others: Sequence["Segmenter"] = (),
        networks: int = 1,
        rules: Sequence[Rule] = (),
    ) -> None:
        self.engine = engine
        self._recipe = recipe
        self._labels = labels
        self._coarse = coarse
        self._others = tuple(others)
        self._networks = networks
        self._rules = tuple(rules)

    @classmethod
    def of(
        cls, package: ModelPackage, *, engine: str = "auto", device: str = "auto", preset: str = "balanced"
    ) -> "Segmenter":
        """Return the segmenter of a model package, with what `PRESETS` say.

        Raises:
            UnknownNameError: no engine or preset of this name.
            OptionError, DeviceError: no such device, or none that the engine runs on.
            PackageError: the model cannot be loaded by the engine.
        """
        alike: dict[str, list[ModelPackage]] = {}
        for one in (package, *package.others):
            own = replace(one, recipe=with_preset(one.recipe, preset))
            alike.setdefault(_way(own.recipe), []).append(own)
        first, *others = alike.values()
        build = partial(cls._of_alike, engine=engine, device=device, coarse=preset == "fast")
        return build(first, others=[build(group) for group in others], rules=package.rules)

    @classmethod
    def _of_alike(
        cls,
        packages: Sequence[ModelPackage],
        *,
        engine: str,
        device: str,
        coarse: bool,
        others: Sequence["Segmenter"] = (),
        rules: Sequence[Rule] = (),
    ) -> "Segmenter":
        """Return the segmenter of packages that prepare and tile scans in the same way."""
        engines = [choose_engine(package, engine=engine, device=device) for package in packages]
        first = packages[0]
        return cls(
            engines[0] if len(engines) == 1 else EnsembleEngine(engines),
            first.recipe,
            first.labels,
            coarse=cls.of(first.coarse, engine=engine, device=device) if coarse and first.coarse else None,
            others=others,
            networks=len(packages),
            rules=rules,
        )

    @property
    def in_slabs(self) -> bool:
        """Whether what the network says goes home slab by slab; that of networks on several grids is held whole."""
        return not self._others

    def segment(self, volume: Volume, *, stopwatch: Stopwatch | None = None) -> LabelMap:
        """Return the label map of a scan, on the scan's own grid."""
        watch = stopwatch or Stopwatch()
        with watch.stage("preprocess"):
            prepared = self.prepare(volume)
        return self.predict(prepared, volume.geometry, stopwatch=watch)

    def prepare(self, volume: Volume) -> Prepared:
        """Return a scan on the grids and with the intensities that the networks expect."""
        coarse = self._coarse.prepare(volume).image if self._coarse else None
        others = tuple(other.prepare(volume) for other in self._others)
        return Prepared(prepare(volume, self._recipe.preprocess), coarse, others)

    def predict(
        self,
        prepared: Prepared,
        target: Geometry,
        *,
        averaged: bool = True,
        scratch: Scratch | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> LabelMap:
        """Return the label map of a prepared scan on another grid, the scan's own.

        What the network says goes home slab by slab, so that memory does not grow with the length of the scan.

        Args:
            prepared: from `prepare`.
            target: the grid of the label map.
            averaged: whether to average over the recipe's test-time flips and margin.
            scratch: where windows are added up; left out, in memory.
            stopwatch: takes the time of the stages "infer" and "restore".
        """
        watch = stopwatch or Stopwatch()
        with watch.stage("infer"):
            image = self._where_to_look(prepared)
        restorer = Restorer(
            source=image.geometry,
            target=target,
            labels=self._labels,
            head=self._recipe.model.head,
            pointwise=None if self._others else self.engine.pointwise,
        )
        coming = self._said(prepared, image, averaged=averaged, scratch=scratch)
        while True:
            with watch.stage("infer"):
                slab = next(coming, None)
            if slab is None:
                break
            with watch.stage("restore"):
                restorer.add(slab.values, axis=slab.axis, first=slab.first)
            del slab  # before the next is computed
        with watch.stage("restore"):
            label_map = restorer.label_map()
            return postprocess(label_map, self._rules, self._labels) if self._rules else label_map

    def _said(self, prepared: Prepared, image: Volume, *, averaged: bool, scratch: Scratch | None) -> Iterator[Slab]:
        """Yield what the networks say of a prepared image, slab by slab, or at once where some see it on other grids.

        Where one of the others sees nothing of the scan, it has no say.
        """
        if not self._others:
            yield from slabs(self.engine, image.array, self._tiling(averaged), scratch=scratch)
            return
        total = self.logits(image.array, averaged=averaged) * np.float32(self._networks)
        for other, own in zip(self._others, prepared.others, strict=True):
            there = other._where_to_look(own)
            said = other.logits(there.array, averaged=averaged) * np.float32(other._networks)
            total += resample(said, source=there.geometry, target=image.geometry)
        total /= self._networks + sum(other._networks for other in self._others)
        yield Slab(axis=0, first=0, values=total)

    def _where_to_look(self, prepared: Prepared) -> Volume:
        """Return the part of a prepared image around what the coarse network finds; all where it finds nothing."""
        image = prepared.image
        if self._coarse is None or prepared.coarse is None or self._recipe.coarse is None:
            return image
        grid = prepared.coarse.geometry
        found = self._coarse.predict(Prepared(prepared.coarse), grid)
        places = np.argwhere(found.array)
        if not len(places):
            return image
        low, high = places.min(axis=0) - 0.5, places.max(axis=0) + 0.5
        corners = image.geometry.to_voxel(
            grid.to_world(np.array(list(itertools.product(*zip(low, high, strict=True)))))
        )
        margin = self._recipe.coarse.margin_mm / np.array(image.geometry.spacing_mm)
        shape = np.array(image.geometry.shape)
        start = np.floor(corners.min(axis=0) - margin).clip(0, shape - 1).astype(int)
        stop = np.ceil(corners.max(axis=0) + margin + 1).clip(start + 1, shape).astype(int)
        box = tuple(map(slice, start, stop))
        return Volume(image.array[(slice(None), *box)], image.geometry.crop(start.tolist(), stop.tolist()))

    def logits(self, prepared: NDArray[np.float32], *, averaged: bool = True) -> NDArray[np.float32]:
        """Return the logits of a prepared image.

        Args:
            prepared: intensities, shape (C, I, J, K).
            averaged: whether to average over the recipe's test-time flips and margin.

        Returns:
            Shape (L, I, J, K).
        """
        values = slide(self.engine, prepared, self._tiling(averaged))
        return self.engine.pointwise.apply(values) if self.engine.pointwise else values

    def _tiling(self, averaged: bool) -> Tiling:
        settings, patch = self._recipe.prediction, self._recipe.training.patch
        flips = [axis for axis, name in enumerate(AXES) if name in settings.flips and patch[axis] > 1]
        return Tiling(
            patch=patch,
            overlap=settings.overlap,
            flips=tuple(flips) if averaged else (),
            weighting=settings.weighting,
            placement=settings.placement,
            edges=settings.edges,
            margin=settings.margin if averaged else 0,
        )


def _way(recipe: Recipe) -> str:
    """Return what is the same for recipes that prepare and tile scans in the same way."""
    facts = [recipe.preprocess, recipe.prediction, recipe.coarse]
    return json.dumps([fact and fact.model_dump(mode="json") for fact in facts] + [recipe.training.patch])


def choose_engine(package: ModelPackage, *, engine: str = "auto", device: str = "auto") -> Engine:
    """Return what runs a model: OpenVINO on a CPU where the package has an ONNX network, otherwise torch."""
    choose({name: name for name in ENGINES}, engine, kind="engine")
    precision = package.recipe.training.precision
    if engine != "torch" and package.onnx is not None and _on_cpu(device):
        patch, channels = package.recipe.training.patch, package.channels
        return OpenVINOEngine(package.onnx, patch=patch, channels=channels, precision=precision)
    if engine == "openvino":
        raise OptionError(
            f"--engine openvino --device {device}",
            found="the model package has no ONNX network" if package.onnx is None else "OpenVINO runs on the CPU here",
            remedy="leave --engine out, or use --device cpu and a model whose training ended with an ONNX network",
        )
    from medseg.device import choose_device
    from medseg.engine.torch import TorchEngine

    outputs = 1 + len(package.labels)
    return TorchEngine(package.network(), choose_device(device), precision=precision, outputs=outputs)


def _on_cpu(device: str) -> bool:
    """Say whether a device's name means the CPU, importing torch only where there may be a GPU."""
    if device != "auto" or not any(Path(sign).exists() for sign in GPU_SIGNS):
        return device in ("auto", "cpu")
    from medseg.device import choose_device

    return choose_device(device).type == "cpu"

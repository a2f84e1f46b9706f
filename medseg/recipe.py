"""Recipe: every choice that a trained model depends on, read from one TOML file."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from medseg.axes import is_orientation
from medseg.complaints import complaints
from medseg.errors import RecipeError, UnknownNameError
from medseg.shipped import recipe_path

Probability = float
Head = Literal["softmax", "sigmoid"]
Sample = Literal["voxels", "components"]
Axis = Literal["I", "J", "K"]


def _positive(value: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(value) <= 0:
        raise ValueError("a spacing must be above 0 mm")
    return value


def _flat_at_most_once(value: tuple[int, int, int]) -> tuple[int, int, int]:
    if min(value) < 1 or sorted(value)[1] == 1:
        raise ValueError("a patch has three sides of at least 1 voxel, of which one may be 1 (a 2D model)")
    return value


def _each_once(value: tuple[Axis, ...]) -> tuple[Axis, ...]:
    if len(set(value)) < len(value):
        raise ValueError("an axis is named twice")
    return value


SpacingMm = Annotated[tuple[float, float, float], AfterValidator(_positive)]
Patch = Annotated[tuple[int, int, int], AfterValidator(_flat_at_most_once)]
Axes = Annotated[tuple[Axis, ...], AfterValidator(_each_once)]
# The keys of `augment` that move voxels and leave intensities as they are.
IN_SPACE = ("flip", "flip_axes", "affine", "scale", "rotate_degrees", "shift_voxels", "elastic", "elastic_voxels")


class Section(BaseModel):
    """A table of a recipe: frozen, and unknown keys are refused, as are infinite numbers and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Preprocess(Section):
    """From the scan's own grid and intensities to the prepared ones."""

    orientation: str = "RAS"
    """Where the array axes point to."""
    spacing_mm: SpacingMm | None = None
    """Voxel size along the prepared array's axes, in mm; left out, the scan keeps its own."""
    window_hu: tuple[float, float] | None = None
    """The range kept, in HU: outside is clipped, inside becomes 0 to 1. Left out, each volume is normalised to mean 0
    and standard deviation 1 (MR has no absolute scale)."""
    low_pass: bool = True
    """Whether a scan is averaged before it is shrunk, so that fine detail does not alias. Networks that were trained
    elsewhere, by MONAI's transforms for instance, want it off."""
    crop: Literal["none", "foreground", "body"] = "none"
    """`foreground` leaves out the margins that hold nothing: air in CT, zeros in MR. `body` leaves out the table and
    all else around the patient, too (CT; without a window it is `foreground`)."""

    @field_validator("orientation")
    @classmethod
    def _names_three_axes(cls, value: str) -> str:
        if not is_orientation(value):
            raise ValueError('an orientation names one of L/R, one of P/A and one of I/S, such as "RAS"')
        return value

    @field_validator("window_hu")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("the window's low end must be below its high end")
        return value


class Augment(Section):
    """What is drawn for each training patch; a probability of 0 leaves a transform out. In order of application."""

    flip: Probability = Field(default=0.0, ge=0, le=1)
    """Probability of mirroring, for each axis in `flip_axes`."""
    flip_axes: Axes = ("I", "J", "K")
    """Array axes that may be mirrored. Leave left-right (I in RAS) out where a model must tell left from right."""
    cut_short: Probability = Field(default=0.0, ge=0, le=1)
    """Probability that the scan ends within the patch, along one axis, as in slabs and cut fields of view."""
    affine: Probability = Field(default=0.0, ge=0, le=1)
    """Probability of scaling, rotating and shifting."""
    scale: float = Field(default=0.15, ge=0, lt=1)
    """Largest change of size, as a fraction."""
    rotate_degrees: float = Field(default=15.0, ge=0, le=180)
    """Largest rotation about each axis; in 2D about the slice's normal only."""
    shift_voxels: float = Field(default=0.0, ge=0)
    """Largest shift along each axis."""
    elastic: Probability = Field(default=0.0, ge=0, le=1)
    """Probability of a smooth elastic deformation."""
    elastic_voxels: float = Field(default=4.0, ge=0)
    """Largest displacement of its control points; at most an eighth of the patch's side, beyond which it would fold."""
    low_resolution: Probability = Field(default=0.0, ge=0, le=1)
    """Probability of thicker voxels along one axis, read back onto the grid."""
    low_resolution_factor: tuple[float, float] = (1.5, 3.0)
    """Range of how much thicker."""
    blur: Probability = Field(default=0.0, ge=0, le=1)
    """Probability of a Gaussian blur."""
    blur_voxels: tuple[float, float] = (0.3, 1.0)
    """Range of its standard deviation."""
    motion: Probability = Field(default=0.0, ge=0, le=1)
    """Probability of motion artefacts (MR)."""
    bias_field: Probability = Field(default=0.0, ge=0, le=1)
    """Probability of slow intensity variation (MR)."""
    gamma: Probability = Field(default=0.0, ge=0, le=1)
    """Probability of a change of contrast, intensities to the power e^γ."""
    log_gamma: float = Field(default=0.3, ge=0)
    """Largest γ, in both directions."""
    noise: Probability = Field(default=0.0, ge=0, le=1)
    """Probability of Gaussian noise."""
    noise_std: tuple[float, float] = (0.0, 0.1)
    """Range of its standard deviation, in prepared intensities."""

    @field_validator("low_resolution_factor")
    @classmethod
    def _thicker(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] < 1:
            raise ValueError("voxels get thicker by a factor of at least 1")
        return value

    @field_validator("low_resolution_factor", "blur_voxels", "noise_std")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("a range goes from its low end, at least 0, to its high end")
        return value


class Model(Section):
    """The network."""

    name: str = "unet"
    """A key of `medseg.models.MODELS`."""
    head: Head = "softmax"
    """`softmax`: each voxel has one label. `sigmoid`: labels are regions that may overlap."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of that network, such as `channels`."""


class Training(Section):
    """How the weights are found."""

    patch: Patch = (96, 96, 96)
    """Voxels of the prepared grid that the network sees; a 1 makes it a 2D model."""
    batch: int = Field(default=2, ge=1)
    """Patches per step, of all processes together."""
    epochs: int = Field(default=100, ge=1)
    """Stretches of training between which losses are reported."""
    steps_per_epoch: int = Field(default=100, ge=1)
    """Optimiser steps in an epoch."""
    loss: str = "dice_ce"
    """A key of `medseg.losses.LOSSES`."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest rate of the one-cycle schedule."""
    encoder_rate: float = Field(default=1.0, ge=0, le=1)
    """The encoder's learning rate as a fraction of the decoder's. Below 1, an encoder that was trained before changes
    little (`medseg train --from`); with 0 it is frozen, and its layers work as in prediction."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's decay."""
    warm_up: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of all steps in which the rate rises."""
    foreground: float = Field(default=0.67, ge=0, le=1)
    """Fraction of patches centred on a voxel of a label, each label equally often."""
    sample: Sample = "voxels"
    """What is equally likely within a label: each voxel, or each connected component, however small a lesion is."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the weights' exponential moving average from step to step, 0.999 for instance, which then is validated
    and kept instead of the weights themselves; 0 averages nothing. It never looks back over more than about a ninth of
    the steps so far, so that it lets go of the first ones: 0.999 needs 9000 steps to come to its own."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` is bf16 where the device multiplies it fast, otherwise fp32. With `fp32`, NVIDIA GPUs do not round it to
    TF32."""
    validate_every: int = Field(default=10, ge=1)
    """Epochs between two validations on whole volumes; the last epoch always has one."""
    validation_cases: int = Field(default=16, ge=1)
    """Cases scored while training, evenly spaced; after training all of them are."""


class Pretraining(Section):
    """What `medseg pretrain` hides of each patch, to be reconstructed from the rest."""

    masked: float = Field(default=0.75, gt=0, lt=1)
    """Fraction of the blocks that is hidden: 0.75 after He et al. 2022 ("Masked autoencoders are scalable vision
    learners") and, for CNNs on 3D scans, Wald et al. 2025 ("Revisiting MAE pre-training for 3D medical image
    segmentation")."""
    block: int = Field(default=16, ge=1)
    """Side of a block in voxels, 16 as Wald et al. have it for patches of 160; small ones can be filled in from their
    edges, without knowing what is there."""


class Prediction(Section):
    """How a whole volume is segmented."""

    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Of a patch with its neighbour, as a fraction."""
    flips: Axes = ()
    """Axes mirrored at test time; every combination is predicted and averaged."""
    weighting: Literal["gaussian", "constant"] = "gaussian"
    """Where patches overlap, `gaussian` listens most to the one whose middle is nearest, `constant` to all alike."""
    placement: Literal["even", "stepped"] = "even"
    """Patches spread evenly, or stepped as by MONAI's inferer, which pushes the last one back into the scan."""
    edges: Literal["continued", "zeros"] = "continued"
    """What is around a scan that is smaller than the patch, and in the margin."""
    margin: int = Field(default=0, ge=0)
    """Voxels by which a scan is continued on every side, so that patches see what is at its edges from several places;
    of a scan that fits a patch, that is everything."""


class Coarse(Section):
    """A small model on a coarse grid, trained with the other, that finds where `--preset fast` looks."""

    spacing_mm: SpacingMm = (4.0, 4.0, 4.0)
    """The coarse grid's voxel size, in mm."""
    patch: Patch = (64, 64, 64)
    """Voxels of the coarse grid that the network sees."""
    model: Model | None = None
    """The network; left out, one as the other's."""
    epochs: int = Field(default=20, ge=1)
    """Of as many steps as the other's."""
    margin_mm: float = Field(default=20.0, ge=0)
    """How far around what was found the other model looks."""


class Recipe(Section):
    """Every choice that a result depends on."""

    manifest: str | None = None
    """The shipped manifest that describes the dataset, for folders without a dataset.json."""
    description: str = ""
    """One sentence for people."""
    labels: dict[str, list[str]] | None = None
    """What to segment: name → the dataset's labels that make it up. Left out, all labels. Of regions that overlap, the
    outermost comes first: label maps show the later one."""
    preprocess: Preprocess = Preprocess()
    augment: Augment = Augment()
    model: Model = Model()
    training: Training = Training()
    pretraining: Pretraining = Pretraining()
    prediction: Prediction = Prediction()
    coarse: Coarse | None = None

    @field_validator("labels")
    @classmethod
    def _made_of_something(cls, value: dict[str, list[str]] | None) -> dict[str, list[str]] | None:
        if value == {}:
            raise ValueError("the table names nothing to segment; leave it out for all labels")
        for name, parts in (value or {}).items():
            if not parts:
                raise ValueError(f"label {name!r} is made up of nothing")
        return value

    def coarse_recipe(self, names: Sequence[str]) -> "Recipe":
        """Return the recipe of the coarse model: all that the labels of these names show is one label.

        Args:
            names: the dataset's own labels that make up what is segmented.
        """
        assert self.coarse is not None
        coarse, training = self.coarse, self.training
        changes = {"patch": coarse.patch, "epochs": coarse.epochs}
        changes["validate_every"] = min(training.validate_every, coarse.epochs)
        return self.model_copy(
            update={
                "description": f"Where to look: {self.description}",
                "labels": {"found": list(names)},
                "preprocess": self.preprocess.model_copy(update={"spacing_mm": coarse.spacing_mm}),
                "model": (coarse.model or self.model).model_copy(update={"head": "softmax"}),
                "training": training.model_copy(update=changes),
                "prediction": Prediction(overlap=0.25),
                "coarse": None,
            }
        )

    def pretraining_recipe(self) -> "Recipe":
        """Return the recipe as pretraining follows it: patches come from anywhere and vary in space only.

        What is to be reconstructed is the scan itself, and nothing that was added to it.
        """
        augment = Augment(**{key: getattr(self.augment, key) for key in IN_SPACE})
        training = self.training.model_copy(update={"foreground": 0.0, "encoder_rate": 1.0})
        return self.model_copy(update={"labels": None, "augment": augment, "training": training, "coarse": None})

    @property
    def two_dimensional(self) -> bool:
        """Whether the network sees slices."""
        return 1 in self.training.patch

    def to_toml(self) -> str:
        """Return the recipe, every default written out, as a TOML file that reads back the same."""
        value = self.model_dump(mode="json", exclude_none=True)
        top = {key: item for key, item in value.items() if not isinstance(item, dict)}
        lines = [f"{key} = {toml(item)}" for key, item in top.items()]
        for key, item in value.items():
            if isinstance(item, dict):
                lines += ["", f"[{key}]", *(f"{toml_key(name)} = {toml(entry)}" for name, entry in item.items())]
        return "\n".join(lines) + "\n"


def toml_key(name: str) -> str:
    """Return a key as TOML, in quotes where it needs them."""
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)


def toml(value: Any) -> str:
    """Return a value as TOML; strings, numbers and booleans look as in JSON."""
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_key(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: a .toml file, or the name of a shipped recipe.
        overrides: "section.key=value" with the value in TOML; plain words need no quotes. Another `model.name` leaves
            the options of the recipe's own network out.

    Raises:
        UnknownNameError: no shipped recipe of that name, or no such file.
        RecipeError: no TOML that can be read, an unknown key (with the nearest one), or a value out of range.
    """
    path = Path(name) if name.endswith(".toml") else recipe_path(name)
    if not path.is_file():
        raise UnknownNameError(
            f"reading the recipe {path}", found="there is no such file", remedy="check the path and its spelling"
        )
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"reading the recipe {path}", found=str(error), remedy="mend the TOML there") from error
    changes: dict[str, Any] = {}
    for override in overrides:
        _override(changes, override)
    for own, other in ((value, changes), (value.get("coarse"), changes.get("coarse"))):
        model = own.get("model") if isinstance(own, dict) else None
        if isinstance(model, dict) and _network(other) not in (None, model.get("name", Model().name)):
            model.pop("options", None)
    for override in overrides:
        _override(value, override)
    return parse_recipe(value, name=" ".join([str(path), *(f"--set {override}" for override in overrides)]))


def _network(value: Any) -> Any:
    """Return the network that a recipe's tables, or its coarse one, name; None where they name none."""
    model = value.get("model") if isinstance(value, dict) else None
    return model.get("name") if isinstance(model, dict) else None


def parse_recipe(value: dict[str, Any], *, name: str) -> Recipe:
    """Check a recipe's values and return it; `name` says in messages where they come from."""
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError(
            f"reading the recipe {name}", found=complaints(error, Recipe), remedy="correct it there"
        ) from error


def _override(value: dict[str, Any], override: str) -> None:
    """Set one key from "section.key=value"."""
    place, equals, text = override.partition("=")
    *tables, key = place.strip().split(".")
    if not equals or not key:
        raise RecipeError(
            f"--set {override}", found="no section.key=value", remedy="write for instance training.epochs=50"
        )
    try:
        parsed = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = text.strip()
    for table in tables:
        value = value.setdefault(table, {})
        if not isinstance(value, dict):
            raise RecipeError(
                f"--set {override}", found=f"{table} is no table", remedy="name a key of a recipe section"
            )
    value[key] = parsed

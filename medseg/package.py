"""Model package: all that prediction needs, in a folder or one zip, without pickle.

`model.json` holds the resolved recipe, the labels, versions, scores and the checksum of each file;
`weights.safetensors` the weights; `model.onnx` the network with its weights, for engines that need no torch.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import deserialize

from medseg.atomic import whole, write_bytes, write_json
from medseg.errors import PackageError, UnknownNameError
from medseg.labels import LabelSet
from medseg.postprocess import Rule, check_rules, rules_as_json, rules_from_json
from medseg.recipe import Recipe, parse_recipe
from medseg.run import MODEL, RECIPE, versions

if TYPE_CHECKING:
    from torch import nn

FORM = "medseg-model"
FORM_VERSION = 1
DESCRIPTION, WEIGHTS, ONNX = "model.json", "weights.safetensors", "model.onnx"
# The folders in a package that hold its coarse model and the others of its ensemble, in the same form.
COARSE, OTHERS = "coarse", "others"
# A package's files are read into memory; the largest network in use has 2 GB of weights.
LARGEST_BYTES = 8 * 2**30
# Runs that an error names at most.
MOST_NAMED = 5

# Returns the bytes of a file in the package.
Read = Callable[[str], bytes]


@dataclass(frozen=True)
class ModelPackage:
    """A trained model.

    Attributes:
        recipe: how it was trained and how it predicts.
        labels: what its channels mean; none where it was pretrained on scans without labels.
        channels: how many channels its images have.
        weights: by parameter name, as safetensors stores them.
        scores: the validation summary, and on which cases it was measured; empty when there is none.
        onnx: the network with its weights; None where it could not be exported.
        coarse: a model that finds where this one should look; None where there is none.
        others: models of the same labels and channels whose logits are averaged with this one's, an ensemble.
        rules: how label maps are cleaned.
        modality: what each channel of its training images was taken with, as their manifest says; empty where that is
            not known.
    """

    recipe: Recipe
    labels: LabelSet
    channels: int
    weights: bytes
    scores: dict[str, Any]
    onnx: bytes | None = None
    coarse: "ModelPackage | None" = None
    others: tuple["ModelPackage", ...] = ()
    rules: tuple[Rule, ...] = ()
    modality: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of all that its predictions depend on: weights, network, recipe, labels, channels and rules."""
        digest = hashlib.sha256(self.weights)
        digest.update(self.onnx or b"")
        digest.update(self.coarse.sha256.encode() if self.coarse else b"")
        for other in self.others:
            digest.update(other.sha256.encode())
        choices = {"recipe": self.recipe_json, **self.labels.as_json(), "channels": self.channels}
        if self.rules:
            choices["postprocess"] = rules_as_json(self.rules)
        digest.update(json.dumps(choices, sort_keys=True).encode())
        return digest.hexdigest()

    @property
    def recipe_json(self) -> dict[str, Any]:
        """The resolved recipe, as it stands in model.json and run.json."""
        return self.recipe.model_dump(mode="json", exclude_none=True)

    def network(self) -> "nn.Module":
        """Return the network with its weights, for prediction.

        Raises:
            PackageError: it was pretrained and segments nothing yet, or the weights are another network's.
        """
        if not len(self.labels):
            raise PackageError(
                "segmenting with a pretrained network",
                found="it has learnt from scans without labels, and tells none",
                remedy="train it on labelled cases: medseg train RECIPE --data DATASET --from MODEL",
            )
        from medseg.models import build_network, load_weights, unpack

        network = build_network(self.recipe, channels=self.channels, labels=len(self.labels), try_patch=False)
        try:
            load_weights(network, unpack(self.weights))
        except (KeyError, RuntimeError) as error:
            raise PackageError(
                "loading the model's weights",
                found=f"they do not fit the network of its recipe ({str(error).splitlines()[0]})",
                remedy="train or download the package again",
            ) from error
        return network.eval()


def save_package(package: ModelPackage, folder: Path) -> None:
    """Write a package to a folder, which appears whole."""
    with whole(folder) as temporary:
        _write(package, temporary)


def _write(package: ModelPackage, folder: Path) -> None:
    folder.mkdir(parents=True)
    files = {WEIGHTS: package.weights} | ({ONNX: package.onnx} if package.onnx is not None else {})
    description = {
        "form": FORM,
        "form_version": FORM_VERSION,
        "recipe": package.recipe_json,
        **package.labels.as_json(),
        "channels": package.channels,
        "modality": package.modality,
        "scores": package.scores,
        "versions": versions(),
        "coarse": package.coarse is not None,
        "others": len(package.others),
        "postprocess": rules_as_json(package.rules),
        "files": {name: {"sha256": _sha256(data), "bytes": len(data)} for name, data in files.items()},
    }
    for name, data in files.items():
        write_bytes(folder / name, data)
    write_json(folder / DESCRIPTION, description)
    if package.coarse:
        _write(package.coarse, folder / COARSE)
    for number, other in enumerate(package.others, start=1):
        _write(other, folder / OTHERS / str(number))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load_package(path: Path) -> ModelPackage:
    """Read a package.

    Args:
        path: a package's folder or zip, or the run that made it.

    Raises:
        UnknownNameError: nothing there.
        PackageError: incomplete, altered (a checksum does not hold), or of an unknown form.
    """
    if not path.exists():
        raise UnknownNameError(
            f"loading the model {path}", found="there is nothing at this path", remedy="give a run or a model package"
        )
    if path.is_dir() and not any((folder / DESCRIPTION).is_file() for folder in (path, path / MODEL)):
        raise PackageError(f"loading the model {path}", **_no_package(path))
    try:
        if path.is_dir():
            folder = path / MODEL if (path / MODEL / DESCRIPTION).is_file() else path
            return _open(lambda name: (folder / name).read_bytes())
        with zipfile.ZipFile(path) as archive:
            return _open(lambda name: _read_member(archive, name))
    except Exception as error:  # json, zipfile and safetensors raise a dozen kinds for bytes that are no package
        raise PackageError(
            f"loading the model {path}",
            found=f"{str(error).rstrip('.')} ({type(error).__name__})",
            remedy="give a run that finished training, or a package made by medseg",
        ) from error


def _no_package(folder: Path) -> dict[str, str]:
    """Return what an error says of a folder that holds no package: what it found, and what to do."""
    if (folder / RECIPE).is_file():  # which a run has from its beginning on
        remedy = "finish it: the command that began it, with --resume"
        return {"found": "it is a run whose training has not finished", "remedy": remedy}
    within = sorted(description.parents[1] for description in folder.glob(f"*/{MODEL}/{DESCRIPTION}"))
    if within:
        names = " or ".join(map(str, within[:MOST_NAMED]))
        return {"found": "it is no run, but holds some", "remedy": f"give one of them: {names}"}
    return {"found": f"it holds no {DESCRIPTION}", "remedy": "give a run that finished training, or a model package"}


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return one file of a zip of a package, or of a package's folder; nothing else is unpacked."""
    found = min((member for member in archive.namelist() if f"/{member}".endswith(f"/{name}")), key=len, default=name)
    size = archive.getinfo(found).file_size
    if size > LARGEST_BYTES:
        raise ValueError(f"{name} would unpack to {size / 2**30:.1f} GiB")
    return archive.read(found)


def _open(read: Read) -> ModelPackage:
    """Build the package from its files."""
    description = json.loads(read(DESCRIPTION))
    if description.get("form") != FORM or description.get("form_version") != FORM_VERSION:
        raise ValueError(f"{DESCRIPTION} is not of the form {FORM} {FORM_VERSION}")
    files = {name: read(name) for name in (WEIGHTS, ONNX) if name in description["files"]}
    for name, data in files.items():
        if _sha256(data) != description["files"][name]["sha256"]:
            raise ValueError(f"{name} is not the file that {DESCRIPTION} describes: its checksum differs")
    deserialize(files[WEIGHTS])  # type: ignore[no-untyped-call]  # bytes that are no weights end here
    labels, rules = LabelSet.from_json(description), rules_from_json(description.get("postprocess", []))
    check_rules(rules, labels)
    return ModelPackage(
        recipe=parse_recipe(description["recipe"], name=DESCRIPTION),
        labels=labels,
        channels=int(description["channels"]),
        weights=files[WEIGHTS],
        scores=description["scores"],
        onnx=files.get(ONNX),
        coarse=_open(_below(COARSE, read)) if description.get("coarse") else None,
        others=tuple(_open(_below(f"{OTHERS}/{n}", read)) for n in range(1, description.get("others", 0) + 1)),
        rules=rules,
        modality=tuple(description.get("modality", ())),
    )


def _below(folder: str, read: Read) -> Read:
    """Return what reads the files of a folder in the package."""
    return lambda name: read(f"{folder}/{name}")

"""What the prediction benchmarks work with, made once and kept: a scan, a longer one, and a network.

    python benchmarks/materials.py scan OUT.nii.gz --data DATA [--slices N]
    python benchmarks/materials.py network OUT --data DATA --scan SCAN [--model unet] [--classes 2] [--steps 200]

DATA holds `chaos_ct`, a CT of CHAOS as DICOM with an expert's masks of the liver, and for more than 2 classes
`organs_ct`, TotalSegmentator's example with its 117 structures. The scan is that of CHAOS as NIfTI; with --slices it is
repeated, every other time backwards, up to so many slices of 1 mm.

The networks are trained on the grid, window, patch and augmentation of the `spleen` recipe, enough to be sure of what
they do on the scan that is timed, and say nothing about others:

* 2 classes: the liver of the CHAOS scan itself.
* up to 20, the U-Net: the first structures of TotalSegmentator's example.
* more, and with the DynUNet more than 2: the trunk of the network for 2; layers whose size depends on the classes are
  left as drawn at random, and the background's bias is raised until it covers 80 % of a piece of the scan. What
  it costs is that of a trained network, but its map is patchy, and where two programs round differently, it differs.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from medseg.dataset import open_dataset
from medseg.device import choose_device
from medseg.labels import LabelSet
from medseg.models import build_network, load_weights, pack, to_onnx, unpack, weights_of
from medseg.models.networks import pooling
from medseg.package import WEIGHTS, ModelPackage, load_package, save_package
from medseg.preprocess import prepare
from medseg.recipe import Recipe, load_recipe
from medseg.train import train
from medseg.volume import Geometry, LabelMap, Volume, read_volume, write_image

OPTIONS = {
    "unet": '{ channels = [16, 32, 64, 128, 256], num_res_units = 2, norm = "batch" }',
    "dynunet": "{ filters = [16, 32, 64, 128, 256] }",
}
# Of TotalSegmentator's scan: it has no contrast agent, and the one that is timed has.
CONTRAST = ["augment.gamma=0.7", "augment.log_gamma=0.6", "augment.affine=0.5", "augment.scale=0.25"]
# A DynUNet takes long on a CPU: it is trained on smaller patches than it is timed with, and for two classes only.
MOST_TRAINED = {"unet": 20, "dynunet": 2}
PATCH = (96, 96, 96)
TRAINED_PATCH = {"unet": [96, 96, 96], "dynunet": [64, 64, 64]}
BACKGROUND = 0.8
PIECE = (96, 96, 64)
STEPS_PER_EPOCH = 20
DESCRIPTION = "peers.json"
# The folder with the same network in a package that prepares and tiles as MONAI's spleen bundle does.
AS_MONAI = "as_monai"


def main() -> None:
    """Make what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scan", "network"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--slices", type=int)
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--model", choices=list(OPTIONS), default="unet")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    if options.what == "scan":
        make_scan(options)
    else:
        make_network(options)


def make_scan(options: argparse.Namespace) -> None:
    """Write the CT as NIfTI, int16 as scanners give it."""
    volume = read_volume(options.data / "chaos_ct" / "DICOM_anon")
    if options.slices:
        volume = repeated(volume, options.slices)
    write_image(Volume(np.rint(volume.array).astype(np.int16), volume.geometry), options.out)


def repeated(volume: Volume, slices: int) -> Volume:
    """Return a scan of so many slices, 1 mm thick, that goes up and down the given one."""
    axis = int(np.argmin(volume.geometry.shape))
    size = volume.geometry.shape[axis]
    at = np.arange(slices) % (2 * size)
    array = np.take(volume.array, np.where(at < size, at, 2 * size - 1 - at), axis=axis + 1)
    affine = volume.geometry.affine.copy()
    affine[:3, axis] /= volume.geometry.spacing_mm[axis]
    return Volume(array, Geometry(array.shape[1:], affine))


def make_network(options: argparse.Namespace) -> None:
    """Write a package, and beside it what the peers need to build the same network."""
    folder = options.out / f"{options.model}_{options.classes}"
    if not (folder / "model").is_dir():
        if options.classes <= MOST_TRAINED[options.model]:
            train_network(folder, options)
        else:
            make_network(argparse.Namespace(**(vars(options) | {"classes": 2})))
            trunk = load_package(options.out / f"{options.model}_2")
            save_package(widened(trunk, options.classes, options.scan), folder / "model")
    if not (folder / AS_MONAI).is_dir():
        save_package(as_monai(load_package(folder / "model")), folder / AS_MONAI)
    about = described(folder / "model") | {AS_MONAI: str((folder / AS_MONAI).resolve())}
    (folder / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def as_monai(package: ModelPackage) -> ModelPackage:
    """Return a package whose predictions are MONAI's: the whole scan without a low pass, its windows, all alike."""
    recipe = package.recipe
    preprocess = recipe.preprocess.model_copy(update={"crop": "none", "low_pass": False})
    choices = {"weighting": "constant", "placement": "stepped", "edges": "zeros"}
    prediction = recipe.prediction.model_copy(update=choices)
    changes = {"preprocess": preprocess, "prediction": prediction}
    return replace(package, recipe=recipe.model_copy(update=changes))


def train_network(folder: Path, options: argparse.Namespace) -> None:
    """Train a network of few classes."""
    epochs = max(1, options.steps // STEPS_PER_EPOCH)
    settings = [
        f"model.name={options.model}",
        f"model.options={OPTIONS[options.model]}",
        f"training.steps_per_epoch={STEPS_PER_EPOCH}",
        f"training.epochs={epochs}",
        f"training.validate_every={epochs}",
        "training.batch=2",
        f"training.patch={TRAINED_PATCH[options.model]}",
        "preprocess.crop=body",
    ]
    if options.classes == 2:
        dataset = open_dataset(liver_dataset(options))
    else:
        dataset = open_dataset(options.data / "organs_ct", manifest="organs_ct")
        names = [label.name for label in dataset.manifest.label_set][: options.classes - 1]
        settings += [*CONTRAST, *(f'labels.{name}=["{name}"]' for name in names)]
    recipe = load_recipe("spleen", settings).model_copy(update={"coarse": None})
    run = train(recipe, dataset, folder / "run", device=choose_device("auto"), resume=folder.exists()).run
    save_package(with_patch(load_package(run.folder), PATCH), folder / "model")


def with_patch(package: ModelPackage, patch: tuple[int, int, int]) -> ModelPackage:
    """Return a package whose network sees windows of another size."""
    training = package.recipe.training.model_copy(update={"patch": patch})
    package = replace(package, recipe=package.recipe.model_copy(update={"training": training}))
    return replace(package, onnx=to_onnx(package.network(), patch=patch, channels=package.channels))


def liver_dataset(options: argparse.Namespace) -> Path:
    """Return a Decathlon folder with the CT and its masks."""
    folder = options.out / "liver"
    paths = {kind: f"{kind}sTr/chaos.nii.gz" for kind in ("image", "label")}
    for path in paths.values():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    volume = read_volume(options.scan)
    write_image(volume, folder / paths["image"])
    write_image(LabelMap(liver(options.data / "chaos_ct"), volume.geometry), folder / paths["label"])
    facts = {"name": "liver", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "training": [paths]}
    (folder / "dataset.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return folder


def liver(folder: Path) -> NDArray[np.uint8]:
    """Return the expert's masks, (I, J, K): a picture for each slice, from head to foot."""
    pictures = sorted((folder / "Ground").glob("*.png"), reverse=True)
    return np.stack([np.asarray(Image.open(picture)).T != 0 for picture in pictures], axis=-1).astype(np.uint8)


def widened(package: ModelPackage, classes: int, scan: Path) -> ModelPackage:
    """Return a package of more classes with the same trunk."""
    torch.manual_seed(0)
    network = build_network(package.recipe, channels=1, labels=classes - 1, try_patch=False).eval()
    weights = weights_of(network)
    trunk = unpack(package.weights)
    weights |= {name: value for name, value in trunk.items() if value.shape == weights[name].shape}
    load_weights(network, weights)
    labels = LabelSet.from_names({0: "background", **{id_: f"structure_{id_}" for id_ in range(1, classes)}})
    recipe = package.recipe.model_copy(update={"labels": None, "description": f"{classes} classes, not trained"})
    bias = [name for name, value in weights.items() if name.endswith("bias") and value.shape == (classes,)][-1]
    weights[bias][0] += lead(network, package.recipe, scan)
    load_weights(network, weights)
    onnx = to_onnx(network, patch=recipe.training.patch, channels=1)
    return ModelPackage(recipe, labels, 1, pack(weights), scores={}, onnx=onnx)


@torch.inference_mode()
def lead(network: nn.Module, recipe: Recipe, scan: Path) -> Tensor:
    """Return by how much the background has to rise to cover its share of a piece in the middle of the scan."""
    array = prepare(read_volume(scan), recipe.preprocess).array
    box = [slice(max(0, (n - side) // 2), (n + side) // 2) for n, side in zip(array.shape[1:], PIECE, strict=True)]
    logits = network(torch.from_numpy(array[(slice(None), *box)].copy())[None])[0]
    margin = (logits[1:].max(dim=0).values - logits[0]).flatten()
    return margin.sort().values[int(BACKGROUND * (len(margin) - 1))]


def described(folder: Path) -> dict[str, Any]:
    """Return what another program needs to build the network and to feed it."""
    package = load_package(folder)
    recipe = package.recipe
    return {
        "network": {"unet": "UNet", "dynunet": "DynUNet"}[recipe.model.name],
        "arguments": {
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": len(package.labels) + 1,
            **arguments(recipe.model.name, recipe.training.patch, recipe.model.options),
        },
        "weights": str((folder / WEIGHTS).resolve()),
        "classes": len(package.labels) + 1,
        "spacing_mm": recipe.preprocess.spacing_mm,
        "window_hu": recipe.preprocess.window_hu,
        "patch": recipe.training.patch,
        "overlap": recipe.prediction.overlap,
    }


def arguments(model: str, patch: tuple[int, int, int], options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that MONAI's class takes for a model's options."""
    if model == "unet":
        return {**options, "strides": [2] * (len(options["channels"]) - 1)}
    strides = pooling(patch, levels=len(options["filters"]))
    return {
        "kernel_size": [[3, 3, 3]] * len(strides),
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "filters": options["filters"][: len(strides)],
        "norm_name": ["instance", {"affine": True}],
    }


if __name__ == "__main__":
    main()

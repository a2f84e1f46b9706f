"""The networks, all MONAI's. A new one is a function here, a line in MODELS and one in ENCODERS."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from monai.networks import nets
from torch import nn

from medseg.choose import choose


@dataclass(frozen=True)
class Task:
    """What a network has to fit.

    Attributes:
        inputs: channels of the image.
        outputs: channels of the logits.
        patch: what it sees, in voxels: two sides or three.
    """

    inputs: int
    outputs: int
    patch: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.patch)


def unet(task: Task, **options: Any) -> nn.Module:
    """Residual U-Net (Kerfoot et al. 2018); the defaults are those of MONAI's spleen tutorial and bundle."""
    settings: dict[str, Any] = {"channels": (16, 32, 64, 128, 256), "num_res_units": 2, "norm": "batch"} | options
    settings.setdefault("strides", (2,) * (len(settings["channels"]) - 1))
    network: nn.Module = nets.UNet(
        spatial_dims=task.dimensions, in_channels=task.inputs, out_channels=task.outputs, **settings
    )
    return network


def dynunet(task: Task, **options: Any) -> nn.Module:
    """nnU-Net's U-Net (Isensee et al. 2021): an axis is halved as long as 4 voxels or more remain.

    Options: `filters` by level, (32, 64, 128, 256, 320, 320) cut to the depth that the patch allows; `res_block`.
    """
    filters = list(options.pop("filters", (32, 64, 128, 256, 320, 320)))
    strides = pooling(task.patch, levels=len(filters))
    network: nn.Module = nets.DynUNet(
        spatial_dims=task.dimensions,
        in_channels=task.inputs,
        out_channels=task.outputs,
        kernel_size=[[3] * task.dimensions] * len(strides),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=filters[: len(strides)],
        **({"norm_name": ("instance", {"affine": True})} | options),
    )
    return network


def pooling(patch: tuple[int, ...], *, levels: int) -> list[list[int]]:
    """Return the stride of each level and axis: 2 while the side is even and leaves at least 4 voxels, then 1."""
    strides = [[1] * len(patch)]
    sides = list(patch)
    while len(strides) < levels:
        step = [2 if side % 2 == 0 and side >= 8 else 1 for side in sides]
        if step == [1] * len(patch):
            break
        strides.append(step)
        sides = [side // by for side, by in zip(sides, step, strict=True)]
    return strides


def segresnet(task: Task, **options: Any) -> nn.Module:
    """SegResNet (Myronenko 2018), without its variational branch."""
    settings = {"init_filters": 16} | options
    network: nn.Module = nets.SegResNet(
        spatial_dims=task.dimensions, in_channels=task.inputs, out_channels=task.outputs, **settings
    )
    return network


def attention_unet(task: Task, **options: Any) -> nn.Module:
    """Attention U-Net (Oktay et al. 2018)."""
    settings: dict[str, Any] = {"channels": (16, 32, 64, 128)} | options
    settings.setdefault("strides", (2,) * (len(settings["channels"]) - 1))
    network: nn.Module = nets.AttentionUnet(
        spatial_dims=task.dimensions, in_channels=task.inputs, out_channels=task.outputs, **settings
    )
    return network


def vnet(task: Task, **options: Any) -> nn.Module:
    """V-Net (Milletari et al. 2016). Its first layer repeats the image: 16 must be a multiple of the channels."""
    network: nn.Module = nets.VNet(
        spatial_dims=task.dimensions, in_channels=task.inputs, out_channels=task.outputs, **options
    )
    return network


def unetr(task: Task, **options: Any) -> nn.Module:
    """UNETR (Hatamizadeh et al. 2022): tokens of 16 voxels a side, so each side must be a multiple of 16."""
    network: nn.Module = nets.UNETR(
        in_channels=task.inputs,
        out_channels=task.outputs,
        img_size=task.patch,
        spatial_dims=task.dimensions,
        **options,
    )
    return network


def swin_unetr(task: Task, **options: Any) -> nn.Module:
    """Swin UNETR (Hatamizadeh et al. 2022): shifted windows over five scales, so each side must be a multiple of 32."""
    network: nn.Module = nets.SwinUNETR(
        in_channels=task.inputs, out_channels=task.outputs, spatial_dims=task.dimensions, **options
    )
    return network


def basic_unet(task: Task, **options: Any) -> nn.Module:
    """The plain U-Net (Ronneberger et al. 2015; Falk et al. 2019), two convolutions a level."""
    network: nn.Module = nets.BasicUNet(
        spatial_dims=task.dimensions, in_channels=task.inputs, out_channels=task.outputs, **options
    )
    return network


MODELS: dict[str, Callable[..., nn.Module]] = {
    "unet": unet,
    "dynunet": dynunet,
    "segresnet": segresnet,
    "attention_unet": attention_unet,
    "vnet": vnet,
    "unetr": unetr,
    "swin_unetr": swin_unetr,
    "basic_unet": basic_unet,
}

# What the names in a network's encoder begin with, as a pattern: the layers on the way down to the coarsest features,
# and what MONAI calls encoders beside them. MONAI nests two of its U-Nets: in each `submodule`, 0 goes down, 1 holds
# the levels below and 2 goes up; the lowest one has no numbers.
ENCODERS: dict[str, str] = {
    "unet": r"model(\.1\.submodule)*\.(0|conv|residual|adn)\.",
    "dynunet": r"input_block|downsamples|bottleneck",
    "segresnet": r"convInit|down_layers",
    "attention_unet": r"model(\.1\.submodule)*\.(0|conv)\.",
    "vnet": r"in_tr|down_tr",
    "unetr": r"vit|encoder",
    "swin_unetr": r"swinViT|encoder",
    "basic_unet": r"conv_0|down_",
}


def in_encoder(name: str, model: str) -> bool:
    """Say whether a layer, parameter or buffer belongs to the encoder of its network.

    Args:
        name: as `named_modules` and `state_dict` give it; in a 2D network it begins with that of the network within.
        model: a key of MODELS.

    Raises:
        UnknownNameError: no model of that name.
    """
    return re.match(rf"(network\.)?({choose(ENCODERS, model, kind='model')})", name) is not None

"""A DynUNet trained the way MONAI's tutorial does it, with its weights looked at up a ladder of times.

    python monai_train.py TASK.json OUT

Written after `modules/dynunet_pipeline` of MONAI's tutorials, its `commands/task04/train.sh` for the hippocampus: a
DynUNet of 32 to 256 filters with deep supervision, batches of 9 patches of 40×56×40, Dice and cross-entropy, SGD with
Nesterov momentum 0.99 and a constant rate of 0.1, gradients clipped at 12, its transforms on cached cases, and eight
flips in prediction. What it leaves out saves MONAI time:

* The tutorial segments all held-out cases after each epoch to keep the best weights. Here they are looked at only
  while the clock stands still, and those of the moment count.
* Its resampling, which for scans of 1 mm does nothing.
* Patches are drawn by no more processes than there are cores; the tutorial has 4.

Its second stage, with a rate of 0.001, begins after 500 epochs, which the benchmark does not reach.
"""

import itertools
import json
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ladder import Ladder, OutOfTimeError
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.networks.utils import eval_mode
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandZoomd,
    SaveImage,
    SpatialPadd,
)
from monai.utils import set_determinism
from torch import Tensor, nn

PATCH, BATCH, RATE = (40, 56, 40), 9, 0.1
STRIDES = (1, 2, 2, 2)
BOTH = ("image", "label")
CORES = os.cpu_count() or 1
# The axes of (B, C, I, J, K) that are flipped.
FLIPS = [axes for number in range(4) for axes in itertools.combinations((2, 3, 4), number)]


def main() -> None:
    """Train, and predict at each rung."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    set_determinism(0)
    network = network_of(len(task["channels"]), len(task["labels"]))
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.99, weight_decay=3e-5, nesterov=True)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)
    batches = loader(task)
    ladder = Ladder(task["minutes"], Path(sys.argv[2]), partial(predict, network, task))
    with suppress(OutOfTimeError):
        ladder.begin()
        epochs = itertools.chain.from_iterable(itertools.repeat(batches))
        for steps, batch in enumerate(epochs, start=1):
            step(network, optimizer, criterion, batch)
            ladder.climb(steps)


def network_of(channels: int, classes: int) -> nn.Module:
    """Return the tutorial's network for this patch."""
    network: nn.Module = DynUNet(
        spatial_dims=3,
        in_channels=channels,
        out_channels=classes,
        kernel_size=[3] * len(STRIDES),
        strides=STRIDES,
        upsample_kernel_size=STRIDES[1:],
        norm_name="instance",
        deep_supervision=True,
        deep_supr_num=1,
    )
    return network


def loader(task: dict[str, Any]) -> DataLoader:
    """Return the batches of an epoch: a patch of each case."""
    transforms = [
        LoadImaged(BOTH),
        EnsureChannelFirstd(BOTH),
        CropForegroundd(BOTH, source_key="image"),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        SpatialPadd(BOTH, PATCH),
        RandCropByPosNegLabeld(BOTH, "label", PATCH, pos=2, neg=1, num_samples=1, image_key="image", image_threshold=0),
        RandZoomd(
            BOTH, prob=0.15, min_zoom=0.9, max_zoom=1.2, mode=("trilinear", "nearest"), align_corners=(True, None)
        ),
        RandGaussianNoised("image", prob=0.15, std=0.01),
        RandGaussianSmoothd("image", *[(0.5, 1.15)] * 3, prob=0.15),
        RandScaleIntensityd("image", factors=0.3, prob=0.15),
        *(RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in range(3)),
        EnsureTyped(BOTH, dtype=torch.float32, track_meta=False),
    ]
    cases = [task["cases"][case_id] for case_id in task["training"]]
    dataset = CacheDataset(cases, Compose(transforms), num_workers=CORES, progress=False)
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=min(4, CORES))


def step(network: nn.Module, optimizer: torch.optim.Optimizer, criterion: nn.Module, batch: dict[str, Tensor]) -> None:
    """Take one step of the optimiser; coarser outputs count half as much as the next finer one."""
    network.train()
    optimizer.zero_grad()
    outputs = torch.unbind(network(batch["image"]), dim=1)
    loss = sum(0.5**level * criterion(output, batch["label"]) for level, output in enumerate(outputs))
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 12)
    optimizer.step()


def predict(network: nn.Module, task: dict[str, Any], folder: Path) -> None:
    """Predict the cases that are scored: softmax in sliding windows, averaged over the eight flips."""
    read = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    inferer = SlidingWindowInferer(PATCH, sw_batch_size=4, overlap=0.5, mode="gaussian")
    save = SaveImage(output_dtype=np.uint8, resample=False, print_log=False)
    with eval_mode(network):
        for case_id in task["scored"]:
            image = read({"image": task["cases"][case_id]["image"]})["image"]
            voxels = image.as_tensor()[None]
            said = (inferer(voxels.flip(axes), network).softmax(dim=1).flip(axes) for axes in FLIPS)
            ids = sum(said).argmax(dim=1)
            save(MetaTensor(ids, meta=image.meta), filename=folder / case_id)


if __name__ == "__main__":
    main()

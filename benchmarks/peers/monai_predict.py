"""One scan segmented the way MONAI's published spleen bundle does it.

    python monai_predict.py PEERS.json SCAN.nii.gz OUT STAGES.json

Transforms and inferer are those of the bundle's inference.json, with two differences that save MONAI time: what goes
home to the scan's grid are logits and not their softmax, and the label map is written as uint8 and not as float32. One
process does it all, where the bundle's data loader starts four more.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Stopwatch, network_of
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    ScaleIntensityRanged,
    Spacingd,
)


def main() -> None:
    """Segment the scan and write the seconds of each stage."""
    watch = Stopwatch()
    described = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    scan, out, stages = map(Path, sys.argv[2:])
    with watch.stage("model"):
        network = network_of(described)
        inferer = SlidingWindowInferer(roi_size=described["patch"], sw_batch_size=4, overlap=described["overlap"])
    preprocessing = preprocess(described)
    with watch.stage("read"):
        case = Compose([LoadImaged(keys="image"), EnsureChannelFirstd(keys="image")])({"image": scan})
    with watch.stage("preprocess"):
        case = preprocessing(case)
    with watch.stage("forward"), torch.no_grad():
        case["pred"] = inferer(case["image"][None], network)[0]
    with watch.stage("restore"):
        case = restore(preprocessing)(case)
    with watch.stage("write"):
        SaveImaged(keys="pred", output_dir=out, output_postfix="", output_dtype=np.uint8, separate_folder=False)(case)
    watch.save(stages)


def preprocess(described: dict[str, Any]) -> Compose:
    """Return the bundle's preprocessing, after reading."""
    low, high = described["window_hu"]
    return Compose(
        [
            Orientationd(keys="image", axcodes="RAS", labels=None),
            Spacingd(keys="image", pixdim=described["spacing_mm"], mode="bilinear"),
            ScaleIntensityRanged(keys="image", a_min=low, a_max=high, b_min=0, b_max=1, clip=True),
            EnsureTyped(keys="image"),
        ]
    )


def restore(preprocessing: Compose) -> Compose:
    """Return the bundle's way home."""
    invert = Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True)
    return Compose([invert, AsDiscreted(keys="pred", argmax=True)])


if __name__ == "__main__":
    main()

"""One scan segmented by nnU-Net's own predictor, preprocessor and export, with the network, grid and window given.

    python nnunet_predict.py PEERS.json SCAN.nii.gz OUT STAGES.json [linear | cubic | torch]

The steps are those of `nnUNetPredictor.predict_from_files_sequential`, which starts no other processes and is therefore
nnU-Net's fastest for a single scan. Plans are made by hand:

* SimpleITKIOWithReorient turns the scan to RAS, and `transpose_forward` its axes from nnU-Net's z, y, x to x, y, z.
* CTNormalization with the window's ends as percentiles, its low end as mean and its width as deviation is the window.
* Tiles overlap by the same half, weighted with nnU-Net's Gaussian, without mirroring.
* linear: scan and logits are interpolated linearly, as for the other programs. cubic: nnU-Net's default plan, which
  interpolates the scan with splines of order 3. torch: both linearly by its newer resampling in PyTorch.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

# What nnU-Net takes for its number of threads, 8 where nothing is said.
os.environ.setdefault("nnUNet_def_n_proc", str(os.cpu_count()))

import torch
from common import Stopwatch, network_of
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def main() -> None:
    """Segment the scan and write the seconds of each stage."""
    watch = Stopwatch()
    described = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    scan, out, stages = map(Path, sys.argv[2:5])
    with watch.stage("model"):
        predictor = predictor_of(described, *sys.argv[5:])
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    with watch.stage("read"):
        io = plans.image_reader_writer_class()
        data, properties = io.read_images([str(scan)])
    with watch.stage("preprocess"):
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            data, None, properties, plans, configuration, predictor.dataset_json
        )
    with watch.stage("forward"):
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).cpu()
    with watch.stage("restore"):
        ids = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, plans, configuration, predictor.label_manager, properties
        )
    with watch.stage("write"):
        out.mkdir(parents=True, exist_ok=True)
        io.write_seg(ids, str(out / scan.name), properties)
    watch.save(stages)


def predictor_of(described: dict[str, Any], resampling: str = "linear") -> nnUNetPredictor:
    """Return nnU-Net's predictor with the described network."""
    plans = PlansManager(plans_of(described, resampling))
    names = ["background", *(f"structure_{number}" for number in range(1, described["classes"]))]
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {name: number for number, name in enumerate(names)},
        "file_ending": ".nii.gz",
    }
    predictor = nnUNetPredictor(
        tile_step_size=1 - described["overlap"],
        use_gaussian=True,
        use_mirroring=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    network = network_of(described)
    predictor.manual_initialization(
        network, plans, plans.get_configuration("3d_fullres"), [network.state_dict()], dataset, "nnUNetTrainer", None
    )
    return predictor


def plans_of(described: dict[str, Any], resampling: str) -> dict[str, Any]:
    """Return nnU-Net's plans.json."""
    low, high = described["window_hu"]
    configuration = {
        "data_identifier": "none",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": described["patch"],
        "spacing": described["spacing_mm"],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {"network_class_name": described["network"], "arch_kwargs": {}, "_kw_requires_import": []},
        **resampling_of(resampling),
    }
    return {
        "dataset_name": "Dataset001_Scan",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIOWithReorient",
        "transpose_forward": [2, 1, 0],
        "transpose_backward": [2, 1, 0],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": low, "std": high - low, "percentile_00_5": low, "percentile_99_5": high}
        },
        "configurations": {"3d_fullres": configuration},
    }


def resampling_of(kind: str) -> dict[str, Any]:
    """Return the plan's functions that resample scan, segmentation and logits."""
    chosen: dict[str, Any] = {}
    for what in ("data", "seg", "probabilities"):
        name = "resample_torch_fornnunet" if kind == "torch" else "resample_data_or_seg_to_shape"
        arguments: dict[str, Any] = {"is_seg": what == "seg", "force_separate_z": None}
        if kind == "torch":
            arguments["memefficient_seg_resampling"] = False
        else:
            order = 3 if (what, kind) == ("data", "cubic") else 1
            arguments |= {"order": order, "order_z": 0}
        chosen |= {f"resampling_fn_{what}": name, f"resampling_fn_{what}_kwargs": arguments}
    return chosen


if __name__ == "__main__":
    main()

"""One measurement of a peer in a process of its own, in the peers' environment.

    .venv-peers/bin/python Testing/benchmarks/peer_case.py nnunet-3d --volume t1.npy

Weights are random, which takes the same time. nnU-Net plans by its own planner for a data set
like ATLAS R2.0 (655 T1s of 1 mm on the MNI152 grid, one lesion label) and predicts with its own
nnUNetPredictor, preprocessing and export included. MONAI's networks run through MONAI's own
inferers. Everything else is as these packages have it: their own threads, float32; on a GPU
nnU-Net computes in float16 (autocast) by itself.
Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import (
    STARTED,
    WorkCounter,
    gpu_memory,
    make_context,
    peak_mb,
    since_start,
    synchronize,
    versions,
)

CASES = (
    *("nnunet-3d", "nnunet-3d-flips", "nnunet-2d", "nnunet-2d-flips"),
    *("monai-3d", "monai-3d-wide"),
    *("monai-2d", "monai-2d-wide", "monai-2d-cropped", "monai-2d-plain"),
)
ATLAS_SCANS = 655
MNI_SHAPE = (189, 233, 197)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--volume", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    os.environ.setdefault(STARTED, repr(time.time()))
    measure = nnunet if arguments.case.startswith("nnunet") else monai
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(arguments.case, arguments.volume, arguments.device, Path(folder))))


def finish(
    counter: WorkCounter, ready: float, network: float, whole: float, device: str, **facts: Any
) -> dict:
    import torch

    return {
        **gpu_memory(device),
        "ready_s": ready,
        "network_s": network,
        "volume_s": whole,
        "peak_mb": peak_mb(),
        "parameters": counter.parameters,
        "gmac": counter.gmac(),
        "calls": counter.calls,
        "items": counter.items,
        "precision": "float32",
        "threads": torch.get_num_threads(),
        **facts,
    }


class Timed:
    """A function whose seconds are added up."""

    def __init__(self, function: Callable[..., Any], device: str) -> None:
        self.function, self.device, self.seconds = function, device, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        result = self.function(*args, **kwargs)
        synchronize(self.device)
        self.seconds += time.perf_counter() - started
        return result


# ------------------------------------------------------------------ nnU-Net


def nnunet(case: str, path: Path, device: str, folder: Path) -> dict[str, Any]:
    _, dimensions, *flips = case.split("-")
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir()
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    import numpy as np
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    # A user has the plans from training: making them is no part of the time to be ready.
    started = time.perf_counter()
    dataset, plans = plan(folder)
    planning = time.perf_counter() - started
    manager = PlansManager(plans)
    configuration = manager.get_configuration({"3d": "3d_fullres", "2d": "2d"}[dimensions])
    torch.manual_seed(0)
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        manager.get_label_manager(dataset).num_segmentation_heads,
        allow_init=True,
        deep_supervision=False,
    ).eval()
    axes = (0, 1, 2) if dimensions == "3d" else (0, 1)
    predictor = nnUNetPredictor(
        use_mirroring=bool(flips),
        perform_everything_on_device=device == "cuda",
        device=torch.device(device),
        allow_tqdm=False,
    )
    counter = WorkCounter(network)
    weights = [{k: v.clone() for k, v in network.state_dict().items()}]
    predictor.manual_initialization(
        network, manager, configuration, weights, dataset, "nnUNetTrainer", axes
    )
    timed = Timed(predictor.predict_sliding_window_return_logits, device)
    predictor.predict_sliding_window_return_logits = timed
    array = np.load(path)[None]
    context = make_context(device)
    ready = since_start() - planning
    started = time.perf_counter()
    mask = predictor.predict_single_npy_array(
        array, {"spacing": [1.0, 1.0, 1.0]}, None, None, False
    )
    whole = time.perf_counter() - started
    assert mask.shape == array.shape[1:]
    return finish(
        counter,
        ready,
        timed.seconds,
        whole,
        device,
        **context,
        precision="float16" if device == "cuda" else "float32",
        patch=[int(n) for n in configuration.patch_size],
        features=list(configuration.network_arch_init_kwargs["features_per_stage"]),
        versions=versions("torch", "nnunetv2", "dynamic_network_architectures", "numpy"),
    )


def plan(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(dataset.json, plans) of nnU-Net's default planner for a data set like ATLAS R2.0."""
    import numpy as np
    import SimpleITK as sitk
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )

    name = "Dataset001_AtlasLike"
    raw, preprocessed = (folder / part / name for part in ("raw", "preprocessed"))
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
        blank = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.uint8))
        suffix = "_0000" if part == "imagesTr" else ""
        sitk.WriteImage(blank, str(raw / part / f"case_000{suffix}.nii.gz"))
    dataset = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": ATLAS_SCANS,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    preprocessed.mkdir(parents=True)
    statistics = dict.fromkeys(("mean", "median", "std", "min", "max"), 1.0)
    statistics |= {"percentile_00_5": 0.0, "percentile_99_5": 1.0}
    fingerprint = {
        "spacings": [[1.0, 1.0, 1.0]] * ATLAS_SCANS,
        "shapes_after_crop": [list(MNI_SHAPE)] * ATLAS_SCANS,
        "foreground_intensity_properties_per_channel": {"0": statistics},
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    planner = ExperimentPlanner(name)
    planner.plan_experiment()
    return dataset, json.loads((preprocessed / "nnUNetPlans.json").read_text())


# ------------------------------------------------------------------ MONAI


def monai(case: str, path: Path, device: str, folder: Path) -> dict[str, Any]:
    import numpy as np
    import torch
    from monai.inferers import SliceInferer, SlidingWindowInferer
    from monai.networks.nets import UNet

    flat = case.startswith("monai-2d")
    torch.manual_seed(0)
    network = UNet(
        spatial_dims=2 if flat else 3,
        in_channels=1,
        out_channels=2,
        channels=(32, 64, 128, 256, 512) if case.endswith("wide") else (16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=0 if case.endswith("plain") else 2,
    ).eval()
    counter = WorkCounter(network)
    network.to(device)
    array = np.load(path)
    context = make_context(device)
    ready = since_start()
    started = time.perf_counter()
    box = tuple(slice(0, n) for n in array.shape)
    if case.endswith("cropped"):
        # What CropForeground does: the box of the foreground, axes padded to a multiple of 16.
        where = [np.flatnonzero((array > 0).any(axis=a)) for a in ((1, 2), (0, 2), (0, 1))]
        box = tuple(slice(int(w[0]), int(w[-1]) + 1) for w in where)
    volume = torch.from_numpy(array[box])[None, None]
    volume = (volume - volume.mean()) / volume.std()
    if flat:
        roi = tuple(-(-n // 16) * 16 for n in volume.shape[3:])
        inferer: Any = SliceInferer(roi_size=roi, sw_batch_size=8, spatial_dim=0)
    else:
        inferer = SlidingWindowInferer(roi_size=(128, 128, 128), sw_batch_size=1, overlap=0.25)
    with torch.inference_mode():
        before = time.perf_counter()
        logits = inferer(volume.to(device), network)
        synchronize(device)
        seconds = time.perf_counter() - before
        mask = np.zeros(array.shape, np.uint8)
        mask[box] = logits[0].argmax(0).cpu().numpy()
    whole = time.perf_counter() - started
    return finish(
        counter,
        ready,
        seconds,
        whole,
        device,
        **context,
        versions=versions("torch", "monai", "numpy"),
    )


if __name__ == "__main__":
    main()

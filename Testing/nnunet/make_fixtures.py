"""Tiny nnU-Nets, trained and asked by nnunetv2 itself, for the tests beside this file.

    .venv-peers/bin/python Testing/nnunet/make_fixtures.py

Each is a few thousand weights after some seconds of training on blobs: bad, but in every other way
what nnU-Net v2 writes. Beside the exported zip lie an image, what nnU-Net says of it (with and
without mirroring), and the logits of one window.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (32, 36, 40)
STEPS = 250
# Every fifth logit of a window says as much as all of them, in a smaller file.
THINNING = 5

_RESAMPLING = {
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0},
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0},
}
for _key in ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"):
    _RESAMPLING[f"{_key}_kwargs"]["force_separate_z"] = None  # type: ignore[index]


def architecture(kind: str, dimensions: int, kernels: list, strides: list) -> dict[str, Any]:
    """The plans' ``architecture`` of a network of three stages, 3, 6 and 8 features wide."""
    plain = kind == "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [3, 6, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": kernels,
            "strides": strides,
            ("n_conv_per_stage" if plain else "n_blocks_per_stage"): [1, 2, 2],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(
    name: str, patch: list[int], spacing: list[float], scheme: str, mask: bool, network: dict
) -> dict[str, Any]:
    return {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "median_image_size_in_voxels": [float(n) for n in SHAPE],
        "spacing": spacing,
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [mask],
        **_RESAMPLING,
        "batch_dice": False,
        **network,
    }


CUBE = {"kernels": [[3, 3, 3]] * 3, "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]]}
FLAT = {"kernels": [[3, 3]] * 3, "strides": [[1, 1], [2, 2], [2, 2]]}
# The form of plans before "architecture", of a network whose first stage sees single slices.
OLD_PLANS = {
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 3,
    "n_conv_per_stage_encoder": [1, 2, 2],
    "n_conv_per_stage_decoder": [1, 1],
    "num_pool_per_axis": [1, 2, 2],
    "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "unet_max_num_features": 8,
}
# name: configuration, folds, labels, spacing of the images (k, j, i), transpose, stripped, reader.
MODELS: dict[str, dict[str, Any]] = {
    "plain3d": {
        "configuration": "3d_fullres",
        "configurations": {
            "3d_fullres": configuration(
                "3d_fullres",
                [24, 24, 32],
                [1.0, 1.0, 1.0],
                "ZScoreNormalization",
                False,
                {"architecture": architecture("PlainConvUNet", 3, **CUBE)},
            )
        },
        "folds": [0, 1],
        "spacing": [1.0, 1.0, 1.0],
    },
    "residual": {
        "configuration": "3d_fullres",
        "configurations": {
            "3d_fullres": configuration(
                "3d_fullres",
                [24, 32, 24],
                [1.15, 1.2, 1.1],
                "ZScoreNormalization",
                True,
                {"architecture": architecture("ResidualEncoderUNet", 3, **CUBE)},
            )
        },
        "folds": [0],
        "labels": {"background": 0, "other": 1, "lesion": 2},
        "spacing": [1.0, 1.0, 1.0],
        "reader": "NibabelIOWithReorient",
    },
    "anisotropic": {
        "configuration": "3d_fullres",
        "configurations": {
            "3d_fullres": configuration(
                "3d_fullres",
                [8, 32, 32],
                [3.3, 1.0, 1.0],
                "RescaleTo01Normalization",
                False,
                OLD_PLANS,
            )
        },
        "folds": [0],
        "spacing": [1.1, 3.6, 0.9],
        "transpose": [1, 0, 2],
        "shape": [36, 12, 40],
    },
    "slices": {
        "configuration": "2d_small",
        "configurations": {
            "2d": configuration(
                "2d",
                [64, 64],
                [1.0, 1.0],
                "ZScoreNormalization",
                False,
                {"architecture": architecture("PlainConvUNet", 2, **FLAT)},
            ),
            "2d_small": {"inherits_from": "2d", "patch_size": [32, 32]},
        },
        "folds": [0],
        "labels": {"background": 0, "tissue": [1, 2], "lesion": [2]},
        "regions_class_order": [1, 2],
        "spacing": [1.0, 1.0, 1.0],
    },
    # As large as a head, coarse, with windows that are to it as those of 128 to a head of 1 mm.
    "head": {
        "configuration": "3d_fullres",
        "configurations": {
            "3d_fullres": configuration(
                "3d_fullres",
                [32, 32, 32],
                [4.0, 4.0, 4.0],
                "ZScoreNormalization",
                False,
                {"architecture": architecture("PlainConvUNet", 3, **CUBE)},
            )
        },
        "folds": [0],
        "spacing": [4.0, 4.0, 4.0],
        "shape": [47, 58, 49],
        "steps": 4 * STEPS,
        "reader": "NibabelIOWithReorient",
    },
}


def phantom(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A head of blobs in int16, 0 around it, and its labels: 1 a bright blob, 2 a dark one."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = sum(a**2 for a in axes) < 0.85
    texture = gaussian_filter(rng.normal(size=shape), 2)
    image = 500 + 80 * texture / texture.std() + rng.normal(scale=10, size=shape)
    labels = np.zeros(shape, np.uint8)
    for label, change in ((1, 250), (2, -300)):
        centre = rng.uniform(-0.4, 0.4, 3)
        radius = rng.uniform(0.25, 0.4)
        there = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2
        image[there] += change
        labels[there] = label
    return np.where(head, np.clip(image, 1, 3000), 0).astype(np.int16), labels * head


def dataset_json(model: dict[str, Any]) -> dict[str, Any]:
    content = {
        "channel_names": {"0": "T1"},
        "labels": model.get("labels", {"background": 0, "lesion": 1}),
        "numTraining": 4,
        "file_ending": ".nii.gz",
        "licence": "CC0-1.0",
    }
    if "regions_class_order" in model:
        content["regions_class_order"] = model["regions_class_order"]
    return content


def plans_json(name: str, model: dict[str, Any]) -> dict[str, Any]:
    forward = model.get("transpose", [0, 1, 2])
    statistics = {"mean": 480.0, "median": 490.0, "std": 150.0, "min": 0.0, "max": 1500.0}
    statistics |= {"percentile_00_5": 20.0, "percentile_99_5": 1100.0}
    return {
        "dataset_name": name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [model["spacing"][a] for a in forward],
        "original_median_shape_after_transp": list(SHAPE),
        "image_reader_writer": model.get("reader", "SimpleITKIO"),
        "transpose_forward": forward,
        "transpose_backward": [int(n) for n in np.argsort(forward)],
        "configurations": model["configurations"],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }


def kept(model: dict[str, Any], probabilities: np.ndarray) -> np.ndarray:
    """The lesion's map (K, J, I), float16: of three or more classes against the strongest other."""
    lesion = probabilities[-1]
    if "regions_class_order" not in model and len(probabilities) > 2:
        lesion = lesion / np.maximum(lesion + probabilities[:-1].max(axis=0), 1e-30)
    return lesion.astype(np.float16)


def make(name: str, number: int, work: Path, out: Path) -> None:
    """Train, ask and export one model."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.model_sharing.model_export import export_pretrained_model
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.manual_seed(0)
    # nnU-Net draws from numpy's global generator.
    np.random.seed(0)  # noqa: NPY002
    model = MODELS[name]
    dataset_name = f"Dataset{number:03d}_Tiny{name.capitalize()}"
    dataset, plans = dataset_json(model), plans_json(dataset_name, model)
    shape = tuple(model.get("shape", SHAPE))
    spacing = model["spacing"]
    regions_or_two = 2 if "labels" in model else 1

    folder = work / "preprocessed" / dataset_name
    folder.mkdir(parents=True)
    manager = PlansManager(json.loads(json.dumps(plans)))
    chosen = manager.get_configuration(model["configuration"])
    target = folder / chosen.data_identifier
    target.mkdir()
    preprocessor = DefaultPreprocessor(verbose=False)
    cases = [f"case_{n}" for n in range(4)]
    for n, case in enumerate(cases):
        image, labels = phantom(100 * number + n, shape)
        labels = labels if regions_or_two == 2 else (labels == 2).astype(np.uint8)
        data, seg, properties = preprocessor.run_case_npy(
            image[None].astype(np.float32),
            labels[None].astype(np.int16),
            {"spacing": spacing},
            manager,
            chosen,
            dataset,
        )
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

        nnUNetDatasetBlosc2.save_case(
            data.astype(np.float32), seg.astype(np.int16), properties, str(target / case)
        )
    for file, content in (
        ("dataset.json", dataset),
        ("dataset_fingerprint.json", {}),
        ("splits_final.json", [{"train": cases[:3], "val": cases[3:]}] * 5),
    ):
        (folder / file).write_text(json.dumps(content))
    gt = folder / "gt_segmentations"
    gt.mkdir()

    device = torch.device("cpu")
    for fold in model["folds"]:
        trainer = nnUNetTrainer(
            {**json.loads(json.dumps(plans)), "continue_training": False},
            model["configuration"],
            fold,
            json.loads(json.dumps(dataset)),
            device,
        )
        steps = model.get("steps", STEPS)
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = steps, 1
        trainer.num_epochs = 1
        trainer.on_train_start()
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        outputs = [trainer.train_step(next(trainer.dataloader_train)) for _ in range(steps)]
        trainer.on_train_epoch_end(outputs)
        with torch.no_grad():
            trainer.on_validation_epoch_start()
            outputs = [trainer.validation_step(next(trainer.dataloader_val))]
            trainer.on_validation_epoch_end(outputs)
        trainer.on_epoch_end()
        trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
        result = Path(trainer.output_folder)
        (result / "validation").mkdir(exist_ok=True)
        (result / "validation" / "summary.json").write_text("{}")
        # A picture of the training curve is nothing that a test needs.
        (result / "progress.png").write_bytes(b"")
    results = result.parent
    for file in ("plans.json", "dataset.json", "dataset_fingerprint.json"):
        if not (results / file).exists():
            content = {"plans.json": plans, "dataset.json": dataset}.get(file, {})
            (results / file).write_text(json.dumps(content))
    folds = tuple(model["folds"])
    summary = results / f"crossval_results_folds_{'_'.join(map(str, folds))}"
    summary.mkdir(exist_ok=True)
    # A pickle that would run code, as old exports hold one: nobody may open it.
    (summary / "postprocessing.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    archive = out / f"{name}.zip"
    export_pretrained_model(number, str(archive), (model["configuration"],), folds=folds)

    image, _ = phantom(100 * number + 9, shape)
    expected: dict[str, Any] = {"image": image, "spacing": np.asarray(spacing)}
    for mirroring in (False, True):
        predictor = nnUNetPredictor(use_mirroring=mirroring, device=device, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(results), folds)
        _, probabilities = predictor.predict_single_npy_array(
            image[None].astype(np.float32), {"spacing": spacing}, None, None, True
        )
        expected["mirrored" if mirroring else "plain"] = kept(model, probabilities)
    patch = predictor.configuration_manager.patch_size
    window = np.random.default_rng(number).normal(size=patch).astype(np.float32)
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    with torch.no_grad():
        logits = predictor.network.eval()(torch.from_numpy(window)[None, None])[0].numpy()
    expected["logits"] = logits.ravel()[::THINNING].astype(np.float32)
    np.savez_compressed(out / f"{name}.npz", **expected)
    print(f"{name}: {archive.stat().st_size / 1e3:.0f} kB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "models")
    parser.add_argument("names", nargs="*", choices=[*MODELS, []], help="default: all")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp())
    try:
        for part in ("raw", "preprocessed", "results"):
            (work / part).mkdir()
            os.environ[f"nnUNet_{part}"] = str(work / part)
        os.environ.update({"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"})
        for number, name in enumerate(MODELS, 1):
            if not arguments.names or name in arguments.names:
                (work / "raw" / f"Dataset{number:03d}_Tiny{name.capitalize()}").mkdir()
                make(name, number, work, arguments.out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

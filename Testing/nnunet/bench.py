"""Ours beside ``nnUNetPredictor`` on the same model, head and cores: seconds, CPU seconds, memory.

    .venv/bin/python Testing/nnunet/bench.py [--peers .venv-peers/bin/python] [--features 32]

The model is nnU-Net's usual 3d_fullres (six stages, windows of 128) with random weights, which
change no time. The head is the template on its grid of 1 mm, whole and stripped. Each run is a
process of its own; model loading and imports are left out of the times. CPU seconds hardly depend
on what else the machine does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LIB = REPOSITORY / "StrokeLesionSeg"
HEADS = ("whole", "stripped")
FORMATS = ("float32", "bfloat16")
FOLDER = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def plans(base: int, patch: int) -> dict[str, Any]:
    """nnU-Net's default for a head of 1 mm."""
    sys.path.insert(0, str(HERE))
    from make_fixtures import architecture, configuration

    made = architecture(
        "PlainConvUNet",
        3,
        [[3, 3, 3]] * 6,
        [[1, 1, 1]] + [[2, 2, 2]] * 5,
    )
    made["arch_kwargs"].update(
        n_stages=6,
        features_per_stage=[min(base * 2**n, 10 * base) for n in range(6)],
        n_conv_per_stage=[2] * 6,
        n_conv_per_stage_decoder=[2] * 5,
    )
    return {
        "dataset_name": "Dataset900_Bench",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [189, 233, 197],
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "3d_fullres": configuration(
                "3d_fullres", [patch] * 3, [1.0] * 3, "ZScoreNormalization", False,
                {"architecture": made},
            )
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
    }  # fmt: skip


def theirs_make(work: Path, base: int, patch: int) -> None:
    """In the peers' environment: write the model's folder."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    content = plans(base, patch)
    made = content["configurations"]["3d_fullres"]["architecture"]
    network = get_network_from_plans(
        made["network_class_name"], made["arch_kwargs"], made["_kw_requires_import"], 1, 2,
        allow_init=True, deep_supervision=False,
    )  # fmt: skip
    folder = work / FOLDER
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(content))
    dataset = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    # A trained network sees no lesion in most of a head, and is sure of it; random weights would
    # say a half everywhere.
    for name, tensor in checkpoint["network_weights"].items():
        if ".seg_layers." in name:
            tensor.mul_(0.01)
            if name.endswith(".bias"):
                tensor[0] += 4
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def _measured(run: Any) -> dict[str, float]:
    started, cpu = time.perf_counter(), time.process_time()
    run()
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    peak = int(status.split("VmHWM:", 1)[1].split()[0])
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": round(peak / 1000),
    }


def theirs_run(work: Path, head: Path) -> dict[str, float]:
    """In the peers' environment: nnU-Net's predictor without mirroring."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=False,
        device=torch.device("cpu"),
        perform_everything_on_device=False,
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(work / FOLDER), (0,))
    image = np.load(head)["image"]
    return _measured(
        lambda: predictor.predict_single_npy_array(
            image[None].astype(np.float32), {"spacing": [1.0] * 3}, None, None, True
        )
    )


def ours_run(head: Path, precision: str, windows: str) -> dict[str, Any]:
    """Ours as the commands use it; ``windows``: "few", as in a head where nothing is seen, or
    "all", as where lesions lie everywhere."""
    from StrokeLesionSegLib.inference import SegmentOptions, prepare_environment, segment_volume

    prepare_environment()
    from StrokeLesionSegLib.images import MNI_GRID, Volume
    from StrokeLesionSegLib.models import load_model

    model = load_model("bench")
    image = np.load(head)["image"].astype(np.float32)
    options = SegmentOptions(
        precision=precision, mirror=False, device="cpu", exact=windows == "all"
    )
    facts: dict[str, Any] = {}

    def run() -> None:
        facts.update(segment_volume(Volume(image, MNI_GRID.affine), model, options).details)

    measured = _measured(run)
    return {**measured, "windows": facts["windows"], "precision": facts["precision"]}


def write_heads(work: Path) -> list[Path]:
    """The template with its head, and its brain alone."""
    from StrokeLesionSegLib.images.space.template import (
        mni_brain_mask,
        template_head,
        upsample_linear,
    )

    head = upsample_linear(template_head().array)
    # Air is not 0 in a scan.
    noise = np.abs(np.random.default_rng(0).normal(scale=3, size=head.shape))
    whole = (head + noise).astype(np.float32)
    found = []
    for name, image in zip(HEADS, (whole, whole * (mni_brain_mask().array != 0)), strict=True):
        found.append(work / f"{name}.npz")
        np.savez_compressed(found[-1], image=image)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=str(REPOSITORY / ".venv-peers/bin/python"))
    parser.add_argument("--features", type=int, default=32, help="of the first stage")
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
    parser.add_argument("--threads", default=str(os.cpu_count()))
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.step:
        what, *rest = a.step
        if what == "make":
            theirs_make(Path(rest[0]), a.features, a.patch)
        elif what == "theirs":
            print(json.dumps(theirs_run(Path(rest[0]), Path(rest[1]))))
        else:
            print(json.dumps(ours_run(Path(rest[0]), rest[1], rest[2])))
        return 0
    sys.path.insert(0, str(LIB))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environment = {
            **os.environ,
            "PYTHONPATH": str(LIB),
            "STROKE_LESION_SEG_HOME": str(work / "home"),
            "OMP_NUM_THREADS": a.threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            **{f"nnUNet_{part}": str(work) for part in ("raw", "preprocessed", "results")},
        }

        def step(python: str, *words: str) -> Any:
            command = [python, str(HERE / "bench.py"), "--features", str(a.features)]
            command += ["--patch", str(a.patch), "--step", *words]
            run = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
            return json.loads(lines[-1]) if lines else None

        step(a.peers, "make", str(work))
        os.environ["STROKE_LESION_SEG_HOME"] = environment["STROKE_LESION_SEG_HOME"]
        from StrokeLesionSegLib.models import ImportChoices, install_model

        install_model(work / FOLDER, ImportChoices(name="bench"))
        for head in write_heads(work):
            if head.stem not in a.heads:
                continue
            theirs = step(a.peers, "theirs", str(work), str(head))
            print(head.stem, "nnUNetPredictor", theirs, flush=True)
            for windows, precision in itertools.product(("few", "all"), FORMATS):
                ours = step(sys.executable, "ours", str(head), precision, windows)
                ratios = {key: round(theirs[key] / ours[key], 2) for key in theirs}
                print(head.stem, windows, precision, ours, "theirs / ours:", ratios, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

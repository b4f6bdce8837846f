"""One measurement of ours in a process of its own: a volume in memory to a mask in memory.

    python Testing/benchmarks/our_case.py --volume t1.npy --precision bfloat16

``--volume`` is float32 (K, J, I) on the MNI152 grid. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "StrokeLesionSeg"))
TRAINED_2D = REPOSITORY / "Testing" / "trained_2d"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volume", type=Path, required=True)
    parser.add_argument("--tta", action="store_true")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model")
    parser.add_argument("--slices", action="store_true", help="the 2D model of the tests instead")
    arguments = parser.parse_args()

    from StrokeLesionSegLib.inference.device import prepare_environment

    prepare_environment()
    import numpy as np
    import torch
    from measuring import WorkCounter, gpu_memory, make_context, peak_mb, since_start, versions
    from StrokeLesionSegLib.images import MNI_GRID, Volume
    from StrokeLesionSegLib.inference import SegmentOptions, segment_volume
    from StrokeLesionSegLib.inference.ahead import make_ahead
    from StrokeLesionSegLib.models import load_model
    from StrokeLesionSegLib.pipeline import find_in

    model = load_model(TRAINED_2D if arguments.slices else arguments.model)
    counter = WorkCounter(model.network)
    volume = Volume(np.load(arguments.volume), MNI_GRID.affine.copy())
    options = SegmentOptions(
        tta=arguments.tta,
        align="none",
        device=arguments.device,
        precision=arguments.precision,
    )
    context = make_context(arguments.device)
    # As the weights, it is the same for every scan, and there before the first.
    if (ahead := make_ahead(model.manifest)) is not None:
        ahead.join()
    ready = since_start()
    started = time.perf_counter()
    prediction = segment_volume(volume, model, options)
    find_in(prediction, model.manifest.operating_point())
    whole = time.perf_counter() - started
    # Before the work is counted, which runs the network once more.
    peak, gpu = peak_mb(), gpu_memory(arguments.device)
    print(
        json.dumps(
            {
                "ready_s": ready,
                "network_s": prediction.timings["network"],
                "volume_s": whole,
                "stages_s": prediction.timings,
                "peak_mb": peak,
                "parameters": counter.parameters,
                "gmac": counter.gmac(),
                "calls": counter.calls,
                "items": counter.items,
                "precision": prediction.details["precision"],
                "threads": prediction.details["threads"],
                "model": f"{model.manifest.name} {model.manifest.version}",
                "versions": versions("torch", "numpy", "SimpleITK"),
                "torch_threads": torch.get_num_threads(),
                **context,
                **gpu,
            }
        )
    )


if __name__ == "__main__":
    main()

"""The machine's measured matrix-product peak, in one JSON line: the best of some square products.

    python Testing/benchmarks/peak.py [--device cuda] [--seconds 6]

1e9 multiply-accumulates a second by number format; what 100 % means in the side-by-side.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from measuring import synchronize

SIZES = {"cpu": (1024, 2048, 3072), "cuda": (4096, 8192)}


def best_rate(dtype: torch.dtype, device: str, seconds: float) -> float:
    sizes = SIZES[device]
    best = 0.0
    for size in sizes:
        a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
        out = a @ b
        ends = time.perf_counter() + seconds / len(sizes)
        while time.perf_counter() < ends:
            synchronize(device)
            started = time.perf_counter()
            torch.matmul(a, b, out=out)
            synchronize(device)
            best = max(best, size**3 / (time.perf_counter() - started) / 1e9)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=tuple(SIZES))
    parser.add_argument("--seconds", type=float, default=6)
    arguments = parser.parse_args()
    formats = [torch.float32, torch.bfloat16]
    if arguments.device == "cuda":
        # As the convolutions, which use TensorFloat-32 by PyTorch's own default.
        torch.backends.cuda.matmul.allow_tf32 = True
        formats.append(torch.float16)
    with torch.inference_mode():
        rates = {
            str(dtype).removeprefix("torch."): best_rate(
                dtype, arguments.device, arguments.seconds / len(formats)
            )
            for dtype in formats
        }
    print(json.dumps({"gmac_per_s": rates, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()

"""Training images per second: ours, MONAI's way of the same augmentations, the network alone.

    python Testing/benchmarks/training.py --json training.json --markdown training.md

All three train the same network on the same patches in one run, one after the other:

``ours``      what ``stroketrain fit`` does: bytes in the device's memory, cut out, windowed and
              augmented there in batches, through Lightning
``MONAI``     CacheDataset of the same slices, the same augmentations as MONAI transforms in a
              DataLoader's workers, through Lightning
``network``   forward, loss, backward and step on one random batch that lies on the device

Without ``--cache`` the scans are random bytes: what they show does not change the time. Axial
slices only, so that every batch has one size, and no simulated clicks, which are no augmentation.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
for part in ("StrokeLesionSeg", "training"):
    sys.path.insert(0, str(REPOSITORY / part))

import lightning as L  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402
from stroketrain.data.cache import Cache  # noqa: E402
from stroketrain.data.resident import ResidentCache  # noqa: E402
from stroketrain.product.module import LesionModule  # noqa: E402
from stroketrain.product.options import FitOptions  # noqa: E402
from stroketrain.product.slices import PATCH, Sampling, SliceStream  # noqa: E402
from torch import Generator, Tensor  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

SPEC = {
    "name": "residual_unet",
    "in_channels": 1,
    "filters": [16, 32, 64, 128, 256],
    "skip": "stem",
    "dropout": 0.1,
}
AXIAL = (1.0, 0.0, 0.0)


class Clock(Callback):
    """Seconds from the end of the warm-up to the end of the last step."""

    def __init__(self, warm: int) -> None:
        self.warm, self.start, self.seconds = warm, 0.0, 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == self.warm:
            synchronize(module.device)
            self.start = time.perf_counter()

    def on_train_end(self, trainer: Any, module: Any) -> None:
        synchronize(module.device)
        self.seconds = time.perf_counter() - self.start


class ReadyModule(LesionModule):
    """The same training on batches that arrive augmented."""

    def training_inputs(self, batch: dict[str, Tensor], g: Generator) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["mask"]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_cache(folder: Path, scans: int) -> Cache:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (scans, 189, 233, 197), np.uint8)
    masks = (rng.random(images.shape, np.float32) < 0.02).astype(np.uint8)
    np.save(folder / "images.npy", images)
    np.save(folder / "masks.npy", masks)
    entries = [{"name": f"s{n}", "subject": f"s{n}", "site": "R1"} for n in range(scans)]
    (folder / "index.json").write_text(json.dumps({"scans": entries, "fingerprint": "random"}))
    return Cache.open(folder)


def module_of(kind: type[LesionModule], a: argparse.Namespace) -> LesionModule:
    torch.manual_seed(0)
    return kind(FitOptions(a.network, steps=a.warm + a.steps, compile=a.compile))


def through_lightning(module: LesionModule, loader: DataLoader, a: argparse.Namespace) -> float:
    clock = Clock(a.warm)
    trainer = L.Trainer(
        max_steps=a.warm + a.steps,
        max_epochs=1,
        accelerator="gpu" if a.device.type == "cuda" else "cpu",
        devices=1,
        precision=a.precision,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(module, loader)
    return a.steps * a.batch / clock.seconds


def ours(cache: Cache, a: argparse.Namespace) -> float:
    stream = SliceStream(cache, Sampling(views=AXIAL, batch=a.batch), a.warm + a.steps, seed=0)
    module = module_of(LesionModule, a)
    module.resident = ResidentCache(cache, a.device)
    stream.numbers_only = True
    return through_lightning(module, DataLoader(stream, batch_size=None), a)


def monai_transforms(size: tuple[int, int]) -> Any:
    """What ``stroketrain.data.augment`` does to axial slices, as MONAI transforms."""
    from monai import transforms as T

    keys = ["image", "mask"]
    turn = np.deg2rad(15)
    shift = [0.06 * n / 2 for n in size]
    return T.Compose(
        [
            T.ToTensord(keys, dtype=torch.float32, track_meta=False),
            # From here on MONAI's cache does not reach: the transforms are random.
            T.RandAffined(
                keys,
                prob=1.0,
                rotate_range=turn,
                scale_range=[(-0.15, 0.18)] * 2,
                translate_range=shift,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            T.RandFlipd(keys, prob=0.5, spatial_axis=1),
            T.RandAdjustContrastd("image", prob=1.0, gamma=(0.7, 1.42)),
            T.RandBiasFieldd("image", prob=1.0, degree=2, coeff_range=(0.0, 0.1)),
            T.RandGaussianSmoothd("image", prob=0.7, sigma_x=(0.2, 0.8), sigma_y=(0.2, 0.8)),
            T.RandGaussianSmoothd("image", prob=0.4, sigma_x=(0.4, 1.6), sigma_y=(0.4, 1.6)),
            T.RandGaussianNoised("image", prob=0.7, std=0.05),
            T.RandScaleIntensityd("image", factors=(-0.15, 0.12), prob=1.0),
            T.SelectItemsd(keys),  # without the record of what was done
        ]
    )


def monai(cache: Cache, a: argparse.Namespace) -> float:
    from monai.data import CacheDataset

    size = PATCH["axial"]
    top, left = 105 - size[0] // 2, 98 - size[1] // 2
    rng = np.random.default_rng(0)
    items = []
    for _ in range((a.warm + a.steps) * a.batch):
        n, z = int(rng.integers(len(cache))), int(rng.integers(3, 156))
        where = (n, z, slice(top, top + size[0]), slice(left, left + size[1]))
        items.append(
            {
                "image": np.asarray(cache.images[where])[None] / np.float32(255),
                "mask": np.asarray(cache.masks[where])[None].astype(np.float32),
            }
        )
    dataset = CacheDataset(items, monai_transforms(size), cache_rate=1.0, progress=False)
    loader = DataLoader(
        dataset,
        batch_size=a.batch,
        num_workers=a.workers,
        pin_memory=a.device.type == "cuda",
        drop_last=True,
    )
    return through_lightning(module_of(ReadyModule, a), loader, a)


def network_alone(a: argparse.Namespace) -> float:
    module = module_of(LesionModule, a).to(a.device)
    network, layout = module._forward[0], module.layout
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=1e-3)
    shape = (a.batch, *PATCH["axial"])
    g = Generator().manual_seed(0)
    channels = int(a.network.get("in_channels", 1))
    x = torch.rand((shape[0], channels, *shape[1:]), generator=g).to(a.device)
    x = x.contiguous(memory_format=layout)
    mask = (torch.rand((shape[0], 1, *shape[1:]), generator=g) < 0.02).float().to(a.device)
    lower = a.precision == "bf16-mixed"
    started = 0.0
    for step in range(a.warm + a.steps):
        if step == a.warm:
            synchronize(a.device)
            started = time.perf_counter()
        with torch.autocast(a.device.type, torch.bfloat16, enabled=lower):
            logits = network(x)
        logits = logits.float()
        loss = module.region_loss(logits, mask)
        loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.network.parameters(), 1.0)
        optimizer.step()
    synchronize(a.device)
    return a.steps * a.batch / (time.perf_counter() - started)


def markdown(result: dict[str, Any]) -> str:
    rates = result["images_per_second"]
    lines = [
        f"{result['device']}, {result['threads']} threads, {result['workers']} workers for MONAI, "
        f"torch {result['torch']}, {result['precision']}, batches of {result['batch']} axial "
        f"patches of {' x '.join(map(str, result['patch']))}, {result['steps']} steps.",
        "",
        "| pipeline | images per second | of the network alone | times MONAI |",
        "|---|---|---|---|",
    ]
    for name, rate in rates.items():
        alone, other = rate / rates["network"], rate / rates["MONAI"]
        lines.append(f"| {name} | {rate:.1f} | {alone:.0%} | {other:.2f} |")
    return "\n".join(lines) + "\n"


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    from measuring import cpu_name

    return cpu_name()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, help="of stroketrain prepare; default random bytes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--network", type=json.loads, default=SPEC, help="spec as JSON")
    parser.add_argument("--precision", default="bf16-mixed", choices=("bf16-mixed", "32-true"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--scans", type=int, default=8, help="random ones, without --cache")
    parser.add_argument("--steps", type=int, help="timed; default 200 on a GPU, 10 on a CPU")
    parser.add_argument("--warm", type=int, default=3, help="steps before the clock starts")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of MONAI's loader")
    parser.add_argument("--compile", action="store_true", help="torch.compile in all three")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    a = parser.parse_args(argv)
    a.device = torch.device(a.device)
    a.steps = a.steps or (200 if a.device.type == "cuda" else 10)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache.open(a.cache) if a.cache else random_cache(Path(folder), a.scans)
        rates = {"ours": ours(cache, a), "MONAI": monai(cache, a), "network": network_alone(a)}
    result = {
        "images_per_second": {name: round(rate, 2) for name, rate in rates.items()},
        "ours_of_network": round(rates["ours"] / rates["network"], 3),
        "ours_times_monai": round(rates["ours"] / rates["MONAI"], 3),
        "device": device_name(a.device),
        "threads": torch.get_num_threads(),
        "workers": a.workers,
        "torch": str(torch.__version__).split("+")[0],
        "precision": a.precision,
        "compiled": a.compile,
        "batch": a.batch,
        "patch": list(PATCH["axial"]),
        "steps": a.steps,
        "network": a.network,
    }
    text = markdown(result)
    print(text)
    if a.json:
        a.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if a.markdown:
        a.markdown.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

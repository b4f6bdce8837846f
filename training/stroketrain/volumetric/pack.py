"""All that training needs in one file below 60 MiB, for a machine that is lent for minutes.

A zip with the heads at 2 mm in 64 grey levels (most are scans of 2 mm, and the simulated scanner
adds more noise than the rounding), ventricles and lesion masks as bits, and the weights to start
from in float16. Unpacked, it is a folder of prepared heads like any other.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import atomic_output
from StrokeLesionSegLib.learning.checkpoint import mean_weights
from StrokeLesionSegLib.models.safetensors_io import read_safetensors, write_safetensors
from StrokeLesionSegLib.outputs import write_json_object
from StrokeLesionSegLib.pipeline import sha256_of

from ..made_of import RECORD, keep_made_of
from .heads import HeadFolder

_LEVELS = 63
_START = "start.safetensors"


def write_pack(heads: HeadFolder, weights: Path, out: Path) -> int:
    """Pack the part "train" of ``heads`` and ``weights``, a run's folder or a safetensors file.

    Returns the size in bytes. Raises ``InputError`` for weights that cannot be read, and for heads
    with strokes of their own, which the pack has no room for.
    """
    names = heads.names("train")
    with atomic_output(out) as scratch, zipfile.ZipFile(scratch, "w", zipfile.ZIP_LZMA) as pack:
        for name in names:
            head = heads.head(name)
            if head.lesions is not None:
                raise InputError(
                    heads.path,
                    f"{name} has strokes, which a pack cannot hold",
                    "Copy the folder instead",
                )
            small = _halved(head.image)
            pack.writestr(f"heads/{name}.npy", _bytes_of(small))
            fluid = _halved(head.ventricles.astype(np.uint8) * 255) > _LEVELS // 2
            pack.writestr(f"ventricles/{name}.npy", _bytes_of(np.packbits(fluid)))
        with np.load(heads.path / "masks-train.npz", allow_pickle=False) as masks:
            for key in masks.files:
                pack.writestr(f"masks/{key}.npy", _bytes_of(masks[key]))
        pack.writestr("split.json", json.dumps({"train": names, "validation": []}))
        start = scratch.with_name("start.part")
        state = mean_weights(weights) if weights.is_dir() else read_safetensors(weights)
        write_safetensors(start, {n: t.to(torch.float16) for n, t in state.items()})
        pack.write(start, _START)
        start.unlink()
    return out.stat().st_size


def unpack(pack: Path, folder: Path) -> tuple[HeadFolder, Path]:
    """Make a folder of prepared heads out of a pack; also the weights to start from.

    What was unpacked before is kept. Raises ``InputError`` for a file that is no pack, and for a
    folder with the heads of another one.
    """
    unpacked = (folder / "split.json").is_file()
    asked = {"pack": sha256_of(pack)}
    keep_made_of(folder / RECORD, asked, holds="the heads of another file", there=unpacked)
    if not unpacked:
        try:
            with zipfile.ZipFile(pack) as z:
                _unpack(z, folder)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(pack, f"is not a pack of heads ({error})", "Make one with stroketrain "
                             "pack") from error  # fmt: skip
    return HeadFolder(folder), folder / _START


def _unpack(z: zipfile.ZipFile, folder: Path) -> None:
    split = json.loads(z.read("split.json"))
    (folder / "heads").mkdir(parents=True, exist_ok=True)
    for name in split["train"]:
        if Path(name).name != name:
            raise ValueError(f"{name!r} is no name of a head")
        small = _array(z, f"heads/{name}.npy")
        bits = np.unpackbits(_array(z, f"ventricles/{name}.npy"), count=small.size)
        np.savez(
            folder / "heads" / f"{name}.npz",
            image=_doubled(small.astype(np.float32) * (255 / _LEVELS)),
            ventricles=np.packbits(_doubled(bits.reshape(small.shape) * np.float32(255)) > 127),
            coarse=True,
        )
    masks = {Path(n).stem: _array(z, n) for n in z.namelist() if n.startswith("masks/")}
    np.savez(folder / "masks-train.npz", **masks)  # type: ignore[arg-type]
    (folder / _START).write_bytes(z.read(_START))
    # Last: it says that all the rest is there.
    write_json_object(folder / "split.json", split)


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of 2 x 2 x 2 voxels in 64 levels."""
    k, j, i = (n // 2 for n in image.shape)
    mean = image.reshape(k, 2, j, 2, i, 2).mean(axis=(1, 3, 5), dtype=np.float32)
    return np.round(mean * (_LEVELS / 255)).astype(np.uint8)


def _doubled(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Twice as fine along each axis, linear, the same corner."""
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], scale_factor=2, mode="trilinear", align_corners=False
    )
    return fine[0, 0].round().clamp(0, 255).to(torch.uint8).numpy()


def _bytes_of(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _array(z: zipfile.ZipFile, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(z.read(name)), allow_pickle=False)
    return array

"""A folder of prepared heads for tests: the template is its only person."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from StrokeLesionSegLib.images.space.template import template_head, upsample_linear
from StrokeLesionSegLib.inference.head_box import HEAD_BOX, HEAD_SHAPE
from StrokeLesionSegLib.learning.strokes.shapes import MaskBank
from stroketrain.volumetric.heads import HeadFolder


def head_folder(path: Path) -> HeadFolder:
    """As ``prepare_heads`` makes it, in ``path``, with a ball of 24 mL as its only mask."""
    (path / "heads").mkdir()
    image = upsample_linear(template_head().array)[HEAD_BOX].round().astype(np.uint8)
    ventricles = np.packbits(np.zeros(HEAD_SHAPE, bool))
    np.savez(path / "heads" / "one.npz", image=image, ventricles=ventricles, coarse=True)
    k, j, i = np.ogrid[:160, :192, :160]
    bank = MaskBank.of([(k - 90) ** 2 + (j - 100) ** 2 + (i - 45) ** 2 < 18**2])
    for part in ("train", "validation"):
        np.savez(
            path / f"masks-{part}.npz",
            starts=bank.starts, shapes=bank.shapes, offsets=bank.offsets, bits=bank.bits,
        )  # fmt: skip
    (path / "split.json").write_text(json.dumps({"train": ["one"], "validation": ["one"]}))
    return HeadFolder(path)

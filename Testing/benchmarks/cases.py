"""What the side-by-side compares: names, titles, how often each runs."""

from __future__ import annotations

from dataclasses import dataclass

#: What all ratios are to: axial slices, cropped to the brain, bfloat16.
REFERENCE = "ours axial bfloat16"
#: The same on a GPU, which computes in float16 by itself.
REFERENCE_GPU = "ours axial float16"
#: The same in float32: not every CPU has bfloat16.
REFERENCE32 = "ours axial float32"


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes
    ----------
    name: in the results' file. title: in the table. arguments: of ``our_case.py`` or
    ``peer_case.py``. peer: runs in the peers' environment. most: rounds at most. gpu: only there.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    peer: bool = False
    most: int = 99
    gpu: bool = False


def _ours() -> list[Case]:
    cases = []
    for crop in (True, False):
        for precision in ("bfloat16", "float32", "float16"):
            for views, tta in (("axial", False), ("triplanar", False), ("triplanar", True)):
                words = [views + (" with flips" if tta else "")]
                name = ["ours", views + ("-flips" if tta else ""), precision]
                arguments = ["--views", views, "--precision", precision]
                if tta:
                    arguments.append("--tta")
                if crop:
                    words.append("brain box")
                else:
                    words.append("whole volume")
                    name.append("full")
                    arguments.append("--full")
                title = f"**ours**, {', '.join(words)}"
                gpu = precision == "float16"
                if crop or not gpu:
                    cases.append(Case(" ".join(name), title, tuple(arguments), gpu=gpu))
    return cases


PEERS = [
    Case("nnunet-2d", "nnU-Net v2 2d, without flips", ("nnunet-2d",), True, 3),
    Case("nnunet-2d-flips", "nnU-Net v2 2d", ("nnunet-2d-flips",), True, 2),
    Case("nnunet-3d", "nnU-Net v2 3d_fullres, without flips", ("nnunet-3d",), True, 2),
    Case("monai-2d", "MONAI 2D residual UNet (16 to 256), SliceInferer", ("monai-2d",), True),
    Case("monai-2d-plain", "MONAI 2D UNet (16 to 256), SliceInferer", ("monai-2d-plain",), True),
    Case(
        "monai-2d-cropped",
        "MONAI 2D residual UNet (16 to 256), SliceInferer, foreground box",
        ("monai-2d-cropped",),
        True,
    ),
    Case(
        "monai-2d-wide",
        "MONAI 2D residual UNet (32 to 512), SliceInferer",
        ("monai-2d-wide",),
        True,
    ),
    Case("monai-3d", "MONAI 3D residual UNet (16 to 256), sliding window", ("monai-3d",), True, 3),
    Case(
        "monai-3d-wide",
        "MONAI 3D residual UNet (32 to 512), sliding window",
        ("monai-3d-wide",),
        True,
        2,
    ),
    Case("nnunet-3d-flips", "nnU-Net v2 3d_fullres", ("nnunet-3d-flips",), True, 1),
]
CASES = [*_ours(), *PEERS]

# The bars: (slower, faster, how many times at least).
BARS = [
    ("nnunet-3d-flips", REFERENCE, 80.0),
    ("nnunet-3d", REFERENCE, 10.0),
    ("nnunet-2d", REFERENCE, 2.0),
    ("monai-2d", REFERENCE, 1.0),
    ("monai-2d-plain", REFERENCE, 1.0),
    ("monai-2d-wide", REFERENCE, 1.0),
    ("nnunet-3d", "ours triplanar-flips bfloat16", 1.0),
]

# What was asked of `segment` itself: file to file in s, on two cores, start-up included.
FILE_TO_FILE = (("axial", "without alignment", 8.0), ("axial, aligned", "with alignment", 12.0))
# Axial network, as a share of the best matrix product of its number format, at least.
SHARE_OF_PEAK = 0.70
# File to file beside a program that holds one of two cores, times that on one core, at most.
CONTENDED = 1.2

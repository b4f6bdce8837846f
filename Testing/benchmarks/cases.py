"""What the side-by-side compares: names, titles, how often each runs."""

from __future__ import annotations

from dataclasses import dataclass

#: What all ratios are to: the model that ships, in bfloat16.
REFERENCE = "ours bfloat16"
#: The same on a GPU, which computes in float16 by itself.
REFERENCE_GPU = "ours float16"
#: The same in float32: not every CPU has bfloat16.
REFERENCE32 = "ours float32"


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
    """The model that ships, and a 2D model as users train it (``Testing/trained_2d``)."""
    cases = []
    for precision in ("bfloat16", "float32", "float16"):
        gpu = precision == "float16"
        for name, title, arguments in (
            ("ours", "**ours**, volumetric", ()),
            ("ours tta", "**ours**, volumetric, shifted too", ("--tta",)),
            ("ours 2d", "**ours**, 2D slices, brain box", ("--slices",)),
        ):
            options = (*arguments, "--precision", precision)
            cases.append(Case(f"{name} {precision}", title, options, gpu=gpu))
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

#: What is compared: (slower, faster, how many times at least).
BARS = [(peer.name, REFERENCE, 1.0) for peer in PEERS]

#: What was asked of `segment` itself: file to file in s, on two cores, start-up included.
FILE_TO_FILE = (("in MNI space", "without alignment", 2.2), ("aligned", "with alignment", 3.4))
# File to file beside a program that holds one of two cores, times that on one core, at most.
CONTENDED = 1.2

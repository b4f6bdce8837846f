"""What goes into the volumetric network, and what comes out of it, on the head box."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..boxes import Box, extents, whole_box
from ..brief import brief_repr
from ..once import once
from .click_stamp import stamp
from .head_box import HEAD_BOX, INNER_SHAPE, at_1_mm

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@once
def template_channel() -> NDArray[np.float32]:
    """The template's head at 2 mm on the head box: (80, 96, 80) in [0, 1]; read-only.

    Raises ``FileNotFoundError`` if the installation lacks the template.
    """
    from ..images.space.template import template_head, upsample_linear

    fine = upsample_linear(template_head().array)[HEAD_BOX] / np.float32(255)
    k, j, i = INNER_SHAPE
    out = fine.reshape(k, 2, j, 2, i, 2).mean(axis=(1, 3, 5))
    out.setflags(write=False)
    return out


@dataclass(frozen=True, eq=False)
class HeadAnswer:
    """``lesion``, ``ventricle``: probabilities, (160, 192, 160) float32."""

    lesion: NDArray[np.float32]
    ventricle: NDArray[np.float32]

    __repr__ = brief_repr


def head_channels(
    image: Tensor,
    mirror: bool = True,
    flipped: bool = False,
    *,
    empty: int = 0,
    dtype: torch.dtype | None = None,
    within: Box | None = None,
) -> Tensor:
    """(1, 17 + ``empty``, 80, 96, 80): scan, mirrored scan, template, of a (160, 192, 160) image in
    [0, 1], and so many channels of 0; channels last.

    ``mirror``: False leaves the mirrored scan 0. ``flipped``: the mirrored scan takes the scan's
    place and the reverse, for a second pass whose answer is flipped back. ``dtype``: float32 unless
    given. ``within``: (k, j, i) slices of that array, if no more of it is wanted.
    """
    import torch

    from ..networks.volumetric import unshuffle

    within = within or whole_box(INNER_SHAPE)
    k, j, i = at_1_mm(within)
    out = torch.empty(
        (1, 17 + empty, *extents(within)),
        dtype=dtype or torch.float32,
        memory_format=torch.channels_last_3d,
    )
    # One after the other and in the number format that is wanted, so that little is held beside.
    image = image[k, j].to(out.dtype)
    for n, other in enumerate((flipped, not flipped)):
        part = out[:, 8 * n : 8 * n + 8]
        if n == 1 and not mirror:
            part.zero_()
            continue
        shown = torch.roll(image.flip(-1), 1, -1) if other else image
        part.copy_(unshuffle(shown[None, None, ..., i]))
    out[:, 16] = torch.from_numpy(template_channel()[within].copy())
    out[:, 17:].zero_()
    return out


def takes_clicks(network: nn.Module) -> bool:
    """Whether it is a volumetric network with channels for clicks and the previous answer."""
    from ..networks.volumetric import CHANNELS, VolumetricUNet

    return isinstance(network, VolumetricUNet) and network.in_channels == CHANNELS


def with_clicks(
    scan: Tensor, clicks: Iterable[tuple[tuple[int, int, int], bool]], previous: Tensor
) -> Tensor:
    """(1, 27, K, J, I): all that goes into the network, channels last.

    ``scan``: (1, 17, K, J, I), what ``head_channels`` gives or a box of it. ``clicks``: place k, j,
    i in it and whether lesion is there. ``previous``: (2 K, 2 J, 2 I), what was answered before.
    """
    import torch

    from ..networks.volumetric import unshuffle

    shape = tuple(scan.shape[2:])
    marks = np.zeros((2, *shape), np.float32)
    for place, lesion in clicks:
        stamp(marks[0 if lesion else 1], place)
    full = torch.empty((1, 27, *shape), memory_format=torch.channels_last_3d)
    full[:, :17] = scan
    full[0, 17:19] = torch.from_numpy(marks)
    full[:, 19:] = unshuffle(previous[None, None])
    return full


def answer_head(
    network: nn.Module,
    image: NDArray[np.float32],
    *,
    mirrored_pass: bool = False,
    bfloat16: bool = False,
) -> HeadAnswer:
    """Probabilities of a whole head without clicks.

    ``image``: (160, 192, 160) float32 in [0, 1]. ``mirrored_pass``: the mean with the answer to
    the mirrored head. ``bfloat16``: in that number format, on the CPU.
    """
    import torch

    from ..networks.volumetric import shuffle

    x = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    answers = []
    for flipped in (False, True) if mirrored_pass else (False,):
        full = head_channels(x, flipped=flipped, empty=10)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            z = network(full)
        p = shuffle(torch.sigmoid(z.float()))[0]
        answers.append(torch.roll(p.flip(-1), 1, -1) if flipped else p)
    mean = torch.stack(answers).mean(0).numpy() if len(answers) > 1 else answers[0].numpy()
    return HeadAnswer(mean[0], mean[1])

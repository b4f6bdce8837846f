"""A teacher's answer counts where it is right, and nowhere else."""

from __future__ import annotations

import numpy as np
import torch
from StrokeLesionSegLib.inference.head_box import HEAD_SHAPE
from StrokeLesionSegLib.learning.step import StepOptions, make_batch, make_step, voxel_weight
from StrokeLesionSegLib.learning.strokes.anatomy import Anatomy
from torch import Tensor, nn


class Says(nn.Module):
    """The same logit everywhere, for lesion and ventricle; trainable."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(1, 16, *x.shape[2:])


def _pull(student: float, teacher: float | None, lesions: Tensor) -> float:
    """The derivative of the loss by the student's logit."""
    image = torch.full(HEAD_SHAPE, 0.5)
    weight = voxel_weight(Anatomy.of_template().brain)
    batch = make_batch(image, lesions, lesions & False, torch.zeros(1, 1, 80, 96, 80), weight)
    network = Says(student)
    torch.manual_seed(0)
    loss, _ = make_step(
        network, network, batch, StepOptions(guided=0.0), np.random.default_rng(0),
        teacher=None if teacher is None else Says(teacher),
    )  # fmt: skip
    loss.backward()
    assert network.value.grad is not None
    return float(network.value.grad)


def test_a_teacher_that_is_right_pulls_and_one_that_agrees_does_not() -> None:
    none = torch.zeros(HEAD_SHAPE, dtype=torch.bool)
    alone = _pull(-1.0, None, none)
    # Right and surer than the student: towards its answer, downwards.
    assert _pull(-1.0, -4.0, none) > alone + 0.1
    assert abs(_pull(-1.0, -1.0, none) - alone) < 1e-4


def test_a_teacher_that_is_wrong_says_nothing() -> None:
    none = torch.zeros(HEAD_SHAPE, dtype=torch.bool)
    assert _pull(-1.0, 3.0, none) == _pull(-1.0, None, none)
    everywhere = ~none
    assert _pull(1.0, -3.0, everywhere) == _pull(1.0, None, everywhere)

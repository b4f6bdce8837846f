"""A small perceptron that weighs the clues around clicks: how far a click speaks, learned.

It was trained on robot users who clicked through simulated scans (``stroketrain clicks``), and
corrects what distance and tissue say by themselves (``spread.py``).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clues import CLUES, REACH_MM

WEIGHTS = Path(__file__).with_name("judge.safetensors")
#: How much of what clicks say of their surroundings counts where the network has answered them.
IN_ANSWERS = 0.5
#: Over the last mm of its reach it falls silent.
FADE_MM = 10.0
#: Clues count for at most so many standard deviations.
FURTHEST = 4.0


def before_judging(clues: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, J, I) log odds by model, network's answers and ``spread.py`` alone, of the clues."""
    said = dict(zip(CLUES, clues, strict=True))
    answer = said["answer"] + np.float32(IN_ANSWERS) * said["spread"]
    return np.where(said["answered"] > 0, answer, said["model"] + said["spread"])


def scaled(clues: Any, mean: Any, scale: Any) -> Any:
    """Clues, arrays or tensors, as the perceptron takes them: no further out than it has seen."""
    return ((clues - mean) / scale).clip(-FURTHEST, FURTHEST)


class Judge:
    """Three layers with rectified linear units between them, of clues scaled to unit variance.

    ``tensors``: "mean" and "scale" (n,), and for each layer 1 to 3 "weight" (outputs, inputs) and
    "bias" (outputs,), float32. Raises ``ValueError`` for shapes that do not fit ``CLUES``.
    """

    def __init__(self, tensors: dict[str, NDArray[np.float32]]) -> None:
        inputs = len(CLUES)
        self._mean, self._scale = tensors["mean"][:, None], tensors["scale"][:, None]
        self._layers = []
        for number in (1, 2, 3):
            weight, bias = tensors[f"weight{number}"], tensors[f"bias{number}"]
            if weight.shape != (len(bias), inputs):
                raise ValueError(f"layer {number} is {weight.shape} for {inputs} inputs")
            self._layers.append((np.ascontiguousarray(weight), bias[:, None]))
            inputs = len(bias)
        if inputs != 1:
            raise ValueError(f"{inputs} outputs where one is wanted")

    @classmethod
    @lru_cache(maxsize=1)
    def shipped(cls) -> Judge:
        """The one that comes with the extension."""
        from ..models.safetensors_io import read_safetensors

        return cls({name: tensor.numpy() for name, tensor in read_safetensors(WEIGHTS).items()})

    def odds(
        self,
        clues: NDArray[np.float32],
        distance: NDArray[np.float32],
        where: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """(K, J, I) log odds of lesion, of what ``clues.clues`` gives; judged only ``where``."""
        result = before_judging(clues)
        near = distance < REACH_MM
        if where is not None:
            near &= where
        x = scaled(clues[:, near], self._mean, self._scale)
        for number, (weight, bias) in enumerate(self._layers):
            x = weight @ x + bias
            if number < len(self._layers) - 1:
                np.maximum(x, 0, out=x)
        fade = np.minimum((REACH_MM - distance[near]) / np.float32(FADE_MM), 1)
        result[near] += fade * x[0]
        return result

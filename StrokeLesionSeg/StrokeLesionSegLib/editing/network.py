"""The prepared network, called with a few planes at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..inference.device import torch_threads
from ..inference.prepare import PreparedNetwork, on_cpu, running
from ..models.channels import GUIDANCE, T1


class SliceNetwork:
    """Runs planes through a prepared network and remembers how long one takes.

    Attributes
    ----------
    prepared: the network; moves to the CPU if a GPU runs out of memory, with a sentence in
        ``warnings``.
    takes_clicks: whether it has all of the channels in ``GUIDANCE``.
    seconds: of one plane, a running mean; 0 before the first.
    calls: how often the network was called. threads: of the CPU.
    """

    def __init__(self, prepared: PreparedNetwork, threads: int) -> None:
        self.prepared = prepared
        self.warnings: list[str] = list(prepared.warnings)
        self.seconds = 0.0
        self.calls = 0
        self.threads = threads

    @property
    def takes_clicks(self) -> bool:
        return all(name in self.prepared.channels for name in GUIDANCE)

    def __call__(
        self,
        t1: NDArray[np.float32],
        guidance: dict[str, NDArray[np.float32]] | None = None,
        flips: Sequence[int] = (),
    ) -> NDArray[np.float32]:
        """Probabilities (N, H, W) float32 of planes ``t1`` (N, H, W) in [0, 1].

        ``guidance``: further channels by name, of the same shape; those that are not given are
        zeros. ``flips``: 0 for rows, 1 for columns, mirrored before and after.
        """
        started = time.perf_counter()
        try:
            values = self._run(t1, guidance or {}, flips)
        except (MemoryError, RuntimeError):
            if not self.prepared.device.is_gpu:
                raise
            # Whatever a GPU fails of (another program took its memory), the CPU can go on.
            self.warnings.append("The GPU could not go on; the CPU takes over, which is slower.")
            self.prepared = on_cpu(self.prepared)
            values = self._run(t1, guidance or {}, flips)
        each = (time.perf_counter() - started) / len(t1)
        self.seconds = each if not self.calls else 0.7 * self.seconds + 0.3 * each
        self.calls += 1
        return values

    def _run(
        self,
        t1: NDArray[np.float32],
        guidance: dict[str, NDArray[np.float32]],
        flips: Sequence[int],
    ) -> NDArray[np.float32]:
        import torch

        prepared = self.prepared
        axes = [1 + flip for flip in flips]
        with torch_threads(self.threads), running():
            batch = prepared.empty_batch(len(t1), *t1.shape[1:])
            for name, planes in {T1: t1, **guidance}.items():
                planes = np.ascontiguousarray(np.flip(planes, axes) if axes else planes)
                batch[:, prepared.channels.index(name)].copy_(torch.from_numpy(planes))
            values = prepared.probability(batch).numpy()
        return np.ascontiguousarray(np.flip(values, axes)) if axes else values

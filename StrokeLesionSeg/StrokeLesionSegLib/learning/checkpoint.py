"""The state of a run on disk: whole at any moment, resumed bit for bit but for the simulator.

``state.safetensors`` has the weights, their running mean and the optimiser's moments;
``state.json`` step, options and the log. Both are written beside their place and renamed, the JSON
last: it names the file that it belongs to, so that a stop in between costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.safetensors_io import read_safetensors, write_safetensors
from ..outputs import atomic_file, os_input_error

STATE = "state.json"
T = TypeVar("T")


@dataclass
class TrainingProgress:
    """``step``: steps done. ``seconds``: spent training, over all sittings. ``log``: one dict for
    each report."""

    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)


def save_run(
    folder: Path,
    network: nn.Module,
    mean: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: TrainingProgress,
    options: dict[str, Any],
) -> None:
    """Write the state of a run to ``folder``.

    Raises ``InputError`` if it cannot be written; the state before is still there then.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        tensors[f"network.{name}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value).detach()
    for name, parameter in mean.named_parameters():
        tensors[f"mean.{name}"] = parameter.detach()
    target = folder / f"state-{progress.step:07d}.safetensors"
    record = {
        "weights": target.name,
        "step": progress.step,
        "seconds": round(progress.seconds, 1),
        "options": options,
        "log": progress.log,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_safetensors(target, tensors)
        with atomic_file(folder / STATE) as part:
            part.write_text(json.dumps(record, indent=1), encoding="utf-8")
        for old in folder.glob("state-*.safetensors"):
            if old != target:
                old.unlink()
    except OSError as error:
        raise os_input_error(error, folder) from error


def load_run(
    folder: Path,
    network: nn.Module,
    mean: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
) -> TrainingProgress | None:
    """Fill network, mean and optimiser from ``folder``; None if no run was saved there.

    Raises ``InputError`` for a state that is damaged or of another network.
    """
    if not (folder / STATE).is_file():
        return None
    try:
        record, tensors = take_saved(folder, read_safetensors)
        for prefix, module in (("network", network), ("mean", mean)):
            start = f"{prefix}."
            module.load_state_dict(
                {n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}
            )
        if optimizer is not None:
            _fill_optimizer(network, optimizer, tensors)
        return TrainingProgress(record["step"], record["seconds"], record["log"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, InputError) as error:
        cause = error.cause if isinstance(error, InputError) else error
        raise InputError(
            folder, f"the saved run cannot be read ({cause})", "Start in another folder"
        ) from error


def take_saved(folder: Path, take: Callable[[Path], T]) -> tuple[dict[str, Any], T]:
    """What ``state.json`` says, and what ``take`` makes of the file that it names.

    A run that goes on meanwhile may have put another state into the place of that one: then the
    other one is taken. Raises what ``take`` and a state that is none raise.
    """

    def said() -> dict[str, Any]:
        record: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return record

    record = said()
    while True:
        try:
            return record, take(folder / record["weights"])
        except (OSError, InputError):
            now = said()
            if now["weights"] == record["weights"]:
                raise
            record = now


def mean_weights(folder: Path) -> dict[str, Tensor]:
    """The running mean of the weights that a run has saved.

    Raises ``InputError`` where no run is saved.
    """
    try:
        _, tensors = take_saved(folder, read_safetensors)
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        cause = error.cause if isinstance(error, InputError) else error
        raise InputError(
            folder, f"has no saved run ({cause})", "Train one with stroketrain fit"
        ) from error
    return {n[len("mean.") :]: t for n, t in tensors.items() if n.startswith("mean.")}


def save_mean(folder: Path) -> Path:
    """Write the mean weights of a run to ``mean.safetensors`` in it, float16: what is sent home.

    Raises ``InputError`` where no run is saved.
    """
    target = folder / "mean.safetensors"
    write_safetensors(target, {n: t.half() for n, t in mean_weights(folder).items()})
    return target


def _fill_optimizer(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    for name, parameter in network.named_parameters():
        state = {
            # AdamW counts its steps on the CPU wherever the weights are.
            key: tensors[f"optimizer.{key}.{name}"].to("cpu" if key == "step" else parameter.device)
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"optimizer.{key}.{name}" in tensors
        }
        if state:
            optimizer.state[parameter] = state

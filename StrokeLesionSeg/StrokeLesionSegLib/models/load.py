"""From a model's directory to a network that is ready to predict; every byte verified first."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..brief import counted
from ..errors import InputError
from .manifest import MANIFEST_NAME, Manifest
from .safetensors_io import parse_header, parse_safetensors, read_bytes
from .store import find_model, is_shipped

if TYPE_CHECKING:
    import torch

# Batch normalisation counts its training steps; prediction never looks, so files may leave it out.
IGNORABLE = "num_batches_tracked"


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes
    ----------
    manifest: the model's manifest, ``manifest.directory`` set.
    network: float32, CPU, evaluation mode, no gradients; input (N, len(channels), H, W), output
        logits (N, 1, H, W). Of a model of several networks the first; ``load_network`` reads the
        others.
    directory: where it was loaded from.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import load_model
    >>> model = load_model()
    >>> model.network.training, model.directory == model.manifest.directory
    (False, True)
    """

    manifest: Manifest
    network: torch.nn.Module
    directory: Path


def _remedy(directory: Path) -> str:
    if is_shipped(directory):
        return "Reinstall StrokeLesionSeg"
    return "Install the model again with 'stroke-lesion-seg models install FILE'"


def read_verified_weights(manifest: Manifest, number: int = 0) -> bytes:
    """The bytes of a weights file, once size and SHA-256 agree with the manifest.

    ``number``: of the network, in a model of several.

    Raises ``InputError`` naming the file if they do not, or if it cannot be read.
    """
    promised = manifest.weight_files[number]
    path = manifest.weights_path.with_name(promised["file"])
    remedy = _remedy(path.parent)
    if path.is_symlink() and not is_shipped(path.parent):
        raise InputError(path, "the weights are a symbolic link", remedy)
    data = read_bytes(path)
    if len(data) != promised["bytes"]:
        cause = f"the weights have {len(data)} bytes, not the {promised['bytes']} promised"
        raise InputError(path, f"{cause}: cut short or tampered with", remedy)
    # The same bytes that are hashed here are parsed later: nobody can swap the file in between.
    if not hmac.compare_digest(hashlib.sha256(data).hexdigest(), promised["sha256"]):
        raise InputError(
            path,
            "the SHA-256 of the weights is not what the manifest says: damaged or tampered with",
            remedy,
        )
    return data


def expected_shapes(spec: Mapping[str, Any], where: str | os.PathLike[str]) -> Any:
    """The network of ``spec`` on torch's meta device: all names and shapes, no memory.

    Raises ``InputError`` naming ``where`` if the specification builds no network.
    """
    import torch

    from ..networks import build_network

    try:
        with torch.device("meta"):
            return build_network(spec)
    # A hostile specification may fail in any way inside torch; all of them are the file's fault.
    except Exception as error:
        raise InputError(
            where,
            f"the manifest's network cannot be built ({error})",
            "Get the model from its publisher again, or update StrokeLesionSeg",
        ) from error


def check_tensors(network: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What is wrong with tensors of these names and shapes for ``network``; None if nothing."""
    wanted = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    missing = [n for n in wanted if n not in shapes and not n.endswith(IGNORABLE)]
    surplus = [n for n in shapes if n not in wanted]
    if missing:
        return f"{counted(len(missing), 'tensor')} missing, for example {missing[0]}"
    if surplus:
        return f"{counted(len(surplus), 'tensor')} of no part of it, for example {surplus[0]}"
    for name, shape in shapes.items():
        if shape != wanted[name]:
            return f"tensor {name} has shape {shape}, the network wants {wanted[name]}"
    return None


def load_directory(directory: str | os.PathLike[str]) -> LoadedModel:
    """Load the model in ``directory``; raises ``InputError`` as ``load_model`` does."""
    directory = Path(directory)
    manifest = Manifest.from_file(directory)
    return LoadedModel(manifest, load_network(manifest), directory)


def load_network(manifest: Manifest, number: int = 0) -> torch.nn.Module:
    """A network of a model on disk, by its number in ``Manifest.weight_files``, ready to predict.

    Raises ``InputError`` as ``load_model`` does.
    """
    import torch

    path = manifest.weights_path.with_name(manifest.weight_files[number]["file"])
    directory = path.parent
    remedy = _remedy(directory)
    data = read_verified_weights(manifest, number)
    network = expected_shapes(manifest.network, directory / MANIFEST_NAME)
    try:
        entries, _, _ = parse_header(data)
        fault = check_tensors(network, {name: e.shape for name, e in entries.items()})
        if fault:
            raise ValueError(fault)
        tensors = parse_safetensors(data)
    except ValueError as error:
        raise InputError(path, f"the weights do not fit: {error}", remedy) from None
    state = {}
    for name, reference in network.state_dict().items():
        tensor = tensors.get(name)
        if tensor is None:
            tensor = torch.zeros(reference.shape, dtype=reference.dtype)
        elif reference.is_floating_point():
            tensor = tensor.to(torch.float32)
            if not torch.isfinite(tensor).all():
                raise InputError(path, f"tensor {name} has values that are not finite", remedy)
        state[name] = tensor.to(reference.dtype)
    network.load_state_dict(state, strict=True, assign=True)
    if any(t.is_meta for t in (*network.parameters(), *network.buffers())):
        # The network keeps tensors outside its state, so it has to be built with real memory.
        from ..networks import build_network

        network = build_network(manifest.network)
        network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def load_model(name: str | os.PathLike[str] | None = None) -> LoadedModel:
    """Load a model by name (or directory), the default one for None, its checksum verified.

    Weights stored as float16 or bfloat16 come back as float32. Takes no random numbers.

    Raises ``InputError`` naming file, cause and remedy: unknown model, unusable manifest, weights
    missing, damaged or tampered with, tensors that do not fit the network, values not finite.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import load_model
    >>> model = load_model()  # the default model; load_model("NAME") takes another
    >>> next(model.network.parameters()).dtype
    torch.float32
    """
    return load_directory(find_model(name))


def verify_model(name: str | os.PathLike[str] | None = None) -> Manifest:
    """Hash the weights of a model again and check that they fit its network.

    Returns the manifest if all is well; raises ``InputError`` as ``load_model`` does.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import load_model, verify_model
    >>> verify_model() == load_model().manifest
    True
    """
    return verify_directory(find_model(name))


def verify_directory(directory: str | os.PathLike[str]) -> Manifest:
    """``verify_model`` of the model in ``directory``: all its networks, one after the other."""
    manifest = Manifest.from_file(directory)
    for number in range(len(manifest.weight_files)):
        load_network(manifest, number)
    return manifest

"""Writing a model: manifest and weights into a directory, and the directory into a zip."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..outputs import atomic_file
from .load import IGNORABLE, check_tensors, expected_shapes, verify_directory
from .manifest import MANIFEST_NAME, WEIGHT_DTYPES, Manifest
from .safetensors_io import serialize_safetensors

if TYPE_CHECKING:
    import torch

WEIGHTS_NAME = "weights.safetensors"
# Statistics of normalisation layers are a handful of numbers whose range outgrows float16.
_STATISTICS = ("running_mean", "running_var")


def write_model(
    directory: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    dtype: str = "float16",
) -> Manifest:
    """Write ``manifest.json`` and the weights into ``directory``, which is made if needed.

    ``manifest`` is the content of schema 1 without ``weights``, which is filled in here.
    ``state_dict`` is that of the network ``manifest["network"]``; floating tensors are stored as
    ``dtype`` (``float16``, ``bfloat16`` or ``float32``), the running statistics of normalisation
    layers as float32; counters of batch normalisation are left out. The weights are in place
    before the manifest is, so that a reader of an interrupted run sees a wrong checksum and never
    wrong weights.

    Returns the manifest as a reader gets it. Raises ``InputError`` if the manifest makes no
    sense or a file cannot be written, ``ValueError`` if the tensors do not fit the network, are not
    finite or overflow ``dtype``.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import load_model, write_model
    >>> model = load_model()
    >>> content = {**model.manifest.to_dict(), "name": "mine", "version": "1.1", "default": False}
    >>> write_model("mine", content, model.network.state_dict()).weights["dtype"]
    'float16'
    """
    import torch

    if dtype not in WEIGHT_DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(WEIGHT_DTYPES)}, not {dtype!r}")
    stored = {}
    for name, tensor in state_dict.items():
        if name.endswith(IGNORABLE):
            continue
        if tensor.is_floating_point():
            kept = torch.float32 if name.endswith(_STATISTICS) else getattr(torch, dtype)
            tensor = tensor.detach().to("cpu", kept)
            if not torch.isfinite(tensor).all():
                raise ValueError(f"tensor {name} is not finite in {dtype}")
        stored[name] = tensor
    data = serialize_safetensors(stored)
    directory = Path(directory)
    content = dict(manifest)
    content["weights"] = {
        "file": WEIGHTS_NAME,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "dtype": dtype,
    }
    checked = Manifest.from_dict(content, where=directory / MANIFEST_NAME, directory=directory)
    network = expected_shapes(checked.network, directory / MANIFEST_NAME)
    fault = check_tensors(network, {name: tuple(t.shape) for name, t in stored.items()})
    if fault:
        raise ValueError(f"the weights do not fit the manifest's network: {fault}")
    text = json.dumps(checked.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    directory.mkdir(parents=True, exist_ok=True)
    for name, raw in ((WEIGHTS_NAME, data), (MANIFEST_NAME, text.encode("utf-8"))):
        with atomic_file(directory / name) as temporary:
            temporary.write_bytes(raw)
    return Manifest.from_file(directory)


def pack_model(directory: str | os.PathLike[str], zip_path: str | os.PathLike[str]) -> Path:
    """Pack a model's directory into a zip for ``install_model``; returns the zip's path.

    The model is verified first, and the same model always gives the same bytes.

    Raises ``InputError`` if the model is not sound or the zip cannot be written.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import find_model, pack_model
    >>> pack_model(find_model(), "model.zip").name
    'model.zip'
    """
    manifest = verify_directory(directory)
    directory, names = Path(directory), [w["file"] for w in manifest.weight_files]
    zip_path = Path(zip_path)
    with (
        atomic_file(zip_path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in (MANIFEST_NAME, *names):
            # A fixed date and mode, or the same model would give another file every time.
            info = zipfile.ZipInfo(f"{manifest.name}/{name}", (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, (directory / name).read_bytes())
    return zip_path

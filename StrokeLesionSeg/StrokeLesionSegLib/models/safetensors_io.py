"""Reading and writing safetensors files, without the safetensors package.

Slicer's Python gets torch and nothing else, so the few lines that the format needs are our own:
8 bytes little-endian header length, a JSON header ``{name: {dtype, shape, data_offsets}}``, then
the tensors' bytes, contiguous, row-major, little-endian. Everything the header claims is checked
against the file's true size before memory is taken for a tensor. Source of the format: the
"Format" section of https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..outputs import atomic_file
from .manifest import MAX_WEIGHT_BYTES

if TYPE_CHECKING:
    import torch

# dtype code of the format -> (name in torch, numpy type that carries the same bits)
_DTYPES = {
    "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<i2"),
    "F32": ("float32", "<f4"),
    "I64": ("int64", "<i8"),
}
_MAX_HEADER_BYTES = 16 << 20
_MAX_AXES = 8
_REMEDY = "Take the model from its publisher again"


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: dtype code, shape, and byte range within the data section."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice in the header")
    return result


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _parse_entry(name: str, entry: Any) -> TensorEntry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"header entry {name!r} is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"tensor {name!r} has the unsupported type {dtype!r}")
    if not isinstance(shape, list) or len(shape) > _MAX_AXES or not all(map(_whole, shape)):
        raise ValueError(f"tensor {name!r} has an impossible shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_whole, offsets)):
        raise ValueError(f"tensor {name!r} has impossible offsets")
    begin, end = offsets
    # Python integers don't overflow, so the product can be compared as it is.
    size, bound = np.dtype(_DTYPES[dtype][1]).itemsize, 1
    for n in shape:
        size *= n
        bound *= max(n, 1)
    if bound > MAX_WEIGHT_BYTES:
        raise ValueError(f"tensor {name!r} has an impossible shape")
    if end - begin != size:
        raise ValueError(f"tensor {name!r} needs {size} bytes but its offsets span {end - begin}")
    return TensorEntry(dtype, tuple(shape), begin, end)


def parse_header(data: bytes) -> tuple[dict[str, TensorEntry], int, dict[str, str]]:
    """Check the header of a whole file ``data``.

    Returns the entries by name, the offset of the data section in ``data`` and the metadata.
    Raises ``ValueError`` for anything that contradicts the format: header length, JSON, types,
    shapes, offsets that overlap, leave gaps or do not end where the file ends.
    """
    if len(data) < 8:
        raise ValueError("the file is too short for a safetensors header")
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, _MAX_HEADER_BYTES):
        raise ValueError(f"the header claims {length} bytes, more than the file can hold")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the header is not valid ({error})") from None
    if not isinstance(header, dict):
        raise ValueError("the header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("the header's metadata are not text")
    entries = {name: _parse_entry(name, entry) for name, entry in header.items()}
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise ValueError(f"tensor {name!r} overlaps its neighbour or leaves a gap")
        position = entry.end
    if position != len(data) - 8 - length:
        raise ValueError(
            f"the tensors end at {position} of {len(data) - 8 - length} bytes: "
            "the file is cut short or holds something else"
        )
    return entries, 8 + length, metadata


def parse_safetensors(data: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a whole file ``data``, as independent CPU tensors in their stored types.

    Raises ``ValueError`` as ``parse_header`` does.
    """
    import torch

    entries, start, _ = parse_header(data)
    tensors = {}
    for name, entry in entries.items():
        torch_name, numpy_name = _DTYPES[entry.dtype]
        array = np.frombuffer(data[start + entry.begin : start + entry.end], dtype=numpy_name)
        # A copy: torch must own writable memory in the machine's byte order.
        native = array.astype(array.dtype.newbyteorder("="), copy=True).reshape(entry.shape)
        tensor = torch.from_numpy(native)
        dtype = getattr(torch, torch_name)
        tensors[name] = tensor if tensor.dtype == dtype else tensor.view(dtype)
    return tensors


def read_bytes(path: str | os.PathLike[str], limit: int = MAX_WEIGHT_BYTES) -> bytes:
    """The whole file; ``InputError`` if it is missing, unreadable or larger than ``limit``."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > limit:
            raise InputError(path, f"its {size} bytes are more than any model has", _REMEDY)
        with path.open("rb") as stream:
            return stream.read(limit + 1)
    except FileNotFoundError:
        raise InputError(path, "the weights are missing", _REMEDY) from None
    except OSError as error:
        raise InputError(
            path, f"the weights cannot be read ({error.strerror})", "Check their permissions"
        ) from error


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read a safetensors file (F16, BF16, F32, I64) as CPU tensors in their stored types.

    Raises ``InputError`` that names the file if it is missing, unreadable or malformed.
    """
    try:
        return parse_safetensors(read_bytes(path))
    except ValueError as error:
        raise InputError(path, f"is not a valid safetensors file: {error}", _REMEDY) from None


def serialize_safetensors(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a safetensors file; the same tensors always give the same bytes.

    Raises ``ValueError`` for a type other than float16, bfloat16, float32 and int64.
    """
    import torch

    codes = {getattr(torch, name): code for code, (name, _) in _DTYPES.items()}
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = dict(metadata)
    parts: list[bytes] = []
    position = 0
    # Wider types first keeps every tensor aligned, as the reference writer does.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in order:
        tensor = tensors[name].detach().cpu().contiguous()
        if name == "__metadata__" or tensor.dtype not in codes:
            raise ValueError(f"tensor {name!r} of type {tensor.dtype} cannot be stored")
        bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
        array = bits.numpy()
        if sys.byteorder == "big":
            array = array.byteswap()
        raw = array.tobytes()
        header[name] = {
            "dtype": codes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + len(raw)],
        }
        parts.append(raw)
        position += len(raw)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``tensors`` to ``path``, complete or not at all (temporary name, then rename).

    Raises ``ValueError`` for unsupported types and ``InputError`` if the file cannot be written.
    """
    data = serialize_safetensors(tensors, metadata)
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)

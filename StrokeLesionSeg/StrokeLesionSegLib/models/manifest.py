"""What a model says about itself: ``manifest.json``, read, checked and written."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from .channels import known

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"

# Bounds on what a file may ask of us before anything is believed of it.
MAX_MANIFEST_BYTES = 1 << 20
MAX_WEIGHT_BYTES = 1 << 30
MAX_SPEC_CHARACTERS = 8192

VIEWS = ("axial", "triplanar")
_BY_VIEWS = {"threshold", "hysteresis", "min_volume_ml"}
WEIGHT_DTYPES = ("float16", "bfloat16", "float32")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")

_REMEDY = "Take the model from its publisher again, or correct its manifest"


@dataclass(frozen=True)
class Manifest:
    """The facts of one model, schema 1.

    Attributes
    ----------
    name, version, title, description, license, intended_use, created: text; ``name`` is also the
        model's directory, ``created`` is ``YYYY-MM-DD``.
    network: the plain dict for ``networks.build_network``.
    channels: the input channels in order, for example ``("t1", "click_positive", ...)``.
    contrast: the MR contrast that the model was made for.
    labels: label value (as text) to its meaning.
    preprocessing: ``grid``, ``window_percentiles`` (two percentiles), ``pad_multiple`` (pixels)
        and ``brain_mask_margin_mm`` (mm, or None for no brain mask).
    inference: ``threshold`` (probability), ``hysteresis`` (second threshold or None),
        ``min_volume_ml`` (mL) and ``views``; ``of_views`` may hold other values of the first three
        for some views, ``{"triplanar": {"hysteresis": 0.7}}``: see ``inference_of``.
    training, metrics: how it was made and how well it did; free-form.
    weights: ``file``, ``sha256``, ``bytes`` and ``dtype``.
    default: True for the model that is used when none is named.
    extra: fields of the file that this version does not know, kept for writing back.
    directory: where the manifest was read from; None for one made in memory.
    """

    name: str
    version: str
    title: str
    description: str
    license: str
    intended_use: str
    created: str
    network: dict[str, Any]
    channels: tuple[str, ...]
    contrast: str
    labels: dict[str, str]
    preprocessing: dict[str, Any]
    inference: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, Any]
    weights: dict[str, Any]
    schema: int = SCHEMA_VERSION
    default: bool = False
    extra: dict[str, Any] = field(default_factory=dict, compare=False)
    directory: Path | None = field(default=None, compare=False)

    @property
    def weights_path(self) -> Path:
        """The weights file; raises ``ValueError`` for a manifest that is not on disk."""
        if self.directory is None:
            raise ValueError("this manifest was not read from a directory")
        return self.directory / self.weights["file"]

    def inference_of(self, views: str) -> dict[str, Any]:
        """``inference`` with the values that hold for ``views``.

        The mean of three views is rarely as sure as one of them: thresholds differ.
        """
        return {**self.inference, **self.inference.get("of_views", {}).get(views, {})}

    @classmethod
    def from_dict(
        cls,
        content: Any,
        *,
        where: str | os.PathLike[str] = MANIFEST_NAME,
        directory: Path | None = None,
    ) -> Manifest:
        """Check ``content`` (parsed JSON) and make a manifest of it.

        Raises ``InputError`` that names ``where``, the field at fault and the remedy.
        """
        _validate(content, where)
        known = {f.name for f in fields(cls)} - {"extra", "directory"}
        values = {key: value for key, value in content.items() if key in known}
        values["channels"] = tuple(values["channels"])
        extra = {key: value for key, value in content.items() if key not in known}
        return cls(**values, extra=extra, directory=directory)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Manifest:
        """Read ``manifest.json``, or the one in ``path`` if that is a directory.

        Raises ``InputError`` if it is missing, unreadable, not JSON, of another schema version,
        or if a field is missing or makes no sense.
        """
        path = Path(path)
        if path.is_dir():
            path = path / MANIFEST_NAME
        try:
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise InputError(path, "the manifest is larger than 1 MiB", _REMEDY)
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(
                path, "there is no model manifest here", "Name a directory that holds a model"
            ) from None
        except UnicodeDecodeError:
            raise InputError(path, "the manifest is not UTF-8 text", _REMEDY) from None
        except OSError as error:
            raise InputError(
                path, f"the manifest cannot be read ({error.strerror})", "Check its permissions"
            ) from error
        return cls.from_dict(parse_json(text, path), where=path, directory=path.parent)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON-ready dict, unknown fields included."""
        result: dict[str, Any] = {"schema": self.schema}
        for item in fields(self):
            if item.name not in ("schema", "extra", "directory", "default"):
                result[item.name] = getattr(self, item.name)
        result["channels"] = list(self.channels)
        if self.default:
            result["default"] = True
        return {**result, **self.extra}


def parse_json(text: str, where: str | os.PathLike[str]) -> Any:
    """Parse JSON; ``InputError`` for whatever is not JSON, absurd nesting included."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        cause = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise InputError(where, f"the manifest is not valid JSON ({cause})", _REMEDY) from None


def _validate(content: Any, where: str | os.PathLike[str]) -> None:
    def refuse(cause: str, remedy: str = _REMEDY) -> InputError:
        return InputError(where, cause, remedy)

    if not isinstance(content, Mapping):
        raise refuse("the manifest is not a JSON object")
    schema = content.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise refuse("the manifest has no schema version")
    if schema != SCHEMA_VERSION:
        raise refuse(
            f"manifest schema {schema} is unknown, this version reads schema {SCHEMA_VERSION}",
            "Update StrokeLesionSeg" if schema > SCHEMA_VERSION else _REMEDY,
        )

    expected: dict[str, type | tuple[type, ...]] = {
        **dict.fromkeys(
            ("name", "version", "title", "description", "license", "intended_use", "created"), str
        ),
        "contrast": str,
        "channels": (list, tuple),
        **dict.fromkeys(
            ("network", "labels", "preprocessing", "inference", "training", "metrics", "weights"),
            dict,
        ),
    }
    missing = [key for key in expected if key not in content]
    if missing:
        raise refuse(f"the manifest lacks {', '.join(missing)}")
    for key, kind in expected.items():
        if not isinstance(content[key], kind):
            raise refuse(f"manifest field {key} has the wrong type")
    if not isinstance(content.get("default", False), bool):
        raise refuse("manifest field default must be true or false")

    if not _NAME.match(content["name"]):
        raise refuse("the model's name may hold letters, digits, '.', '_' and '-' only")
    if not _DATE.match(content["created"]):
        raise refuse("manifest field created must be a date, YYYY-MM-DD")
    channels = content["channels"]
    if not channels or not all(isinstance(c, str) and c for c in channels):
        raise refuse("manifest field channels must be a list of names")
    unknown = [name for name in channels if not known(name)]
    if unknown:
        raise refuse(
            f"this version knows no input channel {unknown[0]!r}", "Update StrokeLesionSeg"
        )
    if not content["labels"] or not all(isinstance(v, str) for v in content["labels"].values()):
        raise refuse("manifest field labels must map label values to names")
    try:
        _validate_network(content["network"], len(channels))
        _validate_preprocessing(content["preprocessing"])
        _validate_inference(content["inference"])
        _validate_weights(content["weights"])
    except ValueError as error:
        raise refuse(str(error)) from None


def _number(value: Any, low: float, high: float) -> bool:
    # bool is an int to Python, but true is no percentile.
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def _validate_network(spec: Mapping[str, Any], channels: int) -> None:
    if not isinstance(spec.get("name"), str):
        raise ValueError("manifest field network has no name")
    if len(json.dumps(spec)) > MAX_SPEC_CHARACTERS:
        raise ValueError("manifest field network is absurdly long")
    inputs = spec.get("in_channels", channels)
    if inputs != channels:
        raise ValueError(f"the network takes {inputs} channels but {channels} are named")


def _validate_preprocessing(content: Mapping[str, Any]) -> None:
    if not isinstance(content.get("grid"), str):
        raise ValueError("manifest field preprocessing.grid must be text")
    window = content.get("window_percentiles")
    if (
        not isinstance(window, (list, tuple))
        or len(window) != 2
        or not all(_number(p, 0, 100) for p in window)
        or window[0] >= window[1]
    ):
        raise ValueError(
            "manifest field preprocessing.window_percentiles must be two ascending percentiles"
        )
    if content.get("window_low_of", "foreground") not in ("foreground", "volume"):
        raise ValueError("manifest field preprocessing.window_low_of must be foreground or volume")
    multiple = content.get("pad_multiple")
    if isinstance(multiple, bool) or not isinstance(multiple, int) or not 1 <= multiple <= 1024:
        raise ValueError(
            "manifest field preprocessing.pad_multiple must be a whole number of pixels"
        )
    margin = content.get("brain_mask_margin_mm")
    if margin is not None and not _number(margin, 0, 1000):
        raise ValueError("manifest field preprocessing.brain_mask_margin_mm must be null or mm")


def _validate_inference(content: Mapping[str, Any]) -> None:
    special = content.get("of_views", {})
    if not isinstance(special, Mapping) or not all(
        views in VIEWS and isinstance(own, Mapping) and own.keys() <= _BY_VIEWS
        for views, own in special.items()
    ):
        raise ValueError(
            f"manifest field inference.of_views must give {', '.join(sorted(_BY_VIEWS))} by views"
        )
    for own in special.values():
        _validate_inference({**content, "of_views": {}, **own})
    if not _number(content.get("threshold"), 0, 1) or content["threshold"] == 0:
        raise ValueError("manifest field inference.threshold must be a probability above 0")
    hysteresis = content.get("hysteresis")
    if hysteresis is not None and (not _number(hysteresis, 0, 1) or hysteresis == 0):
        raise ValueError("manifest field inference.hysteresis must be null or a probability")
    if not _number(content.get("min_volume_ml", 0.0), 0, 1e6):
        raise ValueError("manifest field inference.min_volume_ml must be a volume in mL")
    if content.get("views", "axial") not in VIEWS:
        raise ValueError(f"manifest field inference.views must be one of {', '.join(VIEWS)}")


def _validate_weights(content: Mapping[str, Any]) -> None:
    name = content.get("file")
    if not isinstance(name, str) or not _NAME.match(name) or not name.endswith(".safetensors"):
        raise ValueError("manifest field weights.file must be a plain name ending in .safetensors")
    if not isinstance(content.get("sha256"), str) or not _SHA256.match(content["sha256"]):
        raise ValueError("manifest field weights.sha256 must be 64 lower-case hexadecimal digits")
    size = content.get("bytes")
    if isinstance(size, bool) or not isinstance(size, int) or not 8 <= size <= MAX_WEIGHT_BYTES:
        raise ValueError(
            "manifest field weights.bytes must be the size of the weights, at most 1 GiB"
        )
    if content.get("dtype") not in WEIGHT_DTYPES:
        raise ValueError(f"manifest field weights.dtype must be one of {', '.join(WEIGHT_DTYPES)}")

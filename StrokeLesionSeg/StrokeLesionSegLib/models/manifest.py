"""What a model says about itself: ``manifest.json``, read, checked and written."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..operating_point import OperatingPoint
from .channels import known
from .settings import KINDS, Inference, Preprocessing
from .window_settings import WindowSettings

#: The version of ``manifest.json`` that is read and written.
SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"

# Bounds on what a file may ask of us before anything is believed of it.
MAX_MANIFEST_BYTES = 1 << 20
# Of one file; five folds of nnU-Net are five.
MAX_WEIGHT_BYTES = 3 << 30
MAX_WEIGHT_FILES = 64
MAX_SPEC_CHARACTERS = 8192

WEIGHT_DTYPES = ("float16", "bfloat16", "float32")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
# Windows gives no file these names, whatever follows after a point.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|\Z)", re.IGNORECASE)
#: What a name has to be, as advice.
NAME_RULE = (
    "Use at most 64 letters, digits, '.', '_' and '-'; no '.' at the end, and no name that Windows "
    "keeps for devices (con, nul)"
)
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
    preprocessing, inference: see ``Preprocessing`` and ``Inference``.
    training, metrics: how it was made and how well it did; free-form.
    weights: ``file``, ``sha256``, ``bytes`` and ``dtype``; ``more``: the same of further networks
        whose logits are averaged with those of the first.
    kind: "slices", "volumetric" or "windows": which predictor runs it, see
        ``inference.make_predictor``.
    windows: how a network of others is asked; None for other kinds.
    default: True for the model that is used when none is named.
    extra: fields of the file that this version does not know, kept for writing back.
    directory: where the manifest was read from; None for one made in memory.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import Manifest, find_model
    >>> manifest = Manifest.from_file(find_model())
    >>> manifest.schema, manifest.contrast
    (1, 'T1w')
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
    preprocessing: Preprocessing
    inference: Inference
    training: dict[str, Any]
    metrics: dict[str, Any]
    weights: dict[str, Any]
    schema: int = SCHEMA_VERSION
    kind: str = "slices"
    windows: WindowSettings | None = None
    default: bool = False
    extra: dict[str, Any] = field(default_factory=dict, compare=False)
    directory: Path | None = field(default=None, compare=False)

    @property
    def weights_path(self) -> Path:
        """The weights file; raises ``ValueError`` for a manifest that is not on disk."""
        if self.directory is None:
            raise ValueError("this manifest was not read from a directory")
        return self.directory / self.weights["file"]

    @property
    def weight_files(self) -> list[dict[str, Any]]:
        """``file``, ``sha256``, ``bytes`` and ``dtype`` of every network, the first one first."""
        first = {key: value for key, value in self.weights.items() if key != "more"}
        return [first, *self.weights.get("more", [])]

    @property
    def sha256(self) -> str:
        """Of the weights; of several files one that each of them changes."""
        sums = [promised["sha256"] for promised in self.weight_files]
        if len(sums) == 1:
            return str(sums[0])
        return hashlib.sha256("".join(sums).encode("ascii")).hexdigest()

    def operating_point(self, views: str | None = None) -> OperatingPoint:
        """The operating point recommended for ``views``; None: for the recommended views."""
        return self.inference.point_of(views)

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
        kind = content.get("kind", "slices")
        try:
            values["preprocessing"] = Preprocessing.from_dict(content["preprocessing"], kind)
            values["inference"] = Inference.from_dict(content["inference"])
            windows = content.get("windows")
            if (windows is None) == (kind == "windows"):
                raise ValueError("manifest field windows belongs to models of that kind")
            values["windows"] = None if windows is None else WindowSettings.from_dict(windows)
            if windows is not None and len(values["windows"].folds) != 1 + len(
                content["weights"].get("more", [])
            ):
                raise ValueError("manifest fields windows.folds and weights are not of one length")
        except ValueError as error:
            raise InputError(where, str(error), _REMEDY) from None
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
                path, "there is no model manifest here", "Name a folder that contains a model"
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
            if item.name not in ("schema", "extra", "directory", "default", "kind", "windows"):
                result[item.name] = getattr(self, item.name)
        result["channels"] = list(self.channels)
        result["preprocessing"] = self.preprocessing.to_dict()
        result["inference"] = self.inference.to_dict()
        if self.kind != "slices":
            result["kind"] = self.kind
        if self.windows is not None:
            result["windows"] = self.windows.to_dict()
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


def is_model_name(text: str) -> bool:
    """Whether a model may be called so, and its directory on every system: see ``NAME_RULE``."""
    return bool(_NAME.match(text)) and not text.endswith(".") and not _DEVICE.match(text)


def check_name_option(name: str) -> None:
    """Raise ``InputError`` if no model may have the ``name`` that an option --name gives it."""
    if not is_model_name(name):
        raise InputError(f"--name {name!r}", "is no name of a model", NAME_RULE)


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
            f"manifest schema {schema} is unknown; this version reads schema {SCHEMA_VERSION}",
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
    if content.get("kind", "slices") not in KINDS:
        raise refuse(
            f"this version knows no model of kind {content['kind']!r}", "Update StrokeLesionSeg"
        )

    if not is_model_name(content["name"]):
        raise refuse(f"no model can be called {content['name']!r}", NAME_RULE)
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
        _validate_weights(content["weights"])
    except ValueError as error:
        raise refuse(str(error)) from None


def _validate_network(spec: Mapping[str, Any], channels: int) -> None:
    if not isinstance(spec.get("name"), str):
        raise ValueError("manifest field network has no name")
    if len(json.dumps(spec)) > MAX_SPEC_CHARACTERS:
        raise ValueError("manifest field network is absurdly long")
    inputs = spec.get("in_channels", channels)
    if inputs != channels:
        raise ValueError(f"the network takes {inputs} channels but {channels} are named")


def _validate_weights(content: Mapping[str, Any]) -> None:
    name = content.get("file")
    if not isinstance(name, str) or not _NAME.match(name) or not name.endswith(".safetensors"):
        raise ValueError("manifest field weights.file must be a plain name ending in .safetensors")
    if not isinstance(content.get("sha256"), str) or not _SHA256.match(content["sha256"]):
        raise ValueError("manifest field weights.sha256 must be 64 lower-case hexadecimal digits")
    size = content.get("bytes")
    if isinstance(size, bool) or not isinstance(size, int) or not 8 <= size <= MAX_WEIGHT_BYTES:
        raise ValueError(
            "manifest field weights.bytes must be the size of the weights, at most 3 GiB"
        )
    if content.get("dtype") not in WEIGHT_DTYPES:
        raise ValueError(f"manifest field weights.dtype must be one of {', '.join(WEIGHT_DTYPES)}")
    more = content.get("more", [])
    if not isinstance(more, list) or not all(
        isinstance(one, Mapping) and "more" not in one for one in more
    ):
        raise ValueError("manifest field weights.more must be a list of further files")
    for one in more:
        _validate_weights(one)
    names = [name, *(one["file"] for one in more)]
    if len(set(names)) != len(names) or len(names) > MAX_WEIGHT_FILES:
        raise ValueError("manifest field weights names a file twice, or absurdly many")

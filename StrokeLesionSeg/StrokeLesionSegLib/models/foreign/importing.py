"""A model of others made into one of ours, in a directory that nobody uses yet."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import InputError
from ..load import expected_shapes
from ..manifest import MANIFEST_NAME, NAME_RULE, is_model_name
from ..safetensors_io import parse_safetensors, read_bytes, serialize_safetensors
from ..store import refuse_taken_name
from ..window_settings import Space, WindowSettings
from . import nnunet_plans, synthstroke_config
from .child import ask
from .choices import ChoiceNeeded, ImportChoices
from .mni_grids import MNI_GRIDS
from .nnunet_plans import Unusable
from .package import Package

_PLANS, _DATASET, _CONFIG = "plans.json", "dataset.json", "config.json"
_SAFETENSORS = "model.safetensors"
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_FOLD = re.compile(r"fold_(all|\d{1,3})\Z")
_AGAIN = "Take the model from its publisher again"
_RESEARCH = "Research. A model of others, which StrokeLesionSeg runs and does not vouch for."
_UNSTATED = "not stated"


def is_foreign(package: Package) -> bool:
    """Whether this is a model of others and none of ours."""
    names = {path.name for path in package.files}
    ours = any(p.name == MANIFEST_NAME and len(p.parts) <= 2 for p in package.files)
    return not ours and bool(names & {_PLANS, "plans.pkl", _CONFIG, *_CHECKPOINTS})


def packed_inside(package: Package) -> list[str]:
    """The zips in a folder or zip that holds no model itself."""
    return [str(path) for path in package.files if path.suffix.lower() == ".zip"]


def stage_foreign(
    package: Package, stage: Path, choices: ImportChoices, python: str | None
) -> None:
    """Write manifest and weights into ``stage``, an empty directory.

    Raises ``InputError`` with the cause and what to do.
    """
    try:
        if any(path.name in (_PLANS, "plans.pkl", *_CHECKPOINTS) for path in package.files):
            made = _nnunet(package, choices)
        else:
            made = _synthstroke(package, choices)
        _manifest(made.content, made.windows)  # their texts and numbers may be none
    except Unusable as error:
        raise InputError(package.source, error.cause, error.remedy) from None
    except ValueError as error:  # a field of ours that their numbers do not fit
        raise InputError(package.source, f"cannot be used ({error})", _AGAIN) from None
    except (TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        # JSON that is sound and says something else than their own programs write.
        cause = f"its plans or settings hold what nobody expects there ({error})"
        raise InputError(package.source, cause, _AGAIN) from None
    refuse_taken_name(package.source, made.content["name"], "Choose another with --name")
    # Before a checkpoint of gigabytes is read.
    expected_shapes(made.content["network"], package.source)
    _check_room(package, stage, [source for source, _ in made.weights])
    content = made.content
    entries, originals = [], {}
    mirror: list[int] | None = None
    for source, name in made.weights:
        if source.suffix == ".pth":
            originals[str(source)], known = _convert(package, source, stage / name, python)
            axes = known["mirror_axes"]
            if mirror is not None and axes != mirror:
                raise InputError(
                    package.source, "its folds were trained with different mirroring", _AGAIN
                )
            mirror = axes
            content["training"]["trainer"] = known["trainer"].encode("utf-8", "replace").decode()
        else:
            originals[str(source)] = _rename(package, source, stage / name)
        data = (stage / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        entries.append({"file": name, "sha256": digest, "bytes": len(data), "dtype": "float32"})
    content["training"]["original_sha256"] = originals
    settings = made.windows if mirror is None else replace(made.windows, mirror_axes=tuple(mirror))
    content["weights"] = {**entries[0], **({"more": entries[1:]} if entries[1:] else {})}
    _write(stage, content, settings)
    measured = ask(str(package.source), python, "trial", str(stage))
    _write(stage, content, replace(settings, measured=measured))


@dataclass
class _Made:
    """``content``: the manifest, without ``windows`` and ``weights``; ``weights``: the file in the
    package and its name here, one for each network."""

    content: dict[str, Any]
    windows: WindowSettings
    weights: list[tuple[PurePosixPath, str]]


def _write(stage: Path, content: Mapping[str, Any], settings: WindowSettings) -> None:
    (stage / MANIFEST_NAME).write_bytes(_manifest(content, settings))


def _manifest(content: Mapping[str, Any], settings: WindowSettings) -> bytes:
    """Raises ``ValueError`` for numbers that are not finite and characters that are none."""
    whole = {**content, "windows": settings.to_dict()}
    text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8")


def _check_room(package: Package, stage: Path, sources: list[PurePosixPath]) -> None:
    sizes = [package.size(source) for source in sources]
    # Each network stays, and the largest checkpoint lies here while it is read.
    needed, free = sum(sizes) + max(sizes), shutil.disk_usage(stage).free
    if needed > free:
        raise InputError(
            stage.parent,
            f"installing needs up to {_in_words(needed)}, but only {_in_words(free)} are free",
            "Free space, or set STROKE_LESION_SEG_HOME to another disk",
        )


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _convert(
    package: Package, source: PurePosixPath, target: Path, python: str | None
) -> tuple[str, dict[str, Any]]:
    """Checksum of a checkpoint and what it says besides; its weights are in ``target`` then."""
    checkpoint = target.with_suffix(".pth")
    digest = package.copy(source, checkpoint)
    try:
        known = ask(package.where(source), python, "weights", str(checkpoint), str(target))
    finally:
        checkpoint.unlink()
    if not isinstance(known.get("mirror_axes"), list) or not target.is_file():
        raise InputError(package.where(source), "reading it gave no weights", _AGAIN)
    return digest, known


def _rename(package: Package, source: PurePosixPath, target: Path) -> str:
    """The same for SynthStroke's file, which is safetensors already."""
    from ...networks.foreign_names import synthstroke_tensors

    original = target.with_suffix(".original")
    digest = package.copy(source, original)
    try:
        tensors = parse_safetensors(read_bytes(original))
    except ValueError as error:
        raise InputError(
            package.where(source), f"is not a valid safetensors file: {error}", _AGAIN
        ) from None
    finally:
        original.unlink()
    named = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in synthstroke_tensors(tensors).items()
    }
    target.write_bytes(serialize_safetensors(named))
    return digest


def _content(
    name: str, title: str, network: dict[str, Any], space: Space, choices: ImportChoices
) -> dict[str, Any]:
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", choices.name or name).strip("-._")[:64].rstrip("-._")
    if choices.name is not None and (clean != choices.name or not is_model_name(clean)):
        raise Unusable(f"the name {choices.name!r} is not usable", NAME_RULE)
    return {
        "schema": 1,
        "name": clean or "model",
        "version": "1",
        "title": title,
        "description": "Converted once from what its authors published; they own its merits.",
        "license": choices.license or _UNSTATED,
        "intended_use": _RESEARCH,
        "created": datetime.date.today().isoformat(),
        "kind": "windows",
        "network": network,
        "channels": ["t1"],
        "contrast": "T1w",
        "labels": {"0": "background", "1": "lesion"},
        "preprocessing": {"grid": space.name},
        "inference": {"threshold": 0.5},
        "training": {"source": choices.source or "not stated"},
        "metrics": {},
    }


# ------------------------------------------------------------------ nnU-Net


def _nnunet(package: Package, choices: ImportChoices) -> _Made:
    folder = _model_folder(package, choices)
    plans, dataset = package.json(folder / _PLANS), _dataset(package, folder)
    name = _configuration_name(package, folder, plans, choices)
    configuration = nnunet_plans.configuration_of(plans, name)
    nnunet_plans.channel_of(dataset)
    labels = nnunet_plans.labels_of(dataset, choices.lesion)
    if configuration.get("preprocessor_name", "DefaultPreprocessor") != "DefaultPreprocessor":
        raise Unusable(
            f"the preprocessor {configuration['preprocessor_name']} is unknown here",
            "Choose a model with nnU-Net's own",
        )
    network = nnunet_plans.network_of(configuration, len(labels.names))
    nnunet_plans.check_patch(configuration.get("patch_size"), network)
    space = _space(
        nnunet_plans.orientation_of(plans), nnunet_plans.mni_grid_of(plans), choices, package
    )
    folds = _folds(package, folder, choices)
    normalization = nnunet_plans.normalization_of(configuration)
    numbers = plans.get("foreground_intensity_properties_per_channel") or {}
    windows = WindowSettings.from_dict(
        {
            "rule": "nnunet",
            "patch": configuration.get("patch_size"),
            "transpose": plans.get("transpose_forward", [0, 1, 2]),
            "spacing": configuration.get("spacing"),
            "crop_to_nonzero": True,
            "normalization": normalization,
            "intensity": numbers.get("0", {}),
            "classes": len(labels.names),
            "lesion": labels.index,
            "labels": labels.names,
            "activation": "sigmoid" if labels.regions else "softmax",
            "folds": [fold for fold, _ in folds],
            "space": _as_dict(space),
            "resample_image": vars(nnunet_plans.resampling_of(configuration, "data", 3)),
            "resample_logits": vars(nnunet_plans.resampling_of(configuration, "probabilities", 1)),
        }
    )
    title = str(plans.get("dataset_name", "nnU-Net"))
    content = _content(f"{title}-{name}", f"{title}, nnU-Net v2 {name}", network, space, choices)
    stated = dataset.get("licence", dataset.get("license"))
    if choices.license is None and isinstance(stated, str) and stated.strip():
        content["license"] = stated.strip()[:200]
    content["training"] |= {
        "framework": "nnU-Net v2",
        "dataset": title,
        "configuration": name,
        "plans": str(plans.get("plans_name", "")),
        "scans": dataset.get("numTraining"),
    }
    return _Made(content, windows, [(path, f"fold_{fold}.safetensors") for fold, path in folds])


def _as_dict(space: Space) -> dict[str, Any]:
    content = vars(space).copy()
    return {key: value for key, value in content.items() if value is not None}


def _model_folder(package: Package, choices: ImportChoices) -> PurePosixPath:
    """The folder with ``plans.json``; of several the one of the configuration that was chosen."""
    folders = [path.parent for path in package.files if path.name == _PLANS]
    if not folders and not any(path.name == "plans.pkl" for path in package.files):
        raise Unusable(
            "plans.json is missing, without which nobody knows the network",
            "Copy the whole results folder, or export it with nnUNetv2_export_model_to_zip",
        )
    if not folders:
        raise Unusable(
            "the model is of nnU-Net v1 (plans.pkl), which is not read",
            "Choose a model that nnU-Net v2 trained",
        )
    # nnU-Net keeps plans beside its preprocessed data too: a model has folds.
    with_folds = [f for f in folders if any(_FOLD.match(p) for p in _inside(package, f))]
    folders = with_folds or folders
    if len(folders) > 1 and choices.configuration is not None:
        suffix = f"__{choices.configuration}"
        folders = [f for f in folders if f.name.endswith(suffix)] or folders
    if len(folders) > 1:
        names = ", ".join(sorted(f.name for f in folders))
        raise Unusable(
            f"holds {len(folders)} models ({names})",
            "Say which with --configuration, or name its folder",
        )
    return folders[0]


def _inside(package: Package, folder: PurePosixPath) -> set[str]:
    """Names of what lies in ``folder``."""
    depth = len(folder.parts)
    return {
        path.parts[depth]
        for path in package.files
        if path.parts[:depth] == folder.parts and len(path.parts) > depth
    }


def _dataset(package: Package, folder: PurePosixPath) -> dict[str, Any]:
    path = folder / _DATASET
    if path not in package:
        raise Unusable("dataset.json is missing beside plans.json", _AGAIN)
    return package.json(path)


def _configuration_name(
    package: Package, folder: PurePosixPath, plans: Mapping[str, Any], choices: ImportChoices
) -> str:
    """By the folder's name, TRAINER__PLANS__CONFIGURATION, else the only one, else the chosen."""
    own = (folder.name or package.source.name).rsplit("__", 2)
    known = plans.get("configurations")
    names = list(known) if isinstance(known, Mapping) else []
    if len(own) == 3 and own[2] in names:
        if choices.configuration not in (None, own[2]):
            raise Unusable(
                f"holds {own[2]}, not {choices.configuration}", "Leave out --configuration"
            )
        return own[2]
    if choices.configuration is not None:
        return choices.configuration
    if len(names) <= 1:
        return names[0] if names else "3d_fullres"
    raise Unusable(
        f"the plans know {len(names)} configurations ({', '.join(map(str, names))})",
        "Say which was trained with --configuration",
    )


def _folds(
    package: Package, folder: PurePosixPath, choices: ImportChoices
) -> list[tuple[str, PurePosixPath]]:
    """Names and checkpoints of the folds, in their order. Raises ``Unusable``."""
    found: dict[str, PurePosixPath] = {}
    for inner in sorted(_inside(package, folder)):
        match = _FOLD.match(inner)
        if match is None:
            continue
        paths = [folder / inner / name for name in _CHECKPOINTS]
        there = [path for path in paths if path in package]
        if there:
            found[match[1]] = there[0]
    if not found:
        raise Unusable(
            "holds no trained fold (fold_0/checkpoint_final.pth and so on)",
            "Copy the whole results folder, or export it with nnUNetv2_export_model_to_zip",
        )
    order = sorted(found, key=lambda n: (n == "all", n.zfill(3)))
    if choices.folds == ():
        raise Unusable("--folds names no fold", f"Give some of {', '.join(order)}")
    if choices.folds is None:
        # fold_all saw every scan; beside single folds it is another model.
        order = [n for n in order if n != "all"] or order
        return [(n, found[n]) for n in order]
    missing = [n for n in choices.folds if n not in found]
    if missing:
        raise Unusable(
            f"has no fold {missing[0]}; it holds {', '.join(order)}",
            "Give --folds what is there, or leave it out for all",
        )
    return [(n, found[n]) for n in dict.fromkeys(choices.folds)]


def _space(
    orientation: str | None, grid: str | None, choices: ImportChoices, package: Package
) -> Space:
    """Where scans are to be brought. Raises ``ChoiceNeeded`` where nobody says."""
    orientation = choices.orientation or orientation
    name = choices.space or grid
    if name is None or orientation is None:
        raise ChoiceNeeded(package.source, space=name is None, orientation=orientation is None)
    if name == "native":
        return Space(orientation=orientation)
    return MNI_GRIDS[name].space(name, orientation)


# ------------------------------------------------------------------ SynthStroke


def _synthstroke(package: Package, choices: ImportChoices) -> _Made:
    folders = [p.parent for p in package.files if p.name == _CONFIG]
    folders = [f for f in folders if f / _SAFETENSORS in package]
    if len(folders) != 1:
        raise Unusable(
            "holds no model (manifest.json, plans.json, or config.json with model.safetensors)",
            "Name the model's folder or zip",
        )
    if choices.space not in (None, "native") or choices.orientation not in (None, "RAS"):
        raise Unusable("SynthStroke's models want native space, RAS", "Leave out these options")
    if choices.configuration is not None or choices.folds is not None or choices.lesion is not None:
        raise Unusable(
            "SynthStroke's models have one network and one lesion", "Leave out these options"
        )
    config = package.json(folders[0] / _CONFIG)
    network = synthstroke_config.network_of(config)
    windows = synthstroke_config.windows_of(network["classes"])
    kind = str(config.get("model_type", "model"))[:40].replace("_", "-")
    content = _content(
        f"synthstroke-{kind}", f"SynthStroke, {kind}", network, windows.space, choices
    )
    content["training"] |= {"framework": "SynthStroke (MONAI)", "model_type": kind}
    return _Made(content, windows, [(folders[0] / _SAFETENSORS, "weights.safetensors")])

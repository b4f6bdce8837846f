"""nnU-Net v2's ``plans.json`` and ``dataset.json``: which network, and how it is asked.

Both forms of plans are read: with ``architecture``, and the flat one before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from ..window_settings import Resampling
from .mni_grids import grid_of_shape

_NETWORKS = {"PlainConvUNet": "plain_conv_unet", "ResidualEncoderUNet": "residual_encoder_unet"}
_NORMALIZATIONS = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale01",
}
_RESAMPLINGS = {
    "resample_data_or_seg_to_shape": "spline",
    "resample_torch_fornnunet": "torch",
    "resample_torch_simple": "torch",
    "no_resampling_data_or_seg_to_shape": "none",
}
# What counts in training only, and what has to have its usual value.
_TRAINING_ONLY = {
    "dropout_op",
    "dropout_op_kwargs",
    "deep_supervision",
    "weightInitializer",
    "return_skips",
}
_USUAL: dict[str, tuple[Any, ...]] = {
    "bottleneck_channels": (None,),
    "block": (None, "BasicBlockD"),
    "disable_default_stem": (False,),
    "pool": ("conv",),
    "pool_type": ("conv",),
    "stochastic_depth_p": (0,),
    "squeeze_excitation": (False,),
}
_LESION = re.compile(r"lesion|stroke|infarct", re.IGNORECASE)
_MOST_PARENTS = 16
_MOST_STAGES = 16


class Unusable(ValueError):
    """Why a model cannot run here, and what to do about it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause, self.remedy = cause, remedy


_OTHER = "Choose another model: only nnU-Net's own U-Nets for one T1 run here"
_AGAIN = "Take the model from its publisher again"


@dataclass(frozen=True)
class Labels:
    """``names`` of the network's channels, the lesion's ``index``, and whether they are regions."""

    names: tuple[str, ...]
    index: int
    regions: bool


def configuration_of(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with all that it inherits. Raises ``Unusable``."""
    configurations = plans.get("configurations")
    if not isinstance(configurations, Mapping):
        raise Unusable(
            "the plans are not those of nnU-Net v2 (no configurations); nnU-Net v1 is not read",
            "Choose a model that nnU-Net v2 trained",
        )
    chain: list[Mapping[str, Any]] = []
    parent: Any = name
    while parent is not None:
        found = configurations.get(parent) if isinstance(parent, str) else None
        if not isinstance(found, Mapping):
            raise Unusable(f"the plans know no configuration {parent!r}", _AGAIN)
        if len(chain) > _MOST_PARENTS:
            raise Unusable("the plans' configurations inherit from one another", _AGAIN)
        chain.append(found)
        parent = found.get("inherits_from")
    merged: dict[str, Any] = {}
    for one in reversed(chain):
        merged.update(one)
    if merged.get("previous_stage") is not None:
        raise Unusable(
            f"{name} is the second stage of a cascade",
            "Choose a model of one stage, such as 3d_fullres",
        )
    return merged


def channel_of(dataset: Mapping[str, Any]) -> None:
    """Raise ``Unusable`` unless the model sees one channel that is no CT."""
    names = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(names, Mapping) or not names:
        raise Unusable("dataset.json names no channels", _AGAIN)
    if len(names) != 1:
        said = ", ".join(map(str, names.values()))
        raise Unusable(f"the model wants {len(names)} images of each head ({said})", _OTHER)
    name = str(next(iter(names.values())))
    if name.upper() == "CT":
        raise Unusable("the model is for CT", _OTHER)


def labels_of(dataset: Mapping[str, Any], wanted: str | None) -> Labels:
    """What the channels mean, and which one is the lesion. Raises ``Unusable``."""
    labels = dataset.get("labels")
    if not isinstance(labels, Mapping) or len(labels) < 2:
        raise Unusable("dataset.json names no labels", _AGAIN)
    values = {str(k): v for k, v in labels.items() if k != "ignore"}
    regions = any(isinstance(v, (list, tuple)) and len(v) > 1 for v in values.values())
    if regions:
        names = [name for name, v in values.items() if v not in (0, [0], (0,))]
    else:
        plain = {
            name: v[0] if isinstance(v, (list, tuple)) and v else v for name, v in values.items()
        }
        if sorted(plain.values(), key=str) != sorted(range(len(plain)), key=str):
            raise Unusable("the labels in dataset.json are not 0, 1, 2 and so on", _AGAIN)
        names = sorted(plain, key=lambda name: plain[name])
    candidates = names if regions else names[1:]
    if wanted is not None:
        if wanted not in candidates:
            raise Unusable(
                f"the model has no label {wanted!r}", f"Use --lesion {' or '.join(candidates)}"
            )
        return Labels(tuple(names), names.index(wanted), regions)
    likely = candidates if len(candidates) == 1 else [n for n in candidates if _LESION.search(n)]
    if len(likely) != 1:
        raise Unusable(
            f"the model has {len(candidates)} labels ({', '.join(candidates)})",
            "Say which is the lesion with --lesion NAME",
        )
    return Labels(tuple(names), names.index(likely[0]), regions)


def network_of(configuration: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """The spec for ``networks.build_network``. Raises ``Unusable``."""
    try:
        architecture = configuration.get("architecture")
        if architecture is None:
            return _flat_network(configuration, classes)
        kind = str(architecture["network_class_name"]).rsplit(".", 1)[-1]
        return _network(kind, dict(architecture["arch_kwargs"]), classes)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise Unusable(f"the plans' network cannot be read ({error!r})", _AGAIN) from None


def _flat_network(configuration: Mapping[str, Any], classes: int) -> dict[str, Any]:
    kind = str(configuration["UNet_class_name"])
    layers = configuration["n_conv_per_stage_encoder"]
    base, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    dimensions = len(configuration["patch_size"])
    arguments = {
        "n_stages": len(layers),
        "features_per_stage": [min(base * 2**n, most) for n in range(len(layers))],
        "conv_op": f"Conv{dimensions}d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        "n_conv_per_stage": layers,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": f"InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "LeakyReLU",
    }
    return _network(kind, arguments, classes)


def _network(kind: str, given: dict[str, Any], classes: int) -> dict[str, Any]:
    if kind not in _NETWORKS:
        raise Unusable(f"the network {kind} is unknown here", _OTHER)
    stages = given.pop("n_stages")
    if not isinstance(stages, int) or not 1 <= stages <= _MOST_STAGES:
        raise Unusable(f"the plans' network has an impossible number of stages ({stages})", _AGAIN)
    conv = str(given.pop("conv_op")).rsplit(".", 1)[-1]
    norm = str(given.pop("norm_op", None)).rsplit(".", 1)[-1]
    nonlin = str(given.pop("nonlin", None)).rsplit(".", 1)[-1]
    if conv not in ("Conv2d", "Conv3d"):
        raise Unusable(f"the network's convolution {conv} is unknown here", _OTHER)
    dimensions = int(conv[4])
    norms = {f"InstanceNorm{dimensions}d": "instance", f"BatchNorm{dimensions}d": "batch"}
    if norm not in norms:
        raise Unusable(f"the network's normalisation {norm} is unknown here", _OTHER)
    if nonlin not in ("LeakyReLU", "ReLU"):
        raise Unusable(f"the network's activation {nonlin} is unknown here", _OTHER)
    of_norm, of_nonlin = given.pop("norm_op_kwargs", None) or {}, given.pop("nonlin_kwargs", None)
    slope = 0.0 if nonlin == "ReLU" else (of_nonlin or {}).get("negative_slope", 0.01)
    per_stage = [given.pop(k, None) for k in ("n_conv_per_stage", "n_blocks_per_stage")]
    layers = next(v for v in per_stage if v is not None)
    spec = {
        "name": _NETWORKS[kind],
        "dimensions": dimensions,
        "in_channels": 1,
        "classes": classes,
        "features": _row(given.pop("features_per_stage"), stages),
        "kernels": _rows(given.pop("kernel_sizes"), stages, dimensions),
        "strides": _rows(given.pop("strides"), stages, dimensions),
        "layers": _row(layers, stages),
        "decoder_layers": _row(given.pop("n_conv_per_stage_decoder"), stages - 1),
        "bias": bool(given.pop("conv_bias", False)),
        "norm": norms[norm],
        "eps": float(of_norm.get("eps", 1e-5)),
        # torch: an instance norm has no numbers of its own unless told, a batch norm has.
        "affine": bool(of_norm.get("affine", norms[norm] == "batch")),
        "slope": float(slope),
    }
    if kind == "PlainConvUNet":
        spec["activate_first"] = bool(given.pop("nonlin_first", False))
    else:
        stem = given.pop("stem_channels", None)
        if stem is not None:
            spec["stem"] = stem
    for name, value in given.items():
        said = value.rsplit(".", 1)[-1] if isinstance(value, str) else value
        if name not in _TRAINING_ONLY and said not in _USUAL.get(name, ()):
            raise Unusable(f"the network's setting {name} ({said}) is unknown here", _OTHER)
    return spec


def check_patch(patch: Any, network: Mapping[str, Any]) -> None:
    """Raise ``Unusable`` if the network cannot see windows of ``patch`` voxels."""
    if not isinstance(patch, list) or len(patch) != network["dimensions"]:
        raise Unusable("the plans' network and windows differ in dimensions", _AGAIN)
    for axis, size in enumerate(patch):
        step = prod(stride[axis] for stride in network["strides"])
        if not isinstance(size, int) or step < 1 or size % step:
            raise Unusable(
                f"the plans' network and windows do not fit ({size} is no multiple of {step})",
                _AGAIN,
            )


def _row(value: Any, count: int) -> list[int]:
    """One number for each stage. Raises ``TypeError`` for anything else."""
    if isinstance(value, int):
        return [value] * count
    if not isinstance(value, list) or len(value) != count:
        raise TypeError(f"not one number for each of {count} stages")
    return list(value)


def _rows(value: Any, count: int, dimensions: int) -> list[list[int]]:
    """One number along each axis for each stage. Raises ``TypeError`` for anything else."""
    outer = [value] * count if isinstance(value, int) else value
    if not isinstance(outer, list) or len(outer) != count:
        raise TypeError(f"not one size for each of {count} stages")
    return [[v] * dimensions if isinstance(v, int) else list(v) for v in outer]


def normalization_of(configuration: Mapping[str, Any]) -> str:
    """The name of the intensity step. Raises ``Unusable``."""
    schemes, masks = (
        configuration.get("normalization_schemes"),
        configuration.get("use_mask_for_norm"),
    )
    if not isinstance(schemes, list) or len(schemes) != 1:
        raise Unusable("the plans do not normalise one channel", _AGAIN)
    kind = _NORMALIZATIONS.get(str(schemes[0]))
    if kind is None:
        raise Unusable(f"the normalisation {schemes[0]} is unknown here", _OTHER)
    if masks is not None and not (isinstance(masks, list) and masks):
        raise Unusable("the plans do not say whether they normalise by a mask", _AGAIN)
    masked = bool(masks and masks[0])
    return "zscore_mask" if kind == "zscore" and masked else kind


def resampling_of(configuration: Mapping[str, Any], what: str, order: int) -> Resampling:
    """How ``what`` ("data" or "probabilities") is resampled. Raises ``Unusable``."""
    name = str(configuration.get(f"resampling_fn_{what}", "resample_data_or_seg_to_shape"))
    kind = _RESAMPLINGS.get(name)
    if kind is None:
        raise Unusable(f"the resampling {name} is unknown here", _OTHER)
    given = configuration.get(f"resampling_fn_{what}_kwargs") or {}
    if kind == "torch" and given.get("mode", "linear") != "linear":
        raise Unusable(f"the resampling {name} by {given['mode']} is unknown here", _OTHER)
    content = {
        "kind": kind,
        "order": given.get("order", order),
        "order_z": given.get("order_z", 0),
        # That function knows no thick axis.
        "separate": False if name == "resample_torch_simple" else given.get("force_separate_z"),
        "anisotropy": given.get("separate_z_anisotropy_threshold", 3.0),
    }
    return Resampling.from_dict(content, f"resampling of {what}")


def orientation_of(plans: Mapping[str, Any]) -> str | None:
    """How the training arrays were stored, where the plans say so: "RAS"; else None."""
    return "RAS" if plans.get("image_reader_writer") == "NibabelIOWithReorient" else None


def mni_grid_of(plans: Mapping[str, Any]) -> str | None:
    """The MNI grid that the training scans filled, where their median shape is that of one."""
    shape = plans.get("original_median_shape_after_transp")
    spacing = plans.get("original_median_spacing_after_transp")
    if not isinstance(shape, list) or not isinstance(spacing, list) or len(shape) != 3:
        return None
    return grid_of_shape(tuple(round(n) for n in shape), tuple(spacing))

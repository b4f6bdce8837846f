"""From the tensors' names in nnU-Net's and MONAI's files to those of our networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# (pattern, replacement) in order, of names in nnU-Net's ``network_weights``.
_NNUNET = (
    (r"encoder\.stem\.convs\.0\.", "stem."),
    (r"encoder\.stages\.(\d+)\.(?:0\.)?convs\.(\d+)\.", r"encoder.\1.\2."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.\d+\.", r"encoder.\1.\2.shortcut."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.", r"encoder.\1.\2."),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.", r"decoder.\1.\2."),
    (r"decoder\.transpconvs\.(\d+)\.", r"ups.\1."),
)
# The decoder holds the encoder a second time, and each unit its layers a second time.
_NNUNET_TWICE = re.compile(r"decoder\.encoder\.|.*\.all_modules\.")
_NNUNET_HEAD = re.compile(r"decoder\.seg_layers\.(\d+)\.(weight|bias)")
# Wrappers that training leaves in names.
_WRAPPERS = ("module.", "_orig_mod.")


def nnunet_tensors(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """nnU-Net's ``network_weights`` under the names of ``window_unets``; the tensors are the same.

    Heads of deep supervision are left out: the finest is the last. Names that are not known keep
    theirs, so that whoever checks them against the network can name them.
    """
    found: dict[str, Any] = {}
    heads: dict[int, dict[str, Any]] = {}
    for original, tensor in tensors.items():
        name = _unwrapped(original)
        if _NNUNET_TWICE.match(name):
            continue
        head = _NNUNET_HEAD.fullmatch(name)
        if head:
            heads.setdefault(int(head[1]), {})[f"head.{head[2]}"] = tensor
            continue
        for pattern, replacement in _NNUNET:
            renamed, count = re.subn(f"^{pattern}", replacement, name)
            if count:
                name = renamed
                break
        found[name] = tensor
    return {**found, **(heads[max(heads)] if heads else {})}


def synthstroke_tensors(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of MONAI's ``UNet`` under the names of ``SynthStrokeUNet``.

    Its levels lie within one another: ``model.1.submodule.1.submodule.0`` is the way down of the
    third. The innermost one has no way up.
    """
    found = {}
    for original, tensor in tensors.items():
        name = _unwrapped(original).removeprefix("unet.").removeprefix("model.")
        level = 0
        while name.startswith("1.submodule."):
            name, level = name.removeprefix("1.submodule."), level + 1
        found[_synthstroke_name(name, level)] = tensor
    return found


def _synthstroke_name(name: str, level: int) -> str:
    part = re.match(r"(conv\.unit|residual\.)", name)
    if part:  # the bottom level stands alone
        return f"down.{level}.{_residual_name(name)}"
    if name.startswith("0."):
        return f"down.{level}.{_residual_name(name[2:])}"
    if name.startswith("2.0."):
        return f"up.{level}.0.{_unit_name(name[4:])}"
    if name.startswith("2.1."):
        return f"up.{level}.1.{_residual_name(name[4:])}"
    return name


def _residual_name(name: str) -> str:
    unit = re.match(r"conv\.unit(\d+)\.", name)
    if unit:
        return f"units.{unit[1]}.{_unit_name(name[unit.end() :])}"
    return re.sub(r"^residual\.", "shortcut.", name)


def _unit_name(name: str) -> str:
    return re.sub(r"^adn\.A\.", "act.", name)


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
    return name

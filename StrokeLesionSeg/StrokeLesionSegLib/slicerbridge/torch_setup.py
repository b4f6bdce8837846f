"""PyTorch: found, installed by Slicer's PyTorch extension with consent, and verified in a process.

We install nothing ourselves: the PyTorch extension knows which build fits Slicer and the graphics
card. Nothing is installed in testing mode or without a yes; a no changes nothing. numpy and
SimpleITK belong to Slicer: their versions are compared before and after.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from .i18n import tr as _

REQUIREMENT = ">=2.4"
_WATCHED = ("numpy", "SimpleITK", "scipy")

NEEDS_EXTENSION = _(
    "PyTorch is not installed yet.\n\n"
    "1. Open the Extensions Manager (View menu) and install the extension 'PyTorch'.\n"
    "2. Restart Slicer and press this button again.\n\n"
    "Without an internet connection: see the page 'Offline installation' of the manual."
)
TOO_OLD = _(
    "PyTorch {version} is installed, {needed} or newer is needed.\n\n"
    "Open the module 'PyTorch Utils' (category Utilities), uninstall PyTorch, restart Slicer and "
    "press this button again. Nothing was changed."
)
CONSENT = _(
    "StrokeLesionSeg needs PyTorch, which is not installed in this Slicer yet.\n\n"
    "Slicer's PyTorch extension will download and install it into this Slicer only "
    "(about 200 MB for computers without an NVIDIA card, up to 3 GB with one). "
    "This may take some minutes.\n\nInstall PyTorch now?"
)


@dataclass(frozen=True)
class TorchState:
    """``installed`` says that a package is there and new enough, not that it loads:
    ``verify_arguments`` does. ``version`` is also that of one that is too old."""

    installed: bool
    version: str = ""

    @property
    def too_old(self) -> bool:
        return bool(self.version) and not self.installed


class TorchDeclined(Exception):
    """The user said no, or may not be asked here. Nothing was changed."""


def torch_state() -> TorchState:
    """What is installed, without importing it (an imported torch cannot be repaired)."""
    importlib.invalidate_caches()
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return TorchState(False)
    return TorchState(_numbers(version) >= _numbers(REQUIREMENT), version)


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor version: (2, 4) of "2.4" with or without more behind it, and of ">=2.4"."""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:2])


def verify_arguments() -> list[str]:
    """Arguments of the command line that import torch and say what it can do, as JSON."""
    return ["info", "--json"]


def package_versions() -> dict[str, str]:
    """Versions of the packages that an installation must not change."""
    importlib.invalidate_caches()
    versions = {}
    for name in _WATCHED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def install_torch(confirm: Callable[[str], bool], testing: bool | None = None) -> TorchState:
    """Install PyTorch by the PyTorch extension, after ``confirm(text)`` returned True.

    Returns the state afterwards; an installed torch is left alone. Raises ``TorchDeclined`` after
    a no (here or in the extension's own question) and in testing mode, where the extension would
    not ask; ``RuntimeError`` if the extension is missing or installed nothing, or if Slicer's own
    packages were changed by it.
    """
    state = torch_state()
    if state.installed:
        return state
    if state.too_old:  # not replaced from here: other extensions may need that one
        raise RuntimeError(
            TOO_OLD.format(version=state.version, needed=REQUIREMENT.removeprefix(">="))
        )
    if _testing() if testing is None else testing:
        raise TorchDeclined(_("Nothing is installed in testing mode."))
    try:
        import PyTorchUtils
    except ImportError:
        raise RuntimeError(NEEDS_EXTENSION) from None
    if not confirm(CONSENT):
        raise TorchDeclined(_("PyTorch was not installed. Nothing was changed."))
    before = package_versions()
    logic: Any = PyTorchUtils.PyTorchUtilsLogic()
    try:
        # Our question named size and place: the extension need not ask again.
        torch = logic.installTorch(askConfirmation=False, torchVersionRequirement=REQUIREMENT)
    except TypeError:  # an older extension without these arguments
        torch = logic.installTorch()
    state = torch_state()
    if torch is None or not state.installed:
        raise RuntimeError(
            _(
                "The PyTorch extension did not install PyTorch. Its messages are in Slicer's "
                "Python console; the module 'PyTorch Utils' (category Utilities) offers others."
            )
        )
    changed = [
        f"{name} {version} became {after}"
        for name, version in before.items()
        if (after := package_versions().get(name, "missing")) != version
    ]
    if changed:
        raise RuntimeError(
            _(
                "PyTorch is installed, but packages of Slicer were changed with it: {changes}. "
                "Restart Slicer and run the system check before you go on."
            ).format(changes="; ".join(changed))
        )
    return state


def _testing() -> bool:
    import slicer

    return bool(slicer.app.testingEnabled())

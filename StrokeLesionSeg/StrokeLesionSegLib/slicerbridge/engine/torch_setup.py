"""PyTorch: found, installed by Slicer's PyTorch extension with consent, and verified in a process.

We install nothing ourselves: the PyTorch extension knows which build fits Slicer and the graphics
card. Nothing is installed in testing mode or without a yes; a no changes nothing. numpy and
SimpleITK belong to Slicer: their versions are compared before and after.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from ..i18n import tr as _
from .process import python_executable

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
NO_LAUNCHER = _(
    "This Slicer has no PythonSlicer, which the PyTorch extension installs with. Instead, enter in "
    "a terminal:\n\n"
    '"{python}" -m pip install "torch{needed}"\n\n'
    "Then restart Slicer. Without an internet connection: see the page 'Offline installation' of "
    "the manual."
)
FAILED = _(
    "PyTorch was not installed: {error}\n\n"
    "Slicer's Python console says more. Check the internet connection "
    "and the free space of the disk, and press this button again. Behind a firewall: see the page "
    "'Offline installation' of the manual."
)
DOES_NOT_LOAD = _(
    "PyTorch was installed but does not load: {error}\n\n"
    "Restart Slicer. If the system check then fails, open the module 'PyTorch Utils' (category "
    "Utilities), uninstall PyTorch and install it for the processor (cpu), or see the page "
    "'Offline installation' of the manual."
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
    not ask; ``RuntimeError`` with what to do if the extension or PythonSlicer is missing, if
    nothing was installed or it does not load, or if Slicer's own packages were changed by it.
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
    if shutil.which("PythonSlicer") is None:
        raise RuntimeError(NO_LAUNCHER.format(python=_own_python(), needed=REQUIREMENT))
    if not confirm(CONSENT):
        raise TorchDeclined(_("PyTorch was not installed. Nothing was changed."))
    before = package_versions()
    logic: Any = PyTorchUtils.PyTorchUtilsLogic()
    # Our question named size and place: the extension need not ask again.
    wanted = {"askConfirmation": False, "torchVersionRequirement": REQUIREMENT}
    known = inspect.signature(logic.installTorch).parameters  # an older one has fewer
    try:
        torch = logic.installTorch(**{n: value for n, value in wanted.items() if n in known})
    except (subprocess.CalledProcessError, ImportError, OSError) as error:
        text = DOES_NOT_LOAD if torch_state().installed else FAILED
        raise RuntimeError(text.format(error=_in_short(error))) from error
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


def _own_python() -> str:
    """The interpreter that packages of this Slicer are installed with."""
    try:
        return python_executable()
    except FileNotFoundError:
        return "python3"


def _in_short(error: Exception) -> str:
    """One line about an error; that of a process would repeat its long command."""
    if isinstance(error, subprocess.CalledProcessError):
        return _("pip ended with exit code {code}.").format(code=error.returncode)
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _testing() -> bool:
    import slicer

    return bool(slicer.app.testingEnabled())

"""Where models lie: shipped ones beside the Lib, a user's own in the user cache.

Names: a model is called by its name. The shipped models come first: ``install_model`` refuses to
install under the name of a shipped model, and should an update of StrokeLesionSeg later ship a
name that the user already has, the shipped model is used, a warning is logged, and the user's own
stays reachable as ``user/NAME``. ``shipped/NAME`` is the explicit form of the other. A path of a
directory that holds a ``manifest.json`` works wherever a name does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..resources import resource_path
from .manifest import MANIFEST_NAME, Manifest

HOME_VARIABLE = "STROKE_LESION_SEG_HOME"
_FOLDER = "stroke-lesion-seg"

#: What ``adapt`` keeps beside a model's weights: whose scans they have learnt from. It is in no
#: model that is passed on.
LOCAL_CARD = "local_card.json"
# Directories of a running or interrupted installation begin with a dot, no model's name does.
OLD_PREFIX = ".old-"
STAGE_PREFIX = ".install-"

log = logging.getLogger(__name__)

#: Stands for the home folder of a user who has none: nothing can lie below a device.
NO_HOME = Path(os.devnull)


def user_home() -> Path:
    """The user's data directory of this program; it need not exist.

    ``STROKE_LESION_SEG_HOME`` if set, else ``stroke-lesion-seg`` in the platform's place for
    user data: ``XDG_DATA_HOME`` or ``~/.local/share`` on Linux, ``~/Library/Application Support``
    on macOS, ``LOCALAPPDATA`` on Windows. Where the user has no home folder (containers), it is a
    path at which there is nothing and can be nothing.

    Examples
    --------
    >>> import os
    >>> from StrokeLesionSegLib.models import user_home
    >>> os.environ["STROKE_LESION_SEG_HOME"] = "here"
    >>> user_home().name
    'here'
    """
    override = os.environ.get(HOME_VARIABLE)
    if override:
        return Path(override).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(_home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(_home() / "Library" / "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME", "")
        # The XDG specification says that relative paths are to be ignored.
        if not os.path.isabs(base):
            base = str(_home() / ".local" / "share")
    return Path(base) / _FOLDER


def no_home() -> bool:
    """Whether this user has no place for data: nothing can be installed."""
    return NO_HOME in user_home().parents


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no HOME and no entry for this user
        return NO_HOME


def user_models_directory() -> Path:
    """The directory of the models that the user installed; it need not exist.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import user_home, user_models_directory
    >>> user_models_directory().relative_to(user_home()).as_posix()
    'models'
    """
    return user_home() / "models"


def shipped_models_directory() -> Path | None:
    """The directory of the shipped models, None if none are packaged."""
    try:
        return resource_path("Models")
    except FileNotFoundError:
        return None


def recover_interrupted() -> None:
    """Put back a model whose replacement was interrupted between its two renames."""
    with contextlib.suppress(OSError):
        for old in sorted(user_models_directory().glob(f"{OLD_PREFIX}*")):
            name = successor_of(old)
            target = old.with_name(name)
            if name and not target.exists():
                os.rename(old, target)


def successor_of(old: Path) -> str:
    """The name of the model that has replaced what lies in ``old``, a folder of ``OLD_PREFIX``."""
    return old.name[len(OLD_PREFIX) :].rsplit("-", 1)[0]


def _directories(root: Path | None) -> Iterator[Path]:
    if root is None or not root.is_dir():
        return
    for path in sorted(root.iterdir()):
        if not path.name.startswith(".") and (path / MANIFEST_NAME).is_file():
            yield path


def _roots() -> list[tuple[str, Path | None]]:
    recover_interrupted()
    return [("shipped", shipped_models_directory()), ("user", user_models_directory())]


def is_shipped(directory: Path) -> bool:
    """True if ``directory`` lies among the models that came with the program."""
    shipped = shipped_models_directory()
    return shipped is not None and shipped.resolve() in directory.resolve().parents


def namesakes(name: str) -> Iterator[Path]:
    """Directories of the models that are called so, in capitals or not: on Windows and macOS they
    are one directory."""
    for _, root in _roots():
        for directory in _directories(root):
            if directory.name.lower() == name.lower():
                yield directory


def refuse_taken_name(source: Path, name: str, remedy: str) -> None:
    """Raise ``InputError`` if a model that came with the program is called so, or if an installed
    one is but for capital letters."""
    for other in namesakes(name):
        if is_shipped(other):
            raise InputError(
                source, f"a model named {other.name} ships with StrokeLesionSeg", remedy
            )
        if other.name != name:
            cause = f"{name} differs from the installed model {other.name} in capitals alone"
            raise InputError(source, cause, remedy)


def list_models(problems: list[InputError] | None = None) -> list[Manifest]:
    """Manifests of all models, shipped first, each group by name; weights are not read.

    A model whose manifest cannot be used is left out: its ``InputError`` is appended to
    ``problems`` if given, and logged otherwise.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import list_models
    >>> all(manifest.license for manifest in list_models())
    True
    """
    found = []
    for _, root in _roots():
        for directory in _directories(root):
            try:
                found.append(Manifest.from_file(directory))
            except InputError as error:
                if problems is None:
                    log.warning("%s", error)
                else:
                    problems.append(error)
    return found


def find_model(name: str | os.PathLike[str] | None = None) -> Path:
    """Directory of the model ``name``, or of the default model.

    ``name`` may be a model's name, ``shipped/NAME``, ``user/NAME``, or the path of a directory
    with a ``manifest.json``. The default is the shipped model marked ``"default": true``, else
    the only shipped one, else the only one there is.

    Raises ``InputError`` that lists the known names if there is no such model.

    Examples
    --------
    >>> from StrokeLesionSegLib.models import find_model
    >>> (find_model() / "manifest.json").is_file()
    True
    >>> find_model("no such model")
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: no such model: there is no such model...
    """
    if name is None:
        return _default_model()
    text = os.fspath(name)
    candidates = []
    for group, root in _roots():
        for directory in _directories(root):
            if text in (directory.name, f"{group}/{directory.name}"):
                candidates.append(directory)
    if len(candidates) > 1:
        log.warning(
            "there is a shipped model and a user's model named %s; the shipped one is used, "
            "user/%s names the other",
            text,
            text,
        )
    if candidates:
        return candidates[0]
    path = Path(text)
    if text and (path / MANIFEST_NAME).is_file():
        return path
    names = [d.name for _, root in _roots() for d in _directories(root)]
    known = f"Known models: {', '.join(names)}" if names else "No model is installed"
    raise InputError(
        text or "model", "there is no such model", f"{known}; 'models install FILE' adds one"
    )


def _default_model() -> Path:
    shipped = list(_directories(shipped_models_directory()))
    usable = []
    for directory in shipped:
        with contextlib.suppress(InputError):
            manifest = Manifest.from_file(directory)
            if manifest.default:
                return directory
            usable.append(directory)
    if len(usable) == 1:
        return usable[0]
    if not usable:
        usable = list(_directories(_roots()[1][1]))
        if len(usable) == 1:
            return usable[0]
    if not usable:
        raise InputError(
            "model",
            "no model is installed",
            "Install one with 'stroke-lesion-seg models install FILE'",
        )
    raise InputError(
        "model",
        "several models are installed and none is the default",
        f"Name one with --model: {', '.join(d.name for d in usable)}",
    )

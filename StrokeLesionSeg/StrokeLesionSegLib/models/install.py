"""Installing a model from a file, offline, and removing one again.

Everything is verified in a temporary directory beside the final place before anything there is
touched; the replacement is two renames, and the old model is put back if the second one fails.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from ..errors import InputError
from ..outputs import read_json_object
from .foreign.choices import ImportChoices
from .load import verify_directory
from .manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MAX_WEIGHT_BYTES,
    Manifest,
    check_name_option,
    parse_json,
)
from .store import (
    LOCAL_CARD,
    OLD_PREFIX,
    STAGE_PREFIX,
    find_model,
    is_shipped,
    no_home,
    recover_interrupted,
    refuse_taken_name,
    successor_of,
    user_models_directory,
)
from .zip_safety import check_entries, opened

# A manifest, and at most ``MAX_WEIGHT_FILES`` of weights.
_MAX_ENTRIES = 80
_MAX_FILES = 5
_CHUNK = 1 << 20
# What a rename says where another process installs, lists or puts back the same model just then.
_MOVED_BY_OTHERS = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY)
_TRIES, _PAUSE_S = 20, 0.05
# No installation pauses for so long.
_ABANDONED_S = 86_400.0
_REMEDY = "Take the model from its publisher again"
# Told in Slicer's panel, too, which does not ask for a name.
_RENAME = "Give it another name with 'stroke-lesion-seg models install FILE --name NAME'"


def install_model(
    file: str | os.PathLike[str],
    choices: ImportChoices | None = None,
    *,
    python: str | None = None,
) -> Manifest:
    """Install a model into the user cache and return its manifest there.

    ``file`` is a zip that holds ``manifest.json`` and the weights, flat or one folder deep, or a
    directory of the same; or a model of others: a folder or zip of nnU-Net v2, a folder of
    SynthStroke. ``choices`` are for these, but for the name. A model of the same name is replaced
    only after the new one has been verified completely: sizes, SHA-256, manifest, network, names
    and shapes of all tensors. What is installed is a copy; ``file`` stays as it is. ``python``: the
    interpreter that reads a checkpoint in a process of its own, where this one's executable is no
    Python.

    Raises ``InputError`` for everything that is wrong with the file (names that leave the
    archive, links, absurd sizes included), for the name of a shipped model, of an installed one
    in other capitals or of another one that ``adapt`` has made here, and if the cache cannot be
    written; the model that was there before stays and works.

    Examples
    --------
    >>> import os
    >>> from StrokeLesionSegLib.models import install_model, load_model, write_model
    >>> os.environ["STROKE_LESION_SEG_HOME"] = os.path.abspath("home")  # not to touch your own
    >>> model = load_model()
    >>> content = {**model.manifest.to_dict(), "name": "mine", "default": False}
    >>> _ = write_model("mine", content, model.network.state_dict())
    >>> install_model("mine").directory.parent.name
    'models'
    """
    source = Path(file)
    if not source.exists():
        raise InputError(source, "there is no such file", "Check the path of the model to install")
    root = user_models_directory()
    if no_home():
        raise InputError(
            "HOME", "is not set, and this user has no home folder for the model",
            "Set STROKE_LESION_SEG_HOME to a folder",
        )  # fmt: skip
    try:
        root.mkdir(parents=True, exist_ok=True)
        recover_interrupted()
        _sweep(root)
        stage = Path(tempfile.mkdtemp(prefix=f"{STAGE_PREFIX}{_owner()}-", dir=root))
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        _stage(source, stage, choices or ImportChoices(), python)
        try:
            manifest = verify_directory(stage)
        except InputError as error:
            # Nobody knows the stage: the message has to name the file that the user gave.
            name = Path(error.where).name
            # Damaged weights are to be installed again, by whoever is about to install them.
            remedy = error.remedy if name == MANIFEST_NAME else _REMEDY
            raise InputError(f"{source}: {name}", error.cause, remedy) from error
        target = root / manifest.name
        refuse_taken_name(source, manifest.name, _RENAME)
        _keep_what_was_learnt_here(source, stage, target, manifest)
        # mkdtemp makes the directory private; a shared cache is the administrator's to decide.
        stage.chmod(0o777 & ~_umask())
        replace_directory(stage, target)
        return replace(manifest, directory=target)
    except OSError as error:
        raise _unwritable(root, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _stage(source: Path, stage: Path, choices: ImportChoices, python: str | None) -> None:
    """Manifest and weights of ``source`` in ``stage``, whosever model it is."""
    if not (source / MANIFEST_NAME).is_file():
        from .foreign.importing import is_foreign, packed_inside, stage_foreign
        from .foreign.package import open_package

        with open_package(source) as package:
            if is_foreign(package):
                stage_foreign(package, stage, choices, python)
                return
            whole = any(path.name == MANIFEST_NAME for path in package.files)
            packed = [] if whole else packed_inside(package)
            if packed:
                raise InputError(
                    source, f"contains another zip instead of a model ({packed[0]})",
                    "Unpack it and name the zip inside",
                )  # fmt: skip
    if replace(choices, name=None) != ImportChoices():
        raise InputError(
            source,
            "is not a model of nnU-Net or SynthStroke, so options but --name do not apply",
            "Leave out the options",
        )
    if choices.name is not None:
        check_name_option(choices.name)
    if source.is_dir():
        _copy_directory(source, stage)
    else:
        _extract(source, stage)
    if choices.name is not None:
        path = stage / MANIFEST_NAME
        content = {**parse_json(path.read_text(encoding="utf-8"), source), "name": choices.name}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")


def _keep_what_was_learnt_here(source: Path, stage: Path, target: Path, new: Manifest) -> None:
    """The card of a model that ``adapt`` has made here stays with its weights.

    Raises ``InputError`` if others would replace them: a colleague's model is called the same.
    """
    card = target / LOCAL_CARD
    if not card.is_file():
        return
    if read_json_object(card).get("sha256") != new.weight_files[0]["sha256"]:
        raise InputError(
            source,
            f"would replace {new.name}, a model that was adapted on this computer",
            f"{_RENAME}, or remove the one that is here",
        )
    shutil.copyfile(card, stage / LOCAL_CARD)


def _owner() -> str:
    """Machine and process, for the name of a stage."""
    machine = hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{machine}-{os.getpid()}"


def _sweep(root: Path) -> None:
    """Delete what installations that were killed have left: gigabytes, at times.

    A stage whose process is gone is deleted, and one of another machine (the cache may lie on a
    shared disk) or of an unknown process once nothing has changed in it for a day.
    """
    for path in root.glob(f"{STAGE_PREFIX}*"):
        machine, number, *rest = [*path.name[len(STAGE_PREFIX) :].split("-"), "", ""]
        ours = bool(rest[0]) and machine == _owner().split("-")[0] and number.isdigit()
        if (_ended(int(number)) if ours else False) or _age_s(path) > _ABANDONED_S:
            shutil.rmtree(path, ignore_errors=True)
    for old in root.glob(f"{OLD_PREFIX}*"):
        # Replaced, but not deleted any more; one without a successor was put back before.
        if (root / successor_of(old) / MANIFEST_NAME).is_file():
            shutil.rmtree(old, ignore_errors=True)


def _ended(process: int) -> bool:
    """Whether a process of this machine is certainly gone."""
    if os.name == "nt":  # asking would end it there
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _age_s(folder: Path) -> float:
    """Seconds since anything changed in a folder; 0 if nobody can say."""
    try:
        times = [path.stat().st_mtime for path in (folder, *folder.iterdir())]
    except OSError:
        return 0.0
    return time.time() - max(times)


def remove_model(name: str) -> Path:
    """Delete a model of the user cache; returns the directory that was removed.

    Raises ``InputError`` for a shipped model, one outside the cache, an unknown one, or if the
    directory cannot be deleted.

    Examples
    --------
    >>> import os
    >>> from StrokeLesionSegLib.models import install_model, load_model, remove_model, write_model
    >>> os.environ["STROKE_LESION_SEG_HOME"] = os.path.abspath("home")  # not to touch your own
    >>> model = load_model()
    >>> content = {**model.manifest.to_dict(), "name": "mine", "default": False}
    >>> _ = install_model(write_model("mine", content, model.network.state_dict()).directory)
    >>> remove_model("mine").exists()
    False
    """
    directory = find_model(name)
    if is_shipped(directory):
        raise InputError(
            name, "this model ships with StrokeLesionSeg", "Only models you installed are removed"
        )
    root = user_models_directory()
    if directory.resolve().parent != root.resolve():
        raise InputError(name, f"this model is not in {root}", "Delete its folder yourself")

    # Renamed first: an interrupted deletion must not leave half a model under its name. The
    # prefix is that of a stage, which nobody restores.
    def doom(path: Path) -> None:
        doomed = root / f"{STAGE_PREFIX}{directory.name}-{secrets.token_hex(4)}"
        os.rename(path, doomed)
        shutil.rmtree(doomed)

    try:
        # What this model has replaced, where that was not deleted then: once its successor is gone,
        # it would be put back.
        for old in root.glob(f"{OLD_PREFIX}*"):
            if successor_of(old) == directory.name:
                doom(old)
        doom(directory)
    except OSError as error:
        raise _unwritable(directory, error) from error
    return directory


def replace_directory(stage: Path, target: Path) -> None:
    """Put directory ``stage`` in the place of ``target``, which may exist; both on one disk.

    Raises ``OSError`` if that fails; ``target`` is then what it was before.
    """
    for left in reversed(range(_TRIES)):
        try:
            return _replace(stage, target)
        except OSError as error:
            if error.errno not in _MOVED_BY_OTHERS or not left:
                raise
            time.sleep(_PAUSE_S)


def _replace(stage: Path, target: Path) -> None:
    if not os.path.lexists(target):
        os.rename(stage, target)
        return
    old = target.with_name(f"{OLD_PREFIX}{target.name}-{secrets.token_hex(4)}")
    os.rename(target, old)
    try:
        os.rename(stage, target)
    except BaseException:
        # Where another process was first, the old model is that one's to put back or to delete.
        with contextlib.suppress(OSError):
            os.rename(old, target)
        raise
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        path,
        f"the model cache cannot be written ({error.strerror or error})",
        "Free space, correct the permissions, or set STROKE_LESION_SEG_HOME to another folder",
    )


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _copy_directory(source: Path, stage: Path) -> None:
    manifest_path = source / MANIFEST_NAME
    if manifest_path.is_symlink():
        raise InputError(manifest_path, "the manifest is a symbolic link", _REMEDY)
    manifest = Manifest.from_file(source)
    paths = [manifest_path]
    for promised in manifest.weight_files:
        weights = source / promised["file"]
        if weights.is_symlink():
            raise InputError(weights, "the weights are a symbolic link", _REMEDY)
        if not weights.is_file():
            raise InputError(weights, "the weights are missing", _REMEDY)
        if weights.stat().st_size != promised["bytes"]:
            raise InputError(
                weights, "the size of the weights is not what the manifest says", _REMEDY
            )
        paths.append(weights)
    for path in paths:
        try:
            stream = path.open("rb")
        except OSError as error:
            raise InputError(
                path, f"cannot be read ({error.strerror})", "Check its permissions"
            ) from error
        with stream, (stage / path.name).open("xb") as out:
            shutil.copyfileobj(stream, out, _CHUNK)
            _flush(out)


def _flush(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _extract(source: Path, stage: Path) -> None:
    """Unpack manifest and weights, and only those, after every entry was looked at."""
    with opened(source) as archive:
        files = check_entries(
            archive, source, most=_MAX_ENTRIES, limit=_MAX_FILES * MAX_WEIGHT_BYTES
        )
        manifests = [p for p in files if p.name == MANIFEST_NAME and len(p.parts) <= 2]
        if len(manifests) != 1:
            cause = "no manifest.json" if not manifests else "more than one manifest.json"
            raise InputError(source, f"the archive contains {cause}", _REMEDY)
        folder = manifests[0].parent
        text = _bounded(archive, files[manifests[0]], MAX_MANIFEST_BYTES, source)
        where = f"{source}/{manifests[0]}"
        try:
            content = parse_json(text.decode("utf-8"), where)
        except UnicodeDecodeError:
            raise InputError(where, "the manifest is not UTF-8 text", _REMEDY) from None
        manifest = Manifest.from_dict(content, where=where)
        _write(stage / MANIFEST_NAME, [text])
        for promised in manifest.weight_files:
            weights = files.get(folder / promised["file"])
            if weights is None:
                raise InputError(source, f"the archive lacks {promised['file']}", _REMEDY)
            if weights.file_size != promised["bytes"]:
                raise InputError(
                    source, "the size of the weights is not what the manifest says", _REMEDY
                )
            with archive.open(weights) as stream:
                _write(stage / promised["file"], _chunks(stream, promised["bytes"]))


def _bounded(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int, source: Path) -> bytes:
    with archive.open(info) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise InputError(source, f"{info.filename} is larger than {limit} bytes", _REMEDY)
    return data


def _chunks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Exactly ``size`` bytes of a stream, whatever its headers say about its length."""
    left = size
    while left > 0:
        data = stream.read(min(_CHUNK, left))
        if not data:
            raise zipfile.BadZipFile("the weights end too early")
        left -= len(data)
        yield data
    if stream.read(1):
        raise zipfile.BadZipFile("the weights are longer than promised")


def _write(path: Path, parts: Iterable[bytes]) -> None:
    with path.open("xb") as out:
        for part in parts:
            out.write(part)
        _flush(out)

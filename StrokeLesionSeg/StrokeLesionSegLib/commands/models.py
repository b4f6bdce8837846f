"""``stroke-lesion-seg models``: what is installed, is it whole, install from a file, remove."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import path
from .progress import print_json
from .tables import print_table
from .verbosity import say

if TYPE_CHECKING:
    from ..models import Manifest


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "models",
        help="list, verify, install and remove models",
        description="List, verify, install and remove models. Everything works offline.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="show the models that are installed")
    listing.add_argument("--json", action="store_true", help="print the whole manifests as JSON")
    listing.set_defaults(run=run_list)

    verify = actions.add_parser("verify", help="check the weights against their SHA-256")
    verify.add_argument("name", nargs="*", metavar="NAME", help="default: all models")
    verify.set_defaults(run=run_verify)

    install = actions.add_parser("install", help="install a model from a file, offline")
    install.add_argument(
        "file",
        type=path,
        metavar="FILE",
        help="zip or folder of a model: ours, nnU-Net v2's or SynthStroke's",
    )
    install.add_argument("--name", help="the model's name here (default: as its file says)")
    others = install.add_argument_group("for third-party models, where their files do not say")
    others.add_argument("--configuration", help="of nnU-Net, such as 3d_fullres")
    others.add_argument("--folds", metavar="N,N", help="default: all that are there")
    others.add_argument("--lesion", metavar="LABEL", help="which of several labels is the lesion")
    others.add_argument(
        "--space",
        metavar="SPACE",
        help="where the training scans lay: native, or an MNI grid (mni152-fsl-1mm, "
        "mni152-fsl-2mm, mni152-2009a-1mm, mni152-2009c-1mm)",
    )
    others.add_argument(
        "--orientation",
        metavar="ABC",
        help="how the training scans' arrays were stored, such as RAS or LPS",
    )
    others.add_argument("--license", help="of the weights, as their authors state it")
    others.add_argument("--source", help="where they are published, for the records")
    install.set_defaults(run=run_install)

    remove = actions.add_parser("remove", help="remove a model that was installed from a file")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=run_remove)


def run_list(arguments: argparse.Namespace) -> None:
    from ..models import find_model, list_models

    problems: list[InputError] = []
    manifests = list_models(problems)
    states = [_state(m, problems) for m in manifests]
    if arguments.json:
        listed = zip(manifests, states, strict=True)
        print_json({"models": [{**m.to_dict(), "state": state} for m, state in listed]})
    elif manifests:
        try:
            default = find_model(None)
        except InputError:
            default = None
        rows = [
            [
                m.name + (" *" if m.directory == default else ""),
                m.version,
                state,
                m.contrast,
                f"{sum(w['bytes'] for w in m.weight_files) / 1e6:.1f}",
                *_space_time_memory(m),
                m.license,
                m.title,
            ]
            for m, state in zip(manifests, states, strict=True)
        ]
        columns = (
            "name (* default)",
            "version",
            "state",
            "contrast",
            "MB",
            "space",
            "time",
            "memory",
        )
        print_table((*columns, "licence", "title"), rows)
        for manifest in manifests:
            print(f"{manifest.name}: {manifest.intended_use}")
    else:
        print("no model is installed; 'stroke-lesion-seg models install FILE' adds one")
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)


def _state(manifest: Manifest, problems: list[InputError]) -> str:
    """``ok`` or ``damaged``, by the checksums of the weights; the network is not built."""
    from ..pipeline import sha256_of

    assert manifest.directory is not None
    for promised in manifest.weight_files:
        file = manifest.directory / promised["file"]
        try:
            found = sha256_of(file)
        except OSError as error:
            problems.append(
                InputError(file, f"cannot be read ({error.strerror})", "Install the model again")
            )
            return "damaged"
        if found != promised["sha256"]:
            problems.append(
                InputError(
                    file,
                    "is not the file that the manifest names (its SHA-256 differs)",
                    "Install the model again",
                )
            )
            return "damaged"
    return "ok"


def _space_time_memory(manifest: Manifest) -> list[str]:
    """Of a model of others, as measured when it was installed; a dash for what nobody measured."""
    from ..inference import expected_run

    expected = expected_run(manifest)
    space = "MNI152 2009a" if manifest.windows is None else manifest.windows.space.in_words
    if expected is None:
        return [space, "-", "-"]
    return [space, expected.time_in_words, expected.memory_in_words]


def run_verify(arguments: argparse.Namespace) -> None:
    from ..models import list_models, verify_model

    problems: list[InputError] = []
    # The directories, not the names: two models may have one name.
    targets: list[Any] = list(arguments.name) or [m.directory for m in list_models(problems)]
    if not targets and not problems:
        raise InputError("models", "no model is installed", "Install one with 'models install'")
    for target in targets:
        try:
            manifest = verify_model(target)
        except InputError as fault:
            problems.append(fault)
        else:
            say(f"{manifest.name} {manifest.version}: ok, SHA-256 {manifest.sha256}")
    for problem in problems[:-1]:
        print(f"stroke-lesion-seg: {problem}", file=sys.stderr)
    if problems:
        raise problems[-1]


def run_install(arguments: argparse.Namespace) -> None:
    from ..models import ImportChoices, install_model, list_models
    from ..models.store import is_shipped

    folds = arguments.folds
    choices = ImportChoices(
        arguments.name,
        arguments.configuration,
        None if folds is None else tuple(n.strip() for n in folds.split(",") if n.strip()),
        arguments.lesion,
        arguments.space,
        arguments.orientation,
        arguments.license,
        arguments.source,
    )
    before = {m.name: m for m in list_models([]) if m.directory and not is_shipped(m.directory)}
    manifest = install_model(arguments.file, choices)
    say(f"{manifest.name} {manifest.version} is installed in {manifest.directory}")
    old = before.get(manifest.name)
    if old is not None:
        same = old.weight_files == manifest.weight_files
        say("it was there already" if same else f"it replaces {old.name} {old.version}")
    if manifest.windows is not None:
        space, time, memory = _space_time_memory(manifest)
        say(f"works on: {space}; a scan takes about {time} and {memory} on this computer")


def run_remove(arguments: argparse.Namespace) -> None:
    from ..models import remove_model

    say(f"removed {remove_model(arguments.name)}")

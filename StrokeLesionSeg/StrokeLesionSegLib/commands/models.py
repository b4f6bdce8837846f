"""``stroke-lesion-seg models``: what is installed, is it whole, install from a file, remove."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..errors import InputError
from .options import path
from .progress import print_json
from .tables import print_table


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "models",
        help="list, verify, install and remove models",
        description="The models that the network's weights come from. Everything works offline.",
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
    install.add_argument("file", type=path, metavar="FILE", help="zip (or folder) of a model")
    install.set_defaults(run=run_install)

    remove = actions.add_parser("remove", help="remove a model that was installed from a file")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=run_remove)


def run_list(arguments: argparse.Namespace) -> None:
    from ..models import find_model, list_models

    problems: list[InputError] = []
    manifests = list_models(problems)
    if arguments.json:
        print_json({"models": [m.to_dict() for m in manifests]})
    elif manifests:
        try:
            default = find_model(None)
        except InputError:
            default = None
        rows = [
            [
                m.name + (" *" if m.directory == default else ""),
                m.version,
                m.contrast,
                f"{m.weights['bytes'] / 1e6:.1f}",
                m.license,
                m.title,
            ]
            for m in manifests
        ]
        print_table(("name (* default)", "version", "contrast", "MB", "licence", "title"), rows)
        for manifest in manifests:
            print(f"{manifest.name}: {manifest.intended_use}")
    else:
        print("no model is installed; 'stroke-lesion-seg models install FILE' adds one")
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)


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
            print(f"{manifest.name} {manifest.version}: ok, SHA-256 {manifest.weights['sha256']}")
    for problem in problems[:-1]:
        print(f"stroke-lesion-seg: {problem}", file=sys.stderr)
    if problems:
        raise problems[-1]


def run_install(arguments: argparse.Namespace) -> None:
    from ..models import install_model

    manifest = install_model(arguments.file)
    print(f"{manifest.name} {manifest.version} is installed in {manifest.directory}")


def run_remove(arguments: argparse.Namespace) -> None:
    from ..models import remove_model

    print(f"removed {remove_model(arguments.name)}")

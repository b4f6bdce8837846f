"""``stroketrain clicks``: see ``judge.command``."""

from __future__ import annotations

from typing import Any

from ..judge.command import clicks_parser, run_command


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    clicks_parser(commands)
    commands.choices["clicks"].set_defaults(run=run_command)

"""What is written down about an adapted model: counts and figures in its manifest, which travel
with it, and everything else in a local card, which does not.

The local card lies beside the weights in the user's cache. A model packed for a colleague
(``models.pack_model``) is manifest and weights alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...models import Manifest
from ...models.store import LOCAL_CARD
from ...outputs import atomic_file

#: The manifest's entry in ``training`` that says a model was adapted.
ADAPTED = "adapted"


@dataclass(frozen=True)
class Ancestry:
    """Of a model and all before it. ``learnt``: subjects that were learnt from. ``kept``: those
    that judged. ``generation``: how often it was adapted."""

    learnt: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    generation: int = 0


def ancestry_of(manifest: Manifest, no_shared_subjects: bool = False) -> Ancestry:
    """Whom ``manifest``'s model and its ancestors have learnt from.

    Raises ``InputError`` for an adapted model whose local card is not here, unless nobody is
    shared: otherwise a subject it has learnt from might judge.
    """
    facts = manifest.training.get(ADAPTED)
    if not isinstance(facts, Mapping):
        return Ancestry()
    generation = int(facts.get("generation", 1))
    path = None if manifest.directory is None else manifest.directory / LOCAL_CARD
    try:
        if path is None:
            raise FileNotFoundError(LOCAL_CARD)
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["sha256"] != manifest.weights["sha256"]:
            raise ValueError("it belongs to other weights")
        return Ancestry(tuple(card["learnt"]), tuple(card["kept"]), generation)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if no_shared_subjects:
            return Ancestry((), (), generation)
        raise InputError(
            manifest.name,
            "was adapted elsewhere, and the list of its training subjects is not on this computer",
            "Start from the model that ships, or add --no-shared-subjects if none of these "
            "subjects is among them",
        ) from error


@dataclass(frozen=True)
class Table:
    """A table of figures for people: ``title``, ``columns``, ``rows`` of texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """In plain columns."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[n]) for line in lines) for n in range(len(self.columns))]
        out = [self.title]
        for line in lines:
            cells = zip(line, widths, strict=True)
            out.append("  ".join(text.ljust(width) for text, width in cells).rstrip())
        return "\n".join(out)


@dataclass(frozen=True)
class LocalCard:
    """What stays here: ``facts`` (data, subjects, split, seed, times, parent), tables, and whom
    this model and its ancestors have learnt from and been judged by."""

    facts: Mapping[str, Any]
    tables: Sequence[Table]
    learnt: tuple[str, ...]
    kept: tuple[str, ...]
    verdict: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path, sha256: str | None) -> None:
        """Write it as JSON; ``sha256`` of the weights that it belongs to.

        Raises ``InputError`` if it cannot be written.
        """
        content = {
            "sha256": sha256,
            **self.facts,
            "learnt": list(self.learnt),
            "kept": list(self.kept),
            "verdict": dict(self.verdict),
            "tables": [
                {"title": t.title, "columns": t.columns, "rows": t.rows} for t in self.tables
            ],
        }
        with atomic_file(path) as part:
            part.write_text(
                json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n",
                encoding="utf-8",
            )

"""A run over a folder from the panel: arguments for the command line, and its progress in words."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...spaces import SPACES
from ..engine_words import said, stage_name
from ..i18n import tr as _
from .process import Progress
from .run import RunParameters


def batch_available() -> bool:
    """True if the installed command line can run over a folder."""
    from ... import cli

    return "batch" in getattr(cli, "COMMANDS", ())


@dataclass(frozen=True)
class BatchParameters:
    """Folder in, folder out, and the parameters of each run. ``preview``: say what would be done,
    and write nothing. ``in_mni``: results in MNI space, too."""

    source: str
    target: str
    resume: bool = True
    run: RunParameters = field(default_factory=RunParameters)
    preview: bool = False
    in_mni: bool = False

    def problem(self) -> str:
        """Why it cannot start, or nothing."""
        if not self.source.strip():
            return _("Choose the folder with the scans.")
        if not os.path.isdir(folder_of(self.source)):
            return _("There is no folder {folder}.").format(folder=self.source)
        if not self.target.strip():
            return _("Choose the folder for the results.")
        if folder_of(self.source) == folder_of(self.target):
            return _("The results need a folder of their own.")
        return ""

    def arguments(self) -> list[str]:
        """As arguments of the command line."""
        return [
            "batch",
            # The child works in a folder of its own, where a relative path means something else.
            str(folder_of(self.source)),
            str(folder_of(self.target)),
            "--resume" if self.resume else "--no-resume",
            "--progress",
            "json",
            *(("--dry-run",) if self.preview else ()),
            *(("--space", ",".join(SPACES)) if self.in_mni else ()),
            *self.run.arguments(),
        ]


def folder_of(typed: str) -> Path:
    """A folder as the form has it; blanks around it were typed by mistake, and no shell has put
    the home folder for a tilde."""
    return Path(os.path.expanduser(typed.strip())).resolve()


def progress_text(event: Progress, seconds: float = 0.0, before: int = 0) -> str:
    """One line for the panel; ``seconds`` since the start, ``before``: scans that were done by
    then, which took none of them."""
    if event.total:
        text = _("{done} of {total} scans done").format(done=event.done, total=event.total)
        if before < event.done < event.total and seconds > 0:
            left = seconds / (event.done - before) * (event.total - event.done)
            text += ", " + _of(
                max(1, round(left / 60)), _("about a minute left"), _("about {count} minutes left")
            )
        return text
    return stage_name(event.stage)


def plan_text(result: dict[str, Any] | None) -> str:
    """One line about what a batch would do, from what the engine said."""
    found = result or {}
    planned, left = found.get("planned") or [], found.get("left_out") or {}
    text = _of(len(planned), _("1 scan would be done"), _("{count} scans would be done"))
    if found.get("skipped"):
        text += ", " + _before(found["skipped"])
    if left:
        text += ", " + _of(len(left), _("1 image is left out"), _("{count} images are left out"))
    return text + "."


def _of(count: Any, one: str, many: str) -> str:
    """A text for one, or for another number."""
    return one if count == 1 else many.format(count=count)


def _before(count: Any) -> str:
    return _of(count, _("1 was done before"), _("{count} were done before"))


def plan_rows(result: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What would be done and what is left out, as rows of the table of results."""
    found = result or {}
    planned = [row_of(item.get("stem", ""), "planned") for item in found.get("planned") or []]
    left = found.get("left_out") or {}
    return planned + [row_of(name, "left out", error=said(why)) for name, why in left.items()]


def row_of(stem: str, state: str, **facts: Any) -> dict[str, Any]:
    """A row of the table of results, of a scan of which no more is known than ``facts``."""
    unknown = {"lesions": None, "volume_ml": None, "corrected": False}
    return {"scan": stem, "state": state, **unknown, **facts}


def rows_told(event: Progress) -> dict[str, dict[str, Any]]:
    """By stem, the rows of the scans that an event of a batch tells of."""
    facts = event.facts
    if facts.get("state") in ("waiting", "running"):
        return {stem: row_of(stem, facts["state"]) for stem in facts.get("stems") or ()}
    ended = facts.get("scan") or {}
    if not ended.get("stem"):
        return {}
    told = {name: ended.get(name) for name in ("lesions", "volume_ml", "error")}
    return {ended["stem"]: row_of(ended["stem"], str(ended.get("state")), **told)}


def result_text(result: dict[str, object] | None) -> str:
    """The last line, from what the engine said at the end."""
    if not result:
        return _("Done.")
    parts = [_("{count} done").format(count=result.get("done", 0))]
    if result.get("skipped"):
        parts.append(_before(result["skipped"]))
    if result.get("failed"):
        parts.append(_("{count} could not be used").format(count=result["failed"]))
    text = _of(result.get("scans", 0), _("1 scan:"), _("{count} scans:"))
    text += " " + ", ".join(parts) + "."
    if result.get("done") or result.get("skipped"):
        text += " " + _("Double-click one to see and correct its mask.")
    failures = result.get("failures")
    if isinstance(failures, list) and failures:
        first = failures[0]
        text += "\n" + _("First of them: {file}: {error}").format(
            file=first.get("source", ""), error=first.get("error", "")
        )
    return text


def learning_text(event: Progress) -> str:
    """One line about a model that learns."""
    stage = stage_name(event.stage)
    if event.total:
        share = _("{percent} %").format(percent=round(100 * event.done / event.total))
        return _("{stage}: {share}").format(stage=stage, share=share)
    return stage + "..."


def learnt_text(result: dict[str, object] | None) -> str:
    """What became of it, from what the engine said at the end."""
    if not result:
        return _("Done.")
    if result.get("installed"):
        text = _(
            "{name} is installed and chosen under Advanced: it is better on scans that it was not "
            "trained on."
        )
        return text.format(name=result["installed"])
    reasons = result.get("reasons")
    listed = map(str, reasons) if isinstance(reasons, list) else ()
    told = "; ".join(said(reason.rstrip(". ")) for reason in listed)
    return _("The model stays as it was: {reasons}.").format(reasons=told)

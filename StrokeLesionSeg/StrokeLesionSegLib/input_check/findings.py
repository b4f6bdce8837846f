"""What a check of an input finds, and what follows from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import InputError

Level = Literal["refuse", "warn"]


@dataclass(frozen=True)
class Finding:
    """One thing about an input that speaks against a good result.

    Attributes
    ----------
    level: "refuse" (not segmented unless forced) or "warn".
    code: a short name for programs, for example "label-map".
    text: what is wrong, a clause that follows the file's name. remedy: what to do, a sentence.

    Examples
    --------
    >>> from StrokeLesionSegLib.input_check import Finding
    >>> Finding("refuse", "mask", "is a mask").as_dict()
    {'level': 'refuse', 'code': 'mask', 'text': 'is a mask'}
    """

    level: Level
    code: str
    text: str
    remedy: str = "Give the T1-weighted scan"

    def as_dict(self) -> dict[str, str]:
        """For sidecars."""
        return {k: v for k, v in asdict(self).items() if k != "remedy"}


def refuse_or_warn(
    where: str | os.PathLike[str], findings: Sequence[Finding], *, force: bool
) -> list[str]:
    """The warnings to tell, one sentence each.

    With ``force`` findings that would refuse are told as warnings. Otherwise raises ``InputError``
    with all of them.

    Examples
    --------
    >>> from StrokeLesionSegLib.input_check import Finding, refuse_or_warn
    >>> findings = [Finding("refuse", "mask", "is a mask")]
    >>> refuse_or_warn("a.nii", findings, force=True)
    ['The scan is a mask (segmented all the same).']
    >>> refuse_or_warn("a.nii", findings, force=False)
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: a.nii: is a mask...
    """
    reasons = [finding for finding in findings if finding.level == "refuse"]
    if reasons and not force:
        remedy = reasons[0].remedy.rstrip(". ")
        raise InputError(
            where,
            "; ".join(finding.text.rstrip(". ") for finding in reasons),
            f"{remedy}, or segment it all the same with --force",
        )
    return [sentence(finding) for finding in findings]


def sentence(finding: Finding) -> str:
    """A finding as a warning.

    Examples
    --------
    >>> from StrokeLesionSegLib.input_check import Finding, sentence
    >>> sentence(Finding("warn", "size", "is small"))
    'The scan is small.'
    """
    text = finding.text.rstrip(". ")
    forced = " (segmented all the same)" if finding.level == "refuse" else ""
    end = "" if f"{text}{forced}".endswith("?") else "."
    return f"The scan {text}{forced}{end}"


def for_sidecar(findings: Iterable[Finding], *, force: bool) -> dict[str, Any]:
    """What the sidecar says of the check.

    Examples
    --------
    >>> from StrokeLesionSegLib.input_check import Finding, for_sidecar
    >>> for_sidecar([Finding("refuse", "mask", "is a mask")], force=True)["forced"]
    True
    """
    found = list(findings)
    return {
        "forced": force and any(f.level == "refuse" for f in found),
        "findings": [f.as_dict() for f in found],
    }

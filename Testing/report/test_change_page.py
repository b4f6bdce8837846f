"""The page of two scans of one person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from StrokeLesionSegLib.lesions import Summary
from StrokeLesionSegLib.lesions.change import NOT_COVERED, GroupChange
from StrokeLesionSegLib.report import ChangeContent, ChangeSide, write_change_report


def test_a_lesion_that_only_the_later_scan_covers_is_shown(tmp_path: Path) -> None:
    """The earlier scan ends below it."""
    whole = np.zeros((60, 60, 60), np.float32)
    whole[5:55, 5:55, 5:55] = 100
    part = whole.copy()
    part[30:] = 0
    labels = np.zeros(whole.shape, np.int32)
    labels[40:50, 20:30, 20:30] = 1
    first = ChangeSide("first", part, labels * 0, Summary(0, 0, 0, 0, 0, ""))
    second = ChangeSide("second", whole, labels, Summary(1, 1.0, 1.0, 0, 1.0, ""))
    group = GroupChange(1, NOT_COVERED, (), (1,), 0.0, 0.0, 1.0, "left")
    content = ChangeContent(first, second, np.eye(4), (group,), 0.99)
    write_change_report(tmp_path / "change.html", content)
    page = (tmp_path / "change.html").read_text(encoding="utf-8")
    # In all three planes of the later scan.
    assert page.count('class="lesion"') == 3


def test_it_is_told_that_not_all_groups_are_shown(tmp_path: Path) -> None:
    whole = np.zeros((60, 60, 60), np.float32)
    whole[5:55, 5:55, 5:55] = 100
    labels = np.zeros(whole.shape, np.int32)
    for number in range(13):
        labels[8 + 3 * number, 20:25, 20:25] = number + 1
    first = ChangeSide("first", whole, labels * 0, Summary(0, 0, 0, 0, 0, ""))
    second = ChangeSide("second", whole, labels, Summary(13, 0.3, 0.3, 0, 0.1, ""))
    groups = [GroupChange(n, "new", (), (n,), 0.0, 0.025, 0.0, "left") for n in range(1, 14)]
    for count, said in ((12, 0), (13, 1)):
        content = ChangeContent(first, second, np.eye(4), groups[:count], 0.99)
        write_change_report(tmp_path / "change.html", content)
        page = (tmp_path / "change.html").read_text(encoding="utf-8")
        assert page.count("Only the 12 largest of 13 groups are shown.") == said

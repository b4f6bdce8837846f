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

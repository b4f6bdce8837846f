"""Pictures of the pages of changes for docs/compare.md, in a headless Chromium.

    python Testing/study/study_pictures.py OUT

OUT is what ``whole_study.py`` has made.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "report"), str(ROOT / "StrokeLesionSeg")]

from chromium import Browser  # noqa: E402
from page_pictures import PICTURES, smaller  # noqa: E402


def take(folder: Path, profile: Path) -> None:
    """The page of all pairs, on screen and on a phone, and the page of a pair on paper."""
    out = folder / "derivative"
    pair = out / "group_change" / "sub-03_ses-1_ses-2_change.html"
    with Browser(profile) as browser:
        browser.open(out / "group_change.html")
        browser.resize(1100, 980)
        browser.screenshot(PICTURES / "change-group.png")
        browser.resize(390, 844, phone=True)
        browser.screenshot(PICTURES / "change-phone.png")
        browser.open(pair)
        browser.emulate("print")
        browser.resize(794, 1123)
        browser.screenshot(PICTURES / "change-print.png")
    for picture in PICTURES.glob("change-*.png"):
        smaller(picture)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        take(Path(sys.argv[1]), Path(made) / "profile")

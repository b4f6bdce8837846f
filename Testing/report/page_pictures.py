"""Pictures of the pages for docs/pages.md: a study of simulated strokes in a headless Chromium.

    python Testing/report/page_pictures.py [OUT]

puts ``pages-*.png`` into docs/pictures. OUT is a batch of simulated strokes that is there already
(made with --reports, of BIDS input with participants.tsv); without it six are simulated and
segmented, in a minute or a few.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "StrokeLesionSeg")]

from chromium import Browser  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
READY = "document.querySelector('#viewer').dataset.ready"
SCANS = 6


def simulated_study(folder: Path) -> Path:
    """A BIDS data set of simulated strokes of two invented sites, and what a batch makes of it."""
    from StrokeLesionSegLib.cli import main
    from StrokeLesionSegLib.commands.demo import _simulate
    from StrokeLesionSegLib.images import write_volume

    source, out = folder / "in", folder / "out"
    rows = ["participant_id\tsite\tgroup\tage"]
    for n in range(SCANS):
        name = f"sub-{n + 1:02d}"
        (source / name / "anat").mkdir(parents=True)
        write_volume(source / name / "anat" / f"{name}_T1w.nii.gz", _simulate(n).t1)
        site, group = ("Hill", "Harbour")[n % 2], ("aphasia", "no aphasia")[n % 3 > 0]
        rows.append(f"{name}\t{site}\t{group}\t{51 + 5 * n}")
    (source / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (source / "dataset_description.json").write_text(
        '{"Name": "Simulated strokes", "BIDSVersion": "1.10.0"}', encoding="utf-8"
    )
    assert main(["batch", str(source), str(out), "--reports"]) == 0
    return out


def take(out: Path, profile: Path) -> None:
    """All pictures of the pages in ``out``."""
    page = sorted(out.rglob("*_report.html"))[1]
    with Browser(profile) as browser:
        browser.open(page)
        browser.wait_for(READY)
        browser.click("[data-rating='accepted']")
        browser.run("window.scrollTo(0, 0)")
        browser.resize(1100, 980)
        browser.run("new Promise(r => setTimeout(r, 500))")
        browser.screenshot(PICTURES / "pages-scan.png")
        browser.emulate("print")
        browser.resize(794, 1123)
        browser.screenshot(PICTURES / "pages-print.png")
        browser.emulate()
        browser.open(out / "index.html")
        browser.resize(1100, 1500)
        browser.run("document.querySelector('[data-by]').parentElement.scrollIntoView()")
        browser.screenshot(PICTURES / "pages-group.png")
        browser.resize(390, 844, phone=True)
        browser.run("window.scrollTo(0, 0)")
        browser.screenshot(PICTURES / "pages-phone.png")
    for picture in PICTURES.glob("pages-*.png"):
        smaller(picture)


def smaller(picture: Path) -> None:
    """256 colours are enough for a page."""
    from PIL import Image

    with Image.open(picture) as image:
        reduced = image.convert("RGB").quantize(256)
    reduced.save(picture, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        given = Path(sys.argv[1]) if len(sys.argv) > 1 else simulated_study(Path(made))
        take(given, Path(made))

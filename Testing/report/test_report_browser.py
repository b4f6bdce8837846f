"""The pages in a real browser that has no network: no complaints, pictures there, sorting works."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from report_support import make_content, parse, section
from StrokeLesionSegLib.report import GroupPage, group_report, scan_report
from test_report_group import ROWS, SCANS, frequency

BROWSER = next(
    (b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no headless browser: install Debian's package chromium"
)
SIZE = (1000, 1600)


def browse(page: Path, *arguments: str) -> tuple[str, str]:
    """Open ``page`` without a window and without a network; what it prints, and its console."""
    profile = page.parent / "profile"
    run = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--disable-gpu",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--user-data-dir={profile}",
            # Its sandbox refuses to run for root, as in most containers.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            *arguments,
            page.as_uri(),
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    return run.stdout, "\n".join(console)


def screenshot(page: Path, *arguments: str) -> tuple[np.ndarray, str]:
    from PIL import Image

    file = page.with_suffix(".png")
    _, console = browse(page, f"--screenshot={file}", *arguments)
    return np.array(Image.open(file).convert("RGB")).astype(int), console


def test_the_console_is_heard(tmp_path: Path) -> None:
    """The tests below would pass with a browser that says nothing."""
    page = tmp_path / "page.html"
    content = scan_report(make_content(()))
    page.write_text(
        content.replace("</h1>", '</h1><img src="https://example.org/x.png">'), encoding="utf-8"
    )
    _, console = browse(page, "--dump-dom")
    assert "Content Security Policy" in console
    assert "example.org" in console


@pytest.mark.parametrize("side", ["left", "right"])
def test_page_of_a_scan(tmp_path: Path, side: str) -> None:
    page = tmp_path / "scan.html"
    x = -36.0 if side == "left" else 36.0
    page.write_text(scan_report(make_content(((x, -12.0, 24.0),))), encoding="utf-8")
    pixels, console = screenshot(page)
    assert console == ""
    # The outline's amber in the overview lies on the side of the letter: radiological.
    amber = (abs(pixels - (255, 176, 0)).max(axis=2)) < 40
    rows, columns = np.nonzero(amber[:1000])
    assert rows.size > 50
    black = (pixels[rows.min()] < 12).all(axis=1)
    # Beside the slices is room for the letters: one and a half of 12 pixels at each end.
    left, right = np.flatnonzero(black)[[0, -1]] + (18, -18)
    cell = (right - left) / 6
    within = ((columns - left) % cell) / cell
    assert (within > 0.5).mean() == (1.0 if side == "left" else 0.0)
    # The picture itself is shown: grey brain beside the outline.
    assert ((pixels[: rows.max()] == 120).all(axis=2)).sum() > 2000


def test_dark_and_printed(tmp_path: Path) -> None:
    page = tmp_path / "scan.html"
    page.write_text(scan_report(make_content(((-36.0, -12.0, 24.0),))), encoding="utf-8")
    light, _ = screenshot(page)
    dark, _ = screenshot(page, "--blink-settings=preferredColorScheme=0")
    assert light[5, 5].min() > 200
    assert dark[5, 5].max() < 60
    pdf = tmp_path / "scan.pdf"
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert 2 <= content.count(b"/Type /Page\n") <= 8
    # A4 in points.
    assert b"594.9" in content or b"595" in content


def test_group_sorts_when_a_heading_is_pressed(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    whole = group_report(ROWS, SCANS, GroupPage(frequency=frequency(1.0)))
    page.write_text(whole, encoding="utf-8")
    _, console = screenshot(page)
    assert console == ""
    assert order(page, ()) == ["sub-01", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"]
    # Volume: largest first, the other way the second time; what is not known stays last.
    assert order(page, (3,)) == ["sub-05", "sub-01", "sub-03", "sub-04", "sub-02", "sub-06"]
    assert order(page, (3, 3)) == ["sub-04", "sub-03", "sub-01", "sub-05", "sub-02", "sub-06"]
    assert order(page, (1,))[:2] == ["sub-01", "sub-03"]  # done, in their order
    assert order(page, (0, 0))[0] == "sub-06"


def order(page: Path, presses: tuple[int, ...]) -> list[str]:
    """The names in the table after headings were pressed; the policy is told of our presses."""
    presser = "".join(
        f"document.querySelectorAll('#scans thead button')[{n}].click();" for n in presses
    )
    digest = base64.b64encode(hashlib.sha256(presser.encode()).digest()).decode()
    whole = page.read_text(encoding="utf-8")
    changed = whole.replace("script-src ", f"script-src &#x27;sha256-{digest}&#x27; ")
    assert changed != whole
    copy = page.with_name("pressed.html")
    copy.write_text(
        changed.replace("</body>", f"<script>{presser}</script></body>"), encoding="utf-8"
    )
    content, console = browse(copy, "--dump-dom")
    assert console == ""
    tree = parse(content)
    table = section(tree, "All scans").one("table")
    sorted_by = [h.attributes["aria-sort"] for h in table.all("th") if "aria-sort" in h.attributes]
    assert sum(value != "none" for value in sorted_by) == bool(presses)
    return [row.children[0].text for row in table.one("tbody").all("tr")]

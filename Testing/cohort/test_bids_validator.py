"""The official BIDS validator on what a batch writes, where it is installed.

The extra "test" brings it (bids-validator-deno: 30 MB, and 90 MB for its runtime). It asks for
nothing on the network.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cli_support
import cohort_support as support
import pytest

PLACES = f"{Path(sys.executable).parent}:{Path.home() / '.local' / 'bin'}"
VALIDATOR = next(
    (
        found
        for name in ("bids-validator-deno", "bids-validator")
        for found in (shutil.which(name), shutil.which(name, path=PLACES))
        if found
    ),
    None,
)
pytestmark = [
    pytest.mark.usefixtures("home"),
    pytest.mark.skipif(VALIDATOR is None, reason="bids-validator-deno is not installed"),
]


def validate(out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(VALIDATOR), str(out)], capture_output=True, text=True, check=False, timeout=240
    )


def test_the_derivative_is_valid(tmp_path: Path) -> None:
    """With sessions, DICOM, pages, DICOM SEG and failures: no error."""
    source, out = tmp_path / "in", tmp_path / "out"
    for session in ("1", "2"):
        anat = source / "sub-01" / f"ses-{session}" / "anat"
        anat.mkdir(parents=True)
        array = cli_support.head_array(int(session))
        cli_support.write_head(anat / f"sub-01_ses-{session}_run-1_T1w.nii.gz", array)
    broken = source / "sub-02" / "anat"
    broken.mkdir(parents=True)
    (broken / "sub-02_T1w.nii.gz").write_bytes(b"broken")
    cli_support.write_dicom_series(source / "dicom" / "p9", uid="1.2.826.0.1.3680043.10.511.3.3")
    assert support.batch(source, out, "--reports", "--dicom-seg") == 3
    assert set(support.states(out).values()) == {"done", "failed"}
    # Where the README puts what "score" writes.
    (out / "scores").mkdir()
    for folder in (out, out / "scores"):
        (folder / "scores_atlas2022_cases.tsv").write_text("case\n")
        (folder / "scores_atlas2022.html").write_text("<p>\n")
    result = validate(out)
    assert result.returncode == 0, result.stdout + result.stderr
    # The validator does look: what BIDS has no name for is an error.
    (out / "sub-01" / "ses-1" / "anat" / "mask of Jane.nii.gz").write_bytes(b"x")
    assert validate(out).returncode != 0

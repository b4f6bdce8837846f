"""The bench of ``adapt`` takes one site of ATLAS, and who is learnt from is not who judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from StrokeLesionSegLib.images import Volume, read_scan, write_volume
from stroketrain.data.atlas import find_scans

STEM = "sub-{site}s{n:03d}_ses-{session}_space-MNI152NLin2009aSym"


def tree(root: Path, subjects: dict[str, int]) -> Path:
    """Names of ATLAS R2.0 alone; the first subject of R009 has two masks and two sessions."""
    for site, count in subjects.items():
        for n in range(1, count + 1):
            several = (site, n) == ("R009", 1)
            for session in (1, 2) if several else (1,):
                stem = STEM.format(site=site.lower(), n=n, session=session)
                subject = stem.partition("_")[0]
                anat = root / "ATLAS_2/Training" / site / subject / f"ses-{session}" / "anat"
                anat.mkdir(parents=True)
                (anat / f"{stem}_T1w.nii.gz").touch()
                (anat / f"{stem}_label-L_desc-T1lesion_mask.nii.gz").touch()
                if several:
                    for place, suffix in ((1, "mask"), (5, "2_mask")):
                        mask = np.zeros((8, 8, 8), np.uint8)
                        mask[place] = 1
                        name = anat / f"{stem}_label-L_desc-T1lesion_{suffix}.nii.gz"
                        write_volume(name, Volume(mask, np.eye(4)), overwrite=True)
    return root


def test_one_site_is_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmarks = Path(__file__).resolve().parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(benchmarks))
    from adapting import atlas_cohort

    scans = find_scans(tree(tmp_path / "atlas", {"R009": 40, "R010": 3})).labelled
    pairs, others = atlas_cohort(scans, "R009", 12, 0, tmp_path / "masks")
    assert (len(pairs), len(others)) == (12, 20)
    t1s = [scan for scan, _ in pairs + others]
    assert len({t1.parts[-4] for t1 in t1s}) == 32
    assert all("R009" in t1.parts for t1 in t1s)
    assert atlas_cohort(scans, "R009", 12, 0, tmp_path / "masks") == (pairs, others)
    assert atlas_cohort(scans, "R009", 12, 1, tmp_path / "masks")[0] != pairs
    # The others are those that are left, fewer than 20 if need be; two masks are one.
    pairs, others = atlas_cohort(scans, "R009", 38, 0, tmp_path / "masks")
    assert (len(pairs), len(others)) == (38, 2)
    (united,) = (mask for _, mask in pairs + others if mask.parent == tmp_path / "masks")
    assert read_scan(united).volume.array.sum() == 2 * 64
    with pytest.raises(SystemExit, match="R010: 3 subjects"):
        atlas_cohort(scans, "R010", 12, 0, tmp_path / "masks")


def test_the_gains_of_seeds_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmarks = Path(__file__).resolve().parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(benchmarks))
    from adapting import by_setting, draw_picture

    told = [("deep", 12, 0.3), ("deep", 12, 0.1), ("deep", 24, 0.2), ("thick", 12, 0.25)]
    rows = [
        {"site": site, "subjects": subjects, "before": [0.1, 0.3], "after": [after, after]}
        for site, subjects, after in told
    ]
    gains = by_setting(rows)
    assert gains["deep", 12] == pytest.approx([0.1, -0.1])
    assert gains["thick", 12] == pytest.approx([0.05])
    assert list(gains) == [("deep", 12), ("deep", 24), ("thick", 12)]
    draw_picture(rows, tmp_path / "gains.png")
    assert (tmp_path / "gains.png").stat().st_size > 5000

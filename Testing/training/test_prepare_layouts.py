"""From trees of R1.1 and R3.0 shape to a cache: the same person and lesion as went in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from StrokeLesionSegLib.images import MNI_GRID

pytest.importorskip("lightning")
pytest.importorskip("nilearn")
from stroketrain import cli
from stroketrain.data.cache import Cache
from stroketrain.data.splits import Split
from stroketrain.simulate import scan as scan_module
from stroketrain.simulate.anatomy import template_anatomy
from stroketrain.simulate.layouts import native_grid, place

TRAINED = Path(__file__).resolve().parents[1] / "trained_2d"


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """A T1 with two dark lesions at the left, as the simulator returns them, in no time."""
    t1 = template_anatomy().image.astype(np.uint16) * 4
    truth = np.zeros(t1.shape, np.uint8)
    truth[90:110, 100:125, 50:75] = 1
    truth[60:70, 80:92, 60:70] = 1
    t1[truth > 0] = 60
    return t1, truth


@pytest.fixture
def quick_simulator(drawn: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(g: object, anatomy: object, bank: object, *, kind: str | None = None) -> tuple:
        healthy = kind == "healthy"
        truth = np.zeros_like(drawn[1]) if healthy else drawn[1]
        record = scan_module.SimulationRecord(
            kind=kind or "cavity", volume_ml=float(truth.sum()) / 1000
        )
        return drawn[0], truth, record

    monkeypatch.setattr(scan_module, "simulate_scan", draw)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_r1_tree_is_simulated_and_prepared(
    quick_simulator, drawn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, cache = tmp_path / "tree", tmp_path / "cache"
    simulate = ["simulate", str(tree), "-n", "2", "--layout", "r1.1", "--subjects", "3"]
    assert cli.main([*simulate, "--kinds", "cavity", "healthy"]) == 0
    names = sorted(p.name for p in tree.rglob("*.nii.gz"))
    assert names == [
        "031101_LesionSmooth_1_stx.nii.gz",
        "031101_LesionSmooth_stx.nii.gz",
        "031101_t1w_deface_stx.nii.gz",
        "031201_LesionSmooth_stx.nii.gz",
        "031201_t1w_deface_stx.nii.gz",
    ]
    values = np.unique(nib.load(next(tree.rglob("031101_LesionSmooth_stx*"))).dataobj)
    assert values.tolist() == [0, 255]
    # What is wrong is named and the rest goes on: a third scan whose T1 is cut short.
    broken = tree / "ATLAS_R1.1/Site3/031301/t01"
    broken.mkdir(parents=True)
    whole = next(tree.rglob("031101_t1w*")).read_bytes()
    (broken / "031301_t1w_deface_stx.nii.gz").write_bytes(whole[: len(whole) // 3])
    mask = next(tree.rglob("031201_LesionSmooth*")).read_bytes()
    (broken / "031301_LesionSmooth_stx.nii.gz").write_bytes(mask)
    # What distill has left in the folder is about other scans.
    cache.mkdir()
    np.save(cache / "probabilities.npy", np.zeros((2, 1, 1, 1), np.uint8))
    capsys.readouterr()
    assert cli.main(["prepare", str(tree), str(cache)]) == 0
    said = capsys.readouterr().out
    assert "3 scans of 3 subjects from 3 sites, 3 with masks" in said
    assert "2 of 3 scans" in said
    assert "1 with lesions, 1 with an empty mask" in said
    opened = Cache.open(cache)
    assert [s["name"] for s in opened.scans] == ["sub-031101_t01", "sub-031201_t01"]
    assert opened.images.shape[0] == 2
    assert opened.probabilities is None
    np.testing.assert_array_equal(opened.masks[0], drawn[1])
    assert not opened.masks[1].any()
    assert opened.scans[0]["metadata"]["INDI Subject ID"] == "031101"
    assert opened.scans[0]["simulation"]["kind"] == "cavity"
    assert opened.layout == "r1.1"
    # A mask that is moved has as many voxels as before, and is another data set.
    file = next(tree.rglob("031101_LesionSmooth_stx*"))
    mask = nib.load(file)
    moved = np.roll(np.asanyarray(mask.dataobj), 2, axis=0)
    nib.save(nib.Nifti1Image(moved, mask.affine, mask.header), file)
    assert cli.main(["prepare", str(tree), str(tmp_path / "moved")]) == 0
    other = Cache.open(tmp_path / "moved")
    assert [s["volume_ml"] for s in other.scans] == [s["volume_ml"] for s in opened.scans]
    assert other.fingerprint != opened.fingerprint
    report = json.loads((cache / "report.json").read_text())
    assert (report["layout"], report["found"], report["used"]) == ("r1.1", 3, 2)
    assert "031301" in report["skipped"][0]["path"]


def test_unlabelled_scans_lie_in_testing(quick_simulator, tmp_path: Path) -> None:
    tree, cache = tmp_path / "tree", tmp_path / "cache"
    simulate = ["simulate", str(tree), "-n", "1", "--unlabelled", "2", "--kinds", "cavity"]
    assert cli.main([*simulate, "--subjects", "3"]) == 0
    testing = [p.name for p in sorted((tree / "ATLAS_2/Testing").rglob("*.nii.gz"))]
    assert len(testing) == 2
    assert all(name.endswith("_T1w.nii.gz") for name in testing)
    assert cli.main([*simulate, "--subjects", "3"]) == 0  # nothing is left to be drawn
    assert cli.main(["prepare", str(tree), str(cache)]) == 0
    opened = Cache.open(cache)
    assert (len(opened), opened.unlabelled) == (1, 2)
    assert cli.main([*simulate, "--layout", "r1.1"]) == 2


def test_a_cache_of_another_tree_is_not_written_over(
    quick_simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    trees = [tmp_path / name / "tree" for name in ("one", "other")]
    for tree in trees:
        assert cli.main(["simulate", str(tree), "-n", "1"]) == 0
    assert cli.main(["prepare", str(trees[0]), str(cache)]) == 0
    before = {p: p.stat().st_mtime_ns for p in cache.glob("*.npy")}
    assert cli.main(["prepare", str(trees[1]), str(cache)]) == 2
    assert "cache: holds a cache that was made of something else (source)" in (
        capsys.readouterr().err
    )
    # Nor does a teacher label scans in it.
    assert cli.main(["distill", str(TRAINED), str(trees[0]), str(cache)]) == 2
    assert "(command)" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in cache.glob("*.npy")} == before
    assert len(Cache.open(cache)) == 1
    # The same tree is prepared again, whatever has changed in it.
    assert cli.main(["prepare", str(trees[0]), str(cache)]) == 0


def test_a_disk_without_room_for_a_cache_is_told(
    quick_simulator,
    tmp_path: Path,
    small_disk: tuple[Path, Callable[[str], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The system would kill the process where it writes to a mapped file."""
    tree, cache = tmp_path / "tree", small_disk[0] / "cache"
    assert cli.main(["simulate", str(tree), "-n", "1"]) == 0
    assert cli.main(["prepare", str(tree), str(cache)]) == 2
    assert "images.npy: the disk is full" in capsys.readouterr().err


def test_more_scans_leave_the_unlabelled_ones_as_they_are(quick_simulator, tmp_path: Path) -> None:
    simulate = ["simulate", str(tmp_path), "--unlabelled", "2", "--subjects", "3", "-n"]
    testing = tmp_path / "ATLAS_2/Testing"
    before = []
    for n in ("1", "2"):
        assert cli.main([*simulate, n]) == 0
        before.append({p: p.read_bytes() for p in testing.rglob("*.nii.gz")})
    assert before[0] == before[1]
    seeds = [json.loads(p.read_text())["seed"] for p in tmp_path.rglob("*_simulation.json")]
    assert len(set(seeds)) == 4


def test_native_tree_is_aligned_back(quick_simulator, drawn, tmp_path: Path) -> None:
    tree, cache = tmp_path / "tree", tmp_path / "cache"
    assert (
        cli.main(["simulate", str(tree), "-n", "1", "--layout", "r3.0", "--kinds", "cavity"]) == 0
    )
    t1 = nib.load(next(tree.rglob("*_space-orig_desc-brain_T1w.nii.gz")))
    assert t1.header.get_data_dtype() == np.int16
    assert not np.allclose(t1.affine, MNI_GRID.affine)
    # A simulation that was stopped early leaves no list, only the records beside the scans.
    next(tree.rglob("simulated.json")).unlink()
    assert cli.main(["prepare", str(tree), str(cache)]) == 0
    opened = Cache.open(cache)
    assert opened.scans[0]["simulation"]["kind"] == "cavity"
    assert opened.scans[0]["metadata"]["CHRONICITY"] in ("chronic", "subacute")
    assert np.asarray(opened.scans[0]["to_mni"]).shape == (4, 4)
    # Its volume is the one that it has in the scan's own space.
    mask = nib.load(next(tree.rglob("*_label-lesion_*")))
    voxels = np.count_nonzero(np.asanyarray(mask.dataobj) > 0)
    own = voxels * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    assert opened.scans[0]["volume_ml"] == pytest.approx(own, rel=1e-4)
    # A millimetre or two of alignment cost a box of 25 mm some of its overlap, a mirrored
    # orientation would cost all of it.
    assert dice(opened.masks[0] > 0, drawn[1] > 0) > 0.75


@pytest.mark.parametrize("seed", range(12))
def test_native_grids_hold_the_head(seed: int) -> None:
    shape, affine = native_grid(np.random.default_rng(seed))
    assert "".join(nib.aff2axcodes(affine)) in ("LAS", "RAS", "PSR", "PSL")
    spacing = nib.affines.voxel_sizes(affine)
    assert spacing.min() > 0.79
    assert spacing.max() < 1.61
    brain = np.array([[98, 116, 90], [30, 116, 90], [165, 116, 90], [98, 40, 60], [98, 200, 90.0]])
    world = brain @ MNI_GRID.affine[:3, :3].T + MNI_GRID.affine[:3, 3]
    voxels = (world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    assert (voxels > 0).all()
    assert (voxels < np.array(shape) - 1).all()


def test_the_same_scans_in_every_layout() -> None:
    assert place("r2.0", 2, 3, 1) == {
        "subject": "sub-r002s003",
        "session": "ses-1",
        "site": "R002",
        "folder": "ATLAS_2/Training/R002/sub-r002s003/ses-1/anat",
    }
    assert place("r1.1", 2, 3, 1)["folder"] == "ATLAS_R1.1/Site2/031203/t01"
    assert place("r3.0", 2, 3, 2)["folder"] == "ATLAS_3/R002/sub-r002s003/ses-2/anat"


def test_split_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    scans = [{"name": f"s{n}", "subject": f"s{n}", "site": "R1"} for n in range(5)]
    for name in ("images", "masks"):
        np.save(cache / f"{name}.npy", np.zeros((5, 2, 2, 2), np.uint8))
    (cache / "index.json").write_text(json.dumps({"scans": scans, "fingerprint": "f"}))
    out = tmp_path / "split.json"
    assert cli.main(["split", str(cache), str(out), "--seed", "4"]) == 0
    assert Split.load(out, scans).fingerprint == "f"
    assert "3 train, 1 val, 1 test" in capsys.readouterr().out
    assert cli.main(["split", str(cache), str(out), "--by", "site"]) == 2

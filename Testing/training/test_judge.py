"""Records of robot users, and the perceptron that is fitted to them."""

from __future__ import annotations

import numpy as np
import pytest
from StrokeLesionSegLib.editing.clues import CLUES, REACH_MM
from StrokeLesionSegLib.editing.judge import Judge
from StrokeLesionSegLib.models.safetensors_io import read_safetensors
from stroketrain.cli import main
from stroketrain.judge.collect import Record, load, record, save
from stroketrain.judge.fit import fit

ODDS, TONE = CLUES.index("model"), CLUES.index("relative")


def made(scan: int, clicks: int = 1, n: int = 400) -> Record:
    """The lesion is what is dark, which the model does not know."""
    rng = np.random.default_rng((scan, clicks))
    clues = rng.normal(size=(n, len(CLUES))).astype(np.float16)
    for name in ("model", "answer", "answered", "spread"):
        clues[:, CLUES.index(name)] = 0
    clues[:, ODDS] = -1
    return Record(
        clues,
        clues[:, TONE] < -0.3,
        rng.uniform(1, 5, n).astype(np.float32),
        rng.uniform(0, REACH_MM - 12, n).astype(np.float16),
        7,
        clicks,
        scan,
    )


def test_what_is_fitted_finds_what_the_model_does_not(tmp_path):
    records = [made(scan, clicks) for scan in range(30) for clicks in (1, 3)]
    said: list[str] = []
    tensors, result = fit(records, epochs=100, say=said.append)
    for before, after in result["dice_by_clicks_before_and_after"].values():
        assert before == 0
        assert after > 0.85
    assert result["scans"] == 5
    assert len(said) == 3
    # The engine's own judge says the same.
    new = made(99)
    judge = Judge({name: tensor.numpy() for name, tensor in tensors.items()})
    clues = np.ascontiguousarray(new.clues.T.astype(np.float32))[:, None, None]
    odds = judge.odds(clues, new.distance.astype(np.float32)[None, None])[0, 0]
    marked = odds > 0
    assert 2 * (marked & new.lesion).sum() / (marked.sum() + new.lesion.sum()) > 0.85


def test_one_scan_cannot_be_held_out():
    with pytest.raises(ValueError, match="two scans"):
        fit([made(1), made(1, 2)], epochs=1)


def test_records_are_kept_whole(tmp_path):
    records = [made(3, n=50), made(4, 10, n=70)]
    save(records, tmp_path / "clicks.npz")
    again = load(tmp_path / "clicks.npz")
    assert len(again) == 2
    for old, new in zip(records, again, strict=True):
        for name in ("clues", "lesion", "weight", "distance"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
        assert (old.beyond, old.clicks, old.scan) == (new.beyond, new.clicks, new.scan)
    assert [p.name for p in tmp_path.iterdir()] == ["clicks.npz"]


class Told:
    """A session that says the same of every box."""

    def __init__(self, shape: tuple[int, int, int], box: tuple[slice, ...]) -> None:
        rng = np.random.default_rng(0)
        self.box = box
        self.said = rng.normal(size=(len(CLUES), *shape))[(slice(None), *box)].astype(np.float32)
        self.distance = rng.uniform(0, REACH_MM + 5, shape)[box].astype(np.float32)

    def clues(self) -> tuple:
        return self.box, self.said, self.distance


def test_a_record_stands_for_all_within_reach():
    shape, box = (50, 60, 55), (slice(5, 45), slice(0, 60), slice(10, 55))
    truth = np.zeros(shape, bool)
    truth[2:20, 20:40, 5:30] = True
    session = Told(shape, box)
    got = record(session, truth, 3, 8, np.random.default_rng(1))
    inside = session.distance < REACH_MM
    assert got.weight.sum() == pytest.approx(inside.sum(), rel=1e-4)
    assert (got.weight * got.lesion).sum() == pytest.approx((truth[box] & inside).sum(), rel=0.1)
    assert got.beyond == truth.sum() - (truth[box] & inside).sum()
    assert (got.distance <= REACH_MM).all()
    assert (got.clicks, got.scan) == (3, 8)
    assert len(got.lesion) <= 5000


def test_the_command_writes_what_the_engine_reads(tmp_path, capsys):
    save([made(scan) for scan in range(8)], tmp_path / "clicks.npz")
    out = tmp_path / "judge.safetensors"
    assert main(["clicks", "fit", str(out), str(tmp_path / "clicks.npz"), "--epochs", "2"]) == 0
    Judge({name: tensor.numpy() for name, tensor in read_safetensors(out).items()})
    assert "held out" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_what_is_no_record_is_refused(tmp_path, capsys, content):
    path = tmp_path / "wrong.npz"
    if content:
        path.write_bytes(content)
    assert main(["clicks", "fit", str(tmp_path / "out.safetensors"), str(path)]) == 2
    assert "wrong.npz" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_what_cannot_be_done_is_said_at_once(tmp_path, capsys):
    def told(*arguments: object) -> str:
        assert main(["clicks", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    one, out = tmp_path / "one.npz", tmp_path / "out.safetensors"
    save([made(3), made(3, 2)], one)
    assert "one scan" in told("fit", out, one)
    assert "folder does not exist" in told("record", tmp_path / "no" / "clicks.npz", tmp_path)
    assert "no part 2 of 2" in told("record", one, tmp_path, "--part", 2, "--parts", 2)
    assert not out.exists()

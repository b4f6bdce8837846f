"""From corrected masks to a model: stopped, gone on with, refused, installed, handed down."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_support import cohort, tiny_model
from StrokeLesionSegLib.calibration import Calibration
from StrokeLesionSegLib.errors import Cancelled, InputError
from StrokeLesionSegLib.images import read_scan, write_volume
from StrokeLesionSegLib.inference.head_box import HEAD_BOX, HEAD_SHAPE
from StrokeLesionSegLib.learning.adapt import AdaptOptions, adapt, find_pairs
from StrokeLesionSegLib.learning.adapt import run as running
from StrokeLesionSegLib.learning.adapt.card import Ancestry, ancestry_of
from StrokeLesionSegLib.learning.adapt.choose import Chosen
from StrokeLesionSegLib.learning.adapt.measure import Figures
from StrokeLesionSegLib.learning.adapt.mixing import Mixture, RegressionScan, regression_scan
from StrokeLesionSegLib.learning.adapt.options import Sizes
from StrokeLesionSegLib.learning.adapt.pairs import FoundPairs, Pair
from StrokeLesionSegLib.learning.adapt.prepare import ReadyPair, _same, read_pair
from StrokeLesionSegLib.learning.adapt.verdict import Verdict
from StrokeLesionSegLib.learning.heads import save_head
from StrokeLesionSegLib.learning.strokes.anatomy import Head
from StrokeLesionSegLib.learning.strokes.head import Sample
from StrokeLesionSegLib.models import LoadedModel, load_model, pack_model, remove_model
from StrokeLesionSegLib.models.store import LOCAL_CARD
from StrokeLesionSegLib.operating_point import OperatingPoint


def simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is gone on with draws what it drew before: its seed fixes every scan."""
    drawn: dict[tuple[str, int, int], RegressionScan] = {}

    def draw(mixture: Mixture, kind: str, number: int, seed: int) -> RegressionScan:
        if (kind, number, seed) not in drawn:
            drawn[kind, number, seed] = regression_scan(mixture, kind, number, seed)
        return drawn[kind, number, seed]

    monkeypatch.setattr(running, "regression_scan", draw)


def measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that learns what another has learnt chooses and judges by the same figures."""
    known: dict[bytes, Any] = {}

    def once(real: Callable[..., Any]) -> Callable[..., Any]:
        def ask(model: Any, *told: Any, **more: Any) -> Any:
            of_figures = isinstance(model, LoadedModel)
            network = model.network if of_figures else model
            point = model.manifest.operating_point() if of_figures else None
            scans = [pair.pair.scan for pair in told[0]] if of_figures else told[0].tobytes()
            weights = [tensor.numpy().tobytes() for tensor in network.state_dict().values()]
            asked = (real.__name__, point, scans, weights, more.get("mirrored"))
            key = hashlib.sha256(pickle.dumps(asked)).digest()
            if key not in known:
                known[key] = real(model, *told, **more)
            return known[key]

        return ask

    monkeypatch.setattr(running, "figures_of", once(running.figures_of))
    monkeypatch.setattr(running, "answer", once(running.answer))


@pytest.mark.timeout(1200)  # twelve heads are prepared and judged, on a machine that may be busy
def test_a_cohort_becomes_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    simulated_once(monkeypatch)
    measured_once(monkeypatch)
    # What lies between them is chosen from in test_adapt_choice.py.
    monkeypatch.setattr(running, "SHARES", (0.0, 1.0))
    source, parent = cohort(tmp_path, 12), tiny_model(tmp_path / "tiny")
    usual = AdaptOptions()
    options = replace(
        usual,
        model=parent,
        threads=1,
        loop=replace(usual.loop, steps=2, report=1),
        sizes=Sizes(own=1, template=1, healthy=1, tuning=2, clicks=1, robots=1),
    )
    stages: list[str] = []
    work, learnt = tmp_path / "home" / "adapting", tmp_path / "learnt"

    def tell(stage: str, done: int, total: int) -> None:
        if stage == "choose" and not learnt.exists():
            shutil.copytree(work, learnt, ignore=shutil.ignore_patterns("logs"))
        stages.append(stage)

    with pytest.raises(Cancelled, match="goes on"):
        adapt(source, options, progress=tell, cancel=lambda: stages[-1:] == ["learn"])
    assert stages[-1] == "learn"
    first, stages[:] = list(stages), []
    # A model that knows nothing does not learn in two steps: the old one stays.
    outcome = adapt(source, options, progress=tell)
    assert first.count("before") > 1
    assert stages.count("before") == 0  # nothing is measured twice
    assert outcome.facts["steps"] == 2
    assert outcome.installed is None
    assert any("kept subjects changes by" in reason for reason in outcome.verdict.reasons)
    assert len(outcome.split.kept) >= 4
    assert outcome.card.parent.name == "not-installed"
    assert len(outcome.tables[0].rows) == len(outcome.split.kept) + 1

    def generous(before: object, after: object) -> object:
        return replace(judge(before, after), better=True, reasons=())

    judge = running.judge
    monkeypatch.setattr(running, "judge", generous)
    # What lay there when the network had learnt: as if the run had been stopped then.
    assert not any(path for path in work.glob("*/*") if path.name != "logs")
    shutil.copytree(learnt, work, dirs_exist_ok=True)
    stages[:] = []
    better = adapt(source, options, progress=lambda stage, done, total: stages.append(stage))
    assert "before" not in stages
    assert better.facts["steps"] == 2
    assert better.installed is not None
    assert better.installed.name == "tiny-adapted"
    assert better.installed.directory is not None
    assert better.installed.training["adapted"]["subjects learnt from"] == len(better.split.learn)
    load_model("tiny-adapted")
    # What a colleague gets: counts and figures, no subject, no path, no date of ours.
    packed = pack_model(better.installed.directory, tmp_path / "for-a-colleague.zip")
    with zipfile.ZipFile(packed) as archive:
        assert len(archive.namelist()) == 2
        (text,) = (archive.read(n).decode() for n in archive.namelist() if n.endswith(".json"))
    assert str(tmp_path) not in text
    assert not any(f'"{s}"' in text or f"sub-{s}" in text for s in find_pairs(source).subjects)
    assert json.loads(text)["created"] == "2026-01-31"
    # Whom it has learnt from never judges its children; without the card nobody knows.
    ancestry = ancestry_of(better.installed)
    assert ancestry.learnt == better.split.learn
    assert ancestry.kept == better.split.kept
    (better.installed.directory / LOCAL_CARD).unlink()
    with pytest.raises(InputError, match="adapted elsewhere"):
        ancestry_of(better.installed)
    assert ancestry_of(better.installed, no_shared_subjects=True).learnt == ()
    remove_model("tiny-adapted")


def test_what_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    source = cohort(tmp_path, 2)
    (tmp_path / "raw" / "sub-02_T1w.nii").write_bytes(b"another scan")
    found = find_pairs(source)
    assert found.subjects == ("01",)
    (changed,) = found.left_out
    assert "its T1 has changed since it was corrected" in str(changed)
    options = AdaptOptions(model=tiny_model(tmp_path / "tiny"))
    with pytest.raises(InputError, match=r"has changed .*; that leaves 1 of the 12 subjects"):
        adapt(source, options)
    for mask in source.rglob("sub-02*.nii.gz"):
        mask.unlink()
    with pytest.raises(InputError, match=r"1 subject, too few.*at least 12"):
        adapt(source, options)
    # Two raters for one scan: the one who corrected last.
    old = source / "sub-01" / "anat" / "sub-01_desc-corrected_mask.nii.gz"
    new = old.with_name("sub-01_rec-b_desc-corrected_mask.nii.gz")
    new.write_bytes(old.read_bytes())
    facts = json.loads(old.with_name("sub-01_desc-corrected_mask.json").read_text())
    for name, when in (("sub-01", "2026-01-02"), ("sub-01_rec-b", "2026-01-01")):
        path = old.with_name(f"{name}_desc-corrected_mask.json")
        path.write_text(json.dumps({**facts, "corrected": when}))
    again = find_pairs(source)
    assert [pair.mask for pair in again.pairs] == [old]
    assert any("has a mask corrected later" in str(item) for item in again.left_out)
    # A list of pairs says the same.
    table = tmp_path / "pairs.tsv"
    table.write_text(f"scan\tmask\tsubject\nraw/sub-01_T1w.nii\t{old}\tsub-7\n")
    assert find_pairs(table).subjects == ("7",)
    semicolons = tmp_path / "pairs.csv"
    semicolons.write_text(f'\ufeff"mask";"scan"\r\n"{old}";"raw/sub-01_T1w.nii"\r\n')
    assert [pair.mask for pair in find_pairs(semicolons).pairs] == [old]
    # By a table of Windows, and by a folder; two sessions are one person.
    for folder in ("ses-1", "ses-2"):
        (tmp_path / "raw" / "sub-03" / folder).mkdir(parents=True)
        (tmp_path / "raw" / "sub-03" / folder / "T1.nii").write_bytes(folder.encode())
    (tmp_path / "raw" / "sub-01_ses-2_T1w.nii").write_bytes(b"a scan")
    table.write_text(
        f"raw\\sub-01_T1w.nii\t{old}\nraw\\sub-01_ses-2_T1w.nii\t{old}\n"
        f"raw/sub-03/ses-1/T1.nii\t{old}\nraw\\sub-03\\ses-2\\T1.nii\t{old}\n"
    )
    assert [pair.subject for pair in find_pairs(table).pairs] == ["01", "01", "03", "03"]
    table.write_text("only-a-scan.nii\n")
    with pytest.raises(InputError, match="line 1 names no mask"):
        find_pairs(table)
    with pytest.raises(InputError, match="contains no corrected masks"):
        find_pairs(tmp_path / "raw")


def unaligned(
    pairs: Sequence[Pair], predictor: object, folder: Path, tell: object, cancel: object
) -> tuple[list[ReadyPair], list[object]]:
    """In the place of ``prepare_pairs``, for scans that lie on the MNI grid."""
    folder.mkdir(parents=True, exist_ok=True)
    ready = []
    for n, pair in enumerate(pairs):
        volume, mask = read_pair(pair)
        image, lesions = np.asarray(volume.array)[HEAD_BOX].astype(np.uint8), mask[HEAD_BOX]
        head = folder / f"{n:04d}.npz"
        save_head(head, Head(image, lesions & False, False, pair.subject, lesions))
        ready.append(ReadyPair(pair, head, None, float(mask.sum()) / 1000, _same(pair, mask)))
    return ready, []


def nothing_seen(
    network: object, image: np.ndarray, searched: object, **options: object
) -> tuple[np.ndarray, np.ndarray]:
    """In the place of ``answer``: neither lesion nor ventricle, at once."""
    return np.zeros(image.shape, np.float32), np.zeros(image.shape, np.float32)


def test_masks_that_nobody_has_corrected_teach_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(running, "prepare_pairs", unaligned)
    monkeypatch.setattr(running, "answer", nothing_seen)
    source, parent = cohort(tmp_path, 12), tiny_model(tmp_path / "tiny")
    automatic = []
    for corrected in sorted(source.rglob("*_desc-corrected_mask.nii.gz")):
        name = corrected.name.replace("_desc-corrected_mask", "_label-lesion_mask")
        automatic.append(corrected.with_name(name))
        shutil.copy(corrected, automatic[-1])
    options = AdaptOptions(model=parent, threads=1)
    with pytest.raises(InputError) as refused:
        adapt(source, options)
    assert "all 12 corrected masks equal the automatic ones" in str(refused.value)
    assert "there is nothing to learn" in str(refused.value)
    assert not (tmp_path / "home" / "models").exists()
    # One that was missed, and the run goes on to its next stage.
    before = read_scan(automatic[0]).volume
    write_volume(automatic[0], before.with_array(np.zeros_like(before.array)), overwrite=True)
    stages: list[str] = []
    with pytest.raises(Cancelled):
        adapt(
            source,
            replace(options, seed=1),
            progress=lambda stage, done, total: stages.append(stage),
            cancel=lambda: stages[-1:] == ["simulate"],
        )
    assert stages[-1] == "simulate"


class OneHead:
    """In the place of ``Mixture``: always the same head, with a lesion."""

    def samples(self, first: int) -> Iterator[Sample]:
        lesions = torch.zeros(HEAD_SHAPE, dtype=torch.bool)
        lesions[60:90, 60:90, 60:90] = True
        image = torch.linspace(0, 1, HEAD_SHAPE[2]).expand(HEAD_SHAPE)
        while True:
            yield Sample(image, lesions, lesions & False)


def test_a_run_that_was_stopped_learns_what_an_unbroken_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    parent = load_model(tiny_model(tmp_path / "tiny"))
    usual = AdaptOptions(threads=1)
    loop = replace(usual.loop, steps=3)
    weights = []
    for name, stops in (("whole", ()), ("broken", (1, 2))):
        options = replace(usual, work=tmp_path / name, loop=loop)
        done: list[int] = []

        def tell(stage: str, share: int, total: int, done: list[int] = done) -> None:
            done.append(share)

        for stop in (*stops, 99):
            run = running._Run(
                parent, Ancestry(), "new", FoundPairs(()), options, tell,
                lambda done=done, stop=stop: len(done) >= stop,
            )  # fmt: skip
            if stop < 99:
                with pytest.raises(Cancelled):
                    run._learn(OneHead(), 1.0)  # type: ignore[arg-type]
        network, progress = run._learn(OneHead(), 1.0)  # type: ignore[arg-type]
        assert progress.step == 3
        weights.append(network.state_dict())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_run_that_goes_on_takes_another_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    parent = load_model(tiny_model(tmp_path / "tiny"))
    learnt = []
    # Ten minutes went into preparing; a sitting that goes on does not do it again.
    for limit, spent in ((30, 10.0), (30, 0.1), (60, 0.1), (60, 0.1)):
        run = running._Run(
            parent, Ancestry(), "new", FoundPairs(()), AdaptOptions(minutes=limit),
            lambda *told: None, lambda: False,
        )  # fmt: skip
        run.folder.mkdir(parents=True, exist_ok=True)
        learnt.append(run._minutes(spent, 5.0))
    assert learnt == [15, 15, 45, 45]


def test_new_weights_do_not_inherit_what_old_ones_are_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    parent = load_model(tiny_model(tmp_path / "tiny"))
    inference = replace(parent.manifest.inference, calibration=Calibration(0.8, -0.2))
    parent = replace(parent, manifest=replace(parent.manifest, inference=inference))
    run = running._Run(
        parent, Ancestry(), "new", FoundPairs(()), AdaptOptions(), lambda *told: None, lambda: False
    )
    monkeypatch.setattr(running._Run, "_figures", lambda *told: None)
    monkeypatch.setattr(running, "judge", lambda before, after: Verdict(False, (), {}))
    point = OperatingPoint(0.3)
    chosen = [Chosen(parent.network, share, point, 0.1, 0.5) for share in (0.0, 0.4)]
    judged = run._judged(chosen, [], [], Figures((), ()))
    found = [one.model.manifest.inference for one in judged]
    assert [one.operating_point for one in found] == [point, point]
    assert [one.calibration for one in found] == [Calibration(0.8, -0.2), None]


def test_a_folder_to_work_in_is_shared_and_not_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    source, parent = cohort(tmp_path, 3), load_model(tiny_model(tmp_path / "tiny"))
    work = tmp_path / "study"
    work.mkdir()
    (work / "thesis.txt").write_text("a year's work")
    options = AdaptOptions(work=work, threads=1)
    found = find_pairs(source)
    runs = [
        running._Run(parent, Ancestry(), "new", pairs, options, lambda *told: None, lambda: False)
        for pairs in (found, replace(found, pairs=found.pairs[1:]))
    ]
    for run in runs:
        with run.alone():
            assert not (run.folder / "scans").exists()  # nobody else's heads
            (run.folder / "scans").mkdir()
    with runs[0].alone():
        runs[0]._clear()
    assert (work / "thesis.txt").read_text() == "a year's work"
    assert (runs[1].folder / "scans").is_dir()


def test_what_could_not_be_installed_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "home"))
    parent = tiny_model(tmp_path / "tiny")
    for name in ("", "our model", "../elsewhere", "x" * 65, "ours.", "nul"):
        with pytest.raises(InputError, match="is no name of a model"):
            adapt(tmp_path, AdaptOptions(model=parent, name=name))
    tiny_model(tmp_path / "home" / "models" / "tiny")
    with pytest.raises(InputError, match="is installed"):
        adapt(tmp_path, AdaptOptions(model=parent, name="Tiny"))
    # Nor where nothing can be installed, though there is a folder to work in.
    monkeypatch.delenv("STROKE_LESION_SEG_HOME")
    monkeypatch.setattr(running, "no_home", lambda: True)
    monkeypatch.setattr(running, "find_pairs", lambda source: found)
    found = FoundPairs(tuple(Pair(f"{n:02d}", parent, parent, f"{n}", "0") for n in range(12)))
    with pytest.raises(InputError, match="no home folder for the new model"):
        adapt(tmp_path, AdaptOptions(model=parent, work=tmp_path / "work"))
    assert not (tmp_path / "work").exists()

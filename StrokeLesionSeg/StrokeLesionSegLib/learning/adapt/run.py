"""From corrected masks to an installed model, in steps that can be stopped and gone on with."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...correction.session import check_model
from ...errors import Cancelled, InputError
from ...inference.device import available_threads, peak_memory_bytes, torch_threads
from ...models import install_model, load_model, user_home
from ...models.export import write_model
from ...models.store import LOCAL_CARD, no_home
from ...outputs import read_json_object, write_json_object
from ..heads import template_as_head
from ..loop import LoopOptions, Material, train_network
from ..strokes.anatomy import Anatomy
from .card import ADAPTED, Ancestry, LocalCard, Table, ancestry_of
from .choose import SHARES, Chosen, choose
from .measure import Figures, Watch, answer, figures_of, find, searched_box, with_point
from .mixing import Mixture, RegressionScan, bank_of, regression_scan
from .naming import about, free_name, run_identity
from .options import LEAST_SUBJECTS, AdaptOptions
from .pairs import FoundPairs, LeftOut, find_pairs
from .prepare import ReadyPair, Tell, add_ventricles, prepare_pairs
from .split import SubjectSplit, choosing_subjects, split_subjects
from .verdict import Verdict, judge, tables_of

if TYPE_CHECKING:
    from ...inference import SegmentOptions
    from ...models import LoadedModel, Manifest

Cancel = Callable[[], bool]
# Of the time limit at least this share is learnt; time is put by for so many judgements.
_LEAST_SHARE, _JUDGEMENTS = 0.3, 2
# Seeds of simulated scans: those that judge, and those that the operating point is chosen on, which
# are so many times as many: whoever is chosen on a few of them fails on others.
_JUDGING, _TUNING = 1, 2
_TUNED = 2


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes
    ----------
    installed: the model's manifest in the user's cache; None if it was not better.
    verdict: figures, and why it was not installed.
    tables: of the kept subjects and of the simulated scans, before and after.
    left_out: masks and scans that were not used.
    card: the local card, which stays on this machine.
    split: who was learnt from and who judged.
    facts: counts, seconds and memory.

    Examples
    --------
    >>> from StrokeLesionSegLib.learning.adapt import Outcome
    >>> Outcome.__dataclass_fields__["installed"].type
    'Manifest | None'
    """

    installed: Manifest | None
    verdict: Verdict
    tables: tuple[Table, Table]
    left_out: tuple[LeftOut, ...]
    card: Path
    split: SubjectSplit
    facts: dict[str, Any]


def adapt(
    source: Path,
    options: AdaptOptions | None = None,
    *,
    progress: Tell | None = None,
    cancel: Cancel | None = None,
) -> Outcome:
    """Learn from the corrected masks in ``source``.

    The new model is installed only if it is better by every rule of ``verdict.judge``. A run that
    was stopped, or whose machine went away, goes on where it was when it is called in the same way.

    Parameters
    ----------
    source: see ``find_pairs``.
    options: by default an hour on the default model.
    progress: called with stage, done and total.
    cancel: asked between steps.

    Raises
    ------
    InputError
        For masks that cannot be used or say nothing new, too few subjects, a parent that does not
        answer clicks, a name that is taken.
    Cancelled
        If told so.

    Examples
    --------
    The model of this example works slice by slice:

    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.learning.adapt import adapt
    >>> adapt(Path("derivatives"))
    Traceback (most recent call last):
    ...
    StrokeLesionSegLib.errors.InputError: tiny: works slice by slice and does not answer clicks...
    """
    options = options or AdaptOptions()
    tell = progress or (lambda stage, done, total: None)
    stop = cancel or (lambda: False)
    parent = load_model(options.model)
    check_model(parent)
    ancestry = ancestry_of(parent.manifest, options.no_shared_subjects)
    name = free_name(parent.manifest.name, options.name)
    found = find_pairs(source)
    # Refused before any work is done where the counts alone say so.
    _refuse_too_few(found.subjects, found.left_out)
    split_subjects(found.subjects, options.seed, ancestry.learnt, ancestry.kept)
    with torch_threads(available_threads(options.threads)):
        run = _Run(parent, ancestry, name, found, options, tell, stop)
        with run.alone():
            return run.go()


def _refuse_too_few(subjects: Collection[str], left_out: Sequence[LeftOut]) -> None:
    """Raises ``InputError`` where others were ``left_out``, and says why."""
    if len(subjects) < LEAST_SUBJECTS and left_out:
        more = f", like {len(left_out) - 1} more" if len(left_out) > 1 else ""
        raise InputError(
            left_out[0].path,
            f"{left_out[0].reason}{more}; that leaves {len(subjects)} of the {LEAST_SUBJECTS} "
            "subjects that are needed",
            "Repair them, or correct the masks of others",
        )


@dataclass(frozen=True, eq=False)
class _Judged:
    """``share`` of the new weights in ``model``, its figures, and what they led to."""

    share: float
    model: LoadedModel
    figures: Figures
    verdict: Verdict


class _Run:
    """One adaptation; everything that is worth keeping lies in ``folder``."""

    def __init__(
        self,
        parent: LoadedModel,
        ancestry: Ancestry,
        name: str,
        found: FoundPairs,
        options: AdaptOptions,
        tell: Tell,
        cancel: Cancel,
    ) -> None:
        from ...inference import SegmentOptions
        from ...inference.device import choose_device
        from ...inference.precision import choose_precision

        self.parent, self.ancestry, self.name = parent, ancestry, name
        self.found, self.options, self.tell, self.cancel = found, options, tell, cancel
        self.id = run_identity(parent.manifest, found, options)
        # The new model and its card are kept there, wherever the work is done.
        if no_home():
            raise InputError(
                "HOME", "is not set, and this user has no home folder for the new model",
                "Set STROKE_LESION_SEG_HOME to a folder",
            )  # fmt: skip
        # One of its own also below ``work``: it is emptied in the end, and what another run has
        # prepared belongs to other subjects.
        self.folder = (options.work or user_home() / "adapting") / self.id
        self.segment: SegmentOptions = SegmentOptions(device="cpu", threads=options.threads)
        self.bfloat16 = choose_precision("auto", choose_device("cpu"))[0] == "bfloat16"
        self.point = parent.manifest.operating_point()
        self.searched = searched_box(parent.manifest.preprocessing.brain_mask_margin_mm)
        self.anatomy = Anatomy.of_template()
        self.left_out: list[LeftOut] = list(found.left_out)

    def alone(self) -> AbstractContextManager[object]:
        """Holds the folder; raises ``InputError`` if another process adapts there."""
        from ...cohort.lock import FolderLock

        return FolderLock(self.folder, self.id)

    def go(self) -> Outcome:
        began = time.monotonic()
        ready = self._prepared()
        split = split_subjects(
            sorted({r.pair.subject for r in ready}),
            self.options.seed, self.ancestry.learnt, self.ancestry.kept,
        )  # fmt: skip
        learn = [r for r in ready if r.pair.subject in split.learn]
        kept = [r for r in ready if r.pair.subject in split.kept]
        self._refuse_if_nothing_new(learn, kept)
        choosing = choosing_subjects(split.learn, self.options.seed)
        chooses = [r.head for r in learn if r.pair.subject in choosing]
        trained = [r.head for r in learn if r.pair.subject not in choosing]
        heads = trained or [r.head for r in learn]
        mixture = Mixture(
            heads, template_as_head(self.anatomy), bank_of(heads), self.anatomy, self.options.seed
        )
        regression = self._simulated(mixture, _JUDGING)
        before, judging, asking = self._before(kept, regression)
        # Of what is asked for the choice the network is most.
        looked_at = min(len(chooses), self.options.sizes.tuning) + _TUNED * len(regression)
        later = _JUDGEMENTS * judging + 1.2 * len(SHARES) * looked_at * asking
        minutes = self._minutes((time.monotonic() - began) / 60, later / 60)
        sitting = time.monotonic()
        child, progress = self._learn(mixture, minutes)
        earlier = max(0.0, (progress.seconds - (time.monotonic() - sitting)) / 60)
        candidates = self._choose(child, chooses, mixture, SHARES if trained else SHARES[:-1])
        judged = self._judged(candidates, kept, regression, before)
        # The first that is better; where none is, the one that promised most says why.
        taken = next((one for one in judged if one.verdict.better), judged[0])
        facts = {
            "scans learnt from": len(learn),
            "subjects learnt from": len(split.learn),
            "of them to choose by": len(choosing),
            "steps": progress.step,
            "minutes of learning": round(progress.seconds / 60, 2),
            # Of this sitting, and of what was learnt in earlier ones.
            "minutes in all": round((time.monotonic() - began) / 60 + earlier, 2),
            "share of the new weights": taken.share,
            "shares judged": [one.share for one in judged],
            "seed": self.options.seed,
            "peak_memory_mb": round((peak_memory_bytes() or 0) / 1e6),
        }
        return self._finish(
            taken.model, taken.verdict, tables_of(before, taken.figures), split, ready, facts
        )

    # --- the steps ------------------------------------------------------------------------------

    def _prepared(self) -> list[ReadyPair]:
        from ...inference.whole_head import WholeHeadPredictor

        predictor = WholeHeadPredictor(self.parent, self.segment)
        ready, left_out = prepare_pairs(
            self.found.pairs, predictor, self.folder / "scans", self.tell, self.cancel
        )
        self.left_out += left_out
        _refuse_too_few({r.pair.subject for r in ready}, self.left_out)
        self._forget_other_scans(ready)
        return ready

    def _forget_other_scans(self, ready: list[ReadyPair]) -> None:
        """What was learnt and measured while other scans could be used is of another split."""
        record, used = self.folder / "used.json", {"heads": [r.head.name for r in ready]}
        if read_json_object(record) != used:
            shutil.rmtree(self.folder / "run", ignore_errors=True)
            (self.folder / "before.json").unlink(missing_ok=True)
            write_json_object(record, used)

    def _refuse_if_nothing_new(self, learn: list[ReadyPair], kept: list[ReadyPair]) -> None:
        """Ventricles for the heads that are learnt from; corrected masks that are automatic ones
        teach nothing."""
        record = self.folder / "same.json"
        same: dict[str, bool] = read_json_object(record)

        def parents(image: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
            p, fluid = answer(
                self.parent.network, image, self.searched, mirrored=True, bfloat16=self.bfloat16
            )
            return find(p, self.point), fluid > 0.5

        for n, ready in enumerate(learn):
            self.tell("ventricles", n, len(learn))
            self._check()
            if ready.head.name not in same:
                equal = add_ventricles(ready, parents)
                same[ready.head.name] = equal if ready.same is None else ready.same
                write_json_object(record, same)
        untouched = [same[r.head.name] for r in learn]
        untouched += [r.same for r in kept if r.same is not None]
        if all(untouched):
            raise InputError(
                learn[0].pair.mask.parent,
                f"all {len(untouched)} corrected masks equal the automatic ones: there is nothing "
                "to learn",
                "Correct what is wrong in them first",
            )

    def _simulated(self, mixture: Mixture, seed: int) -> list[RegressionScan]:
        """Simulated scans by a fixed seed: those that judge, or more that tune."""
        sizes = self.options.sizes
        counts = {"own": sizes.own, "template": sizes.template, "healthy": sizes.healthy}
        if seed == _TUNING:
            counts = {kind: _TUNED * count for kind, count in counts.items()}
        out: list[RegressionScan] = []
        for kind, count in counts.items():
            for n in range(count):
                self.tell("simulate", len(out), sum(counts.values()))
                self._check()
                out.append(regression_scan(mixture, kind, n, seed))
        return out

    def _before(
        self, kept: list[ReadyPair], regression: list[RegressionScan]
    ) -> tuple[Figures, float, float]:
        """The parent's figures, how many seconds they took, and how many one answer takes."""
        record = self.folder / "before.json"
        content: dict[str, Any] = read_json_object(record)
        if "asking" not in content:
            began = time.monotonic()
            figures = self._figures(self.parent, kept, regression, "before")
            judged = time.monotonic()
            self._ask(self.parent.network, regression[0].image)
            content = {
                "figures": figures.as_dict(),
                "judging": judged - began,
                "asking": time.monotonic() - judged,
            }
            write_json_object(record, content)
        figures = Figures.from_dict(dict(content["figures"]))
        return figures, float(content["judging"]), float(content["asking"])

    def _ask(self, network: torch.nn.Module, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The probability of lesion in a head's image, in one pass."""
        return answer(network, image, self.searched, mirrored=False, bfloat16=self.bfloat16)[0]

    def _figures(
        self,
        model: LoadedModel,
        kept: list[ReadyPair],
        regression: list[RegressionScan],
        stage: str,
    ) -> Figures:
        total = len(kept) + len(regression)
        self.tell(stage, 0, total)
        watch = Watch(lambda done: self.tell(stage, done, total), self.cancel)
        return figures_of(
            model, kept, regression, self.segment, self.options.sizes,
            bfloat16=self.bfloat16, watch=watch,
        )  # fmt: skip

    def _minutes(self, spent: float, later: float) -> float:
        """How long to learn: what is left by preparing, choosing and judging; decided once for a
        time limit."""
        record = self.folder / "minutes.json"
        content, whole = read_json_object(record), self.options.minutes
        if content.get("of") != whole:
            spent = content.get("spent", spent)
            left = whole - spent - later
            content = {"of": whole, "learn": max(_LEAST_SHARE * whole, left), "spent": spent}
            write_json_object(record, content)
        return float(content["learn"])

    def _learn(self, mixture: Mixture, minutes: float) -> tuple[torch.nn.Module, Any]:
        network = copy.deepcopy(self.parent.network).train().requires_grad_(True)
        steps = self.options.loop.steps
        loop: LoopOptions = replace(
            self.options.loop, minutes=None if steps else minutes, since=(0, 0.0)
        )

        def drawing(step: int) -> np.random.Generator:
            # The loss looks at random voxels. Seeded for each step, a run that was stopped and is
            # gone on with is the one that never was.
            torch.manual_seed(self.options.seed * 1_000_003 + step)
            return np.random.default_rng((self.options.seed, step))

        def tell(progress: Any, share: float) -> None:
            self.tell("learn", round(1000 * share), 1000)

        autocast: Callable[[], AbstractContextManager[object]] = nullcontext
        if self.bfloat16:
            autocast = partial(torch.autocast, "cpu", torch.bfloat16)
        trained = train_network(
            network, self.folder / "run", loop,
            Material(
                mixture.samples,
                drawing,
                teacher=self.parent.network,
                closely=True,
            ),
            autocast=autocast, tell=tell, cancel=self.cancel,
        )  # fmt: skip
        if not trained.complete:
            raise Cancelled("stopped while learning; the same call goes on")
        return trained.mean, trained.progress

    def _choose(
        self,
        child: torch.nn.Module,
        heads: list[Path],
        mixture: Mixture,
        shares: Sequence[float],
    ) -> list[Chosen]:
        simulated = self._simulated(mixture, _TUNING)
        some = heads[: self.options.sizes.tuning]
        total, done = (len(some) + len(simulated)) * len(shares), 0

        def ask(network: torch.nn.Module, image: NDArray[np.uint8]) -> NDArray[np.float32]:
            nonlocal done
            self._check()
            p = self._ask(network, image)
            done += 1
            self.tell("choose", done, total)
            return p

        return choose(self.parent.network, child, some, simulated, self.point, ask, shares)

    def _judged(
        self,
        candidates: list[Chosen],
        kept: list[ReadyPair],
        regression: list[RegressionScan],
        before: Figures,
    ) -> list[_Judged]:
        """One candidate after the other, up to the first that is better."""
        judged: list[_Judged] = []
        for chosen in candidates:
            model = with_point(self.parent, chosen.network, chosen.point, new=chosen.share > 0)
            after = self._figures(model, kept, regression, "judge")
            verdict = judge(before, after)
            judged.append(_Judged(chosen.share, model, after, verdict))
            if verdict.better:
                break
        return judged

    def _finish(
        self,
        model: LoadedModel,
        verdict: Verdict,
        tables: tuple[Table, Table],
        split: SubjectSplit,
        ready: list[ReadyPair],
        facts: dict[str, Any],
    ) -> Outcome:
        self.tell("write", 0, 1)
        parent = self.parent.manifest
        card = LocalCard(
            {
                "name": self.name,
                "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "parent": about(parent),
                "operating point": model.manifest.operating_point().as_dict(),
                "split": {"learn": split.learn, "kept": split.kept},
                "data": [
                    {
                        "subject": r.pair.subject,
                        "scan": str(r.pair.scan),
                        "mask": str(r.pair.mask),
                        "scan_sha256": r.pair.scan_sha256,
                        "mask_sha256": r.pair.mask_sha256,
                    }
                    for r in ready
                ],
                "left out": [str(item) for item in self.left_out],
                **facts,
            },
            tables,
            tuple(sorted({*self.ancestry.learnt, *split.learn})),
            tuple(sorted({*self.ancestry.kept, *split.kept} - set(split.learn))),
            {"better": verdict.better, "reasons": verdict.reasons, **verdict.figures},
        )
        installed = self._install(model, verdict, facts) if verdict.better else None
        if installed is not None and installed.directory is not None:
            place = installed.directory / LOCAL_CARD
            card.write(place, installed.weights["sha256"])
        else:
            place = user_home() / "not-installed" / f"{self.name}-{self.id}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            card.write(place, None)
        self._clear()
        self.tell("write", 1, 1)
        return Outcome(installed, verdict, tables, tuple(self.left_out), place, split, facts)

    def _install(self, model: LoadedModel, verdict: Verdict, facts: dict[str, Any]) -> Manifest:
        parent = self.parent.manifest
        generation = self.ancestry.generation + 1
        content = {k: v for k, v in parent.to_dict().items() if k not in ("default", "weights")}
        content |= {
            "name": self.name,
            "version": f"{parent.version.split('+')[0]}+adapted.{generation}",
            "title": f"{parent.title.removesuffix(', adapted')}, adapted",
            "inference": model.manifest.inference.to_dict(),
            # Counts and figures only: this travels with the model.
            "training": {
                ADAPTED: {"generation": generation, "parent": about(parent), **facts},
                "parent": parent.training,
            },
            "metrics": {"before and after": verdict.figures, "parent": parent.metrics},
        }
        stage = self.folder / "model"
        write_model(stage, content, model.network.state_dict(), dtype="float16")
        return install_model(stage)

    def _clear(self) -> None:
        """What was prepared is no longer needed; the lock's file goes with the next run's."""
        for path in self.folder.iterdir():
            if path.name != "logs":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _check(self) -> None:
        if self.cancel():
            raise Cancelled("cancelled; the same call goes on")

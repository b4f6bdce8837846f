"""``stroketrain fit``: a network on a cache, or a run of one of the papers with ``--preset``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from StrokeLesionSegLib.brief import counted
from StrokeLesionSegLib.errors import InputError

from ..product.options import NETWORK, FitOptions, Simulate, network_of
from ..values import amount, count, refuse, share

if TYPE_CHECKING:
    from ..fit.trainer import Runtime

# Options of one kind of training that the other one would ignore.
_SIMULATION = ("simulate", "pool", "turnover", "anatomies")
_FOR_HEADS = ("guided",)
_FOR_LIGHTNING = ("devices", "nodes", "strategy", "resident", "logger", "progress")
_FOR_PRESETS = ("override", "loss", "lr_schedule", "split")


def add_parser(commands: Any) -> None:
    """Add the command to a subparser collection."""
    p: argparse.ArgumentParser = commands.add_parser("fit", help="train a network on a cache")
    # The volumetric network has defaults of its own, and takes what was asked for, the defaults of
    # the others included.
    p.register("action", None, _Asked)
    p.add_argument(
        "cache",
        help="of stroketrain prepare; none with --simulate for its scans alone; with --network "
        "volumetric the folder of stroketrain heads, or the file of stroketrain pack",
    )
    p.add_argument("out", type=Path)
    p.add_argument(
        "--network",
        default=json.dumps(NETWORK),
        help="the network's spec as JSON, or volumetric: whole heads, strokes simulated on the "
        "fly, resumed where OUT holds a run",
    )
    FitOptions.add_arguments(p)
    p.add_argument(
        "--simulate", metavar="DATA", help="draw scans while training; DATA as in simulate, or none"
    )
    p.add_argument("--pool", type=count, default=64, help="simulated scans at a time")
    p.add_argument("--turnover", type=count, default=20, help="steps until one of them is replaced")
    p.add_argument("--anatomies", type=Path, help="where aligned people are kept between runs")
    p.add_argument("--precision", choices=("bf16-mixed", "32-true"),
                   help="default bf16-mixed; for a preset 32-true")  # fmt: skip
    p.add_argument("--threads", type=count)
    p.add_argument(
        "--guided", type=share, help="of the volumetric network: share of steps with clicks"
    )
    q = p.add_argument_group("where and how, for the presets too")
    q.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu", "mps"))
    q.add_argument("--devices", type=count, default=1, help="processes on each machine")
    q.add_argument("--nodes", type=count, default=1, help="machines")
    q.add_argument("--strategy", default="auto", help="Lightning's, e.g. ddp")
    q.add_argument("--resident", default="auto", choices=("auto", "yes", "no"),
                   help="cache in the device's memory; auto: on a GPU where it fits")  # fmt: skip
    q.add_argument("--logger", default="csv", choices=("csv", "tensorboard"))
    q.add_argument("--progress", default="auto", choices=("auto", "bar", "none"))
    q.add_argument("--save-seconds", type=amount, default=300.0, help="between checkpoints")
    papers = p.add_argument_group("runs of the papers, instead of the options above")
    papers.add_argument("--preset", help="a recipe of stroketrain/presets, e.g. cs230_paper")
    papers.add_argument("--override", default="{}", help="JSON laid onto the preset")
    papers.add_argument("--loss", help="loss by name, see papers/losses.py")
    papers.add_argument("--lr-schedule", choices=("constant", "two_stage", "poly", "cosine"))
    papers.add_argument("--split", type=Path, help="split file; default one by subject")
    p.set_defaults(run=run, plain=p)


class _Asked(argparse._StoreAction):
    """Stores a value and notes in ``asked`` that it was given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        super().__call__(parser, namespace, values, option_string)
        namespace.asked = {*getattr(namespace, "asked", ()), self.dest}


def run(a: argparse.Namespace) -> None:
    """Trains; raises ``InputError`` for options that would be ignored."""
    if a.preset:
        names = [n for n in FitOptions.arguments() if n != "seed"]
        refuse(
            a, ["network", *names, *_SIMULATION, *_FOR_HEADS], "does not apply to a preset",
            "Use --override, see training/README.md",
        )  # fmt: skip
    else:
        refuse(a, _FOR_PRESETS, "changes a preset, but none is given", "Add --preset")
    if a.threads:
        import torch

        torch.set_num_threads(a.threads)
    if a.preset:
        _fit_preset(a)
    elif a.network == "volumetric":
        _fit_volumetric(a)
    else:
        refuse(a, _FOR_HEADS, "a network of slices takes no clicks", "Leave it out")
        if not a.simulate:
            refuse(a, _SIMULATION, "is about scans that are simulated", "Add --simulate")
        elif a.resident == "no":
            raise InputError(
                "--resident no",
                "simulated scans are drawn into the device's memory",
                "Leave it out",
            )
        _fit(a)


def _runtime(a: argparse.Namespace, precision: str) -> Runtime:
    from ..fit.devices import Devices
    from ..fit.trainer import Runtime

    return Runtime(
        Devices(a.accelerator, a.devices, a.nodes, a.strategy),
        a.precision or precision,
        a.resident,
        a.logger,
        progress=a.progress == "bar" or (a.progress == "auto" and sys.stderr.isatty()),
        save_seconds=a.save_seconds,
    )


def _fit(a: argparse.Namespace) -> None:
    from ..product.fit import fit

    try:
        network = network_of(a.network)
    except ValueError as error:
        raise InputError(
            "--network", f"is not JSON ({error})", "See its default in --help"
        ) from error
    simulate = None
    if a.simulate:
        data = None if a.simulate == "none" else Path(a.simulate)
        if data is not None and not (data / "t1").is_dir():
            raise InputError(data, "has no folder t1", "Use --simulate none for a procedural run")
        simulate = Simulate(data, a.pool, a.turnover, max(1, a.workers), a.anatomies)
    cache = None if a.cache == "none" and simulate else Path(a.cache)
    options = FitOptions.from_arguments(a, network, simulate)
    print(fit(cache, a.out, options, _runtime(a, "bf16-mixed")))


def _fit_volumetric(a: argparse.Namespace) -> None:
    """Whole heads at once; goes on where the run in ``a.out`` was stopped.

    Raises ``KeyboardInterrupt``, all saved, where it is told to end.
    """
    from StrokeLesionSegLib.learning.checkpoint import save_mean

    from ..volumetric.heads import HeadFolder
    from ..volumetric.pack import unpack
    from ..volumetric.trainer import TrainOptions, train

    taken = {"minutes", "steps", "lr", "workers", "seed", "start", "soft"}
    others = [n for n in FitOptions.arguments() if n not in taken]
    refuse(
        a, [*others, *_SIMULATION, *_FOR_LIGHTNING, "precision"],
        "does not apply to the volumetric network", "Leave it out",
    )  # fmt: skip

    def given(name: str, usual: Any) -> Any:
        """What was asked for; ``usual`` where nothing was."""
        return getattr(a, name) if name in a.asked else usual

    heads, start = Path(a.cache), a.start
    if heads.is_file():
        folder, packed = unpack(heads, a.out / "heads")
        start = start or packed
    else:
        folder = HeadFolder(heads)
    usual = TrainOptions()
    options = TrainOptions(
        minutes=a.minutes,
        steps=given("steps", None),
        rate=given("lr", usual.rate),
        threads=a.threads or usual.threads,
        workers=given("workers", usual.workers),
        seed=given("seed", None),
        soft=a.soft,
        device=_device(a.accelerator),
        save_minutes=given("save_seconds", 60 * usual.save_minutes) / 60,
        step=replace(usual.step, guided=given("guided", usual.step.guided)),
    )
    trained = train(folder, a.out, options, start=start)
    progress = trained.progress
    save_mean(a.out)
    minutes = counted(round(progress.seconds / 60), "minute")
    print(f"{counted(progress.step, 'step')} in {minutes}; {a.out}")
    if not trained.complete:
        raise KeyboardInterrupt  # all is saved; whoever waits for the end is told


def _device(accelerator: str) -> str:
    """torch's name of it; "auto" is the CPU, which others may share. Raises ``InputError``."""
    from StrokeLesionSegLib.inference.device import choose_device

    names = {"auto": "cpu", "cpu": "cpu", "gpu": "cuda", "mps": "mps"}
    return choose_device(names[accelerator]).name


def _fit_preset(a: argparse.Namespace) -> None:
    """Run the preset with what ``--override``, ``--loss`` and ``--lr-schedule`` change in it."""
    from ..data.cache import Cache
    from ..data.splits import Split, make_split
    from ..papers.fit import run_recipe
    from ..papers.recipe import load_recipe, merge

    try:
        over = json.loads(a.override)
    except json.JSONDecodeError as error:
        raise InputError("--override", f"is not JSON ({error})", "See papers/recipe.py") from error
    if a.loss:
        over = merge(over, {"loss": {"name": a.loss}})
    if a.lr_schedule:
        over = merge(over, {"schedule": {"name": a.lr_schedule}})
    recipe = load_recipe(a.preset, over)
    cache = Cache.open(Path(a.cache))
    if a.split:
        split = Split.load(a.split, cache.scans, cache.fingerprint)
    else:
        split = make_split(cache.scans, "subject", seed=a.seed, fingerprint=cache.fingerprint)
    # The papers' networks were trained in single precision; what fit takes by default is not.
    runtime = _runtime(a, "32-true")
    cache = cache.shrunk(recipe.framing.shrink)
    result = run_recipe(recipe, cache, split, a.out, seed=a.seed, runtime=runtime)
    if result:
        print(json.dumps(result["scores"], indent=1))

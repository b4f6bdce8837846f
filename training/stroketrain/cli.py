"""``stroketrain``: simulate, prepare, split, fit, tune, bench, clicks, experiments, export ..."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.operating_point import OperatingPoint

from .bench.command import bench_parser
from .experiments.arguments import experiments_parser
from .figures.command import figures_parser
from .judge.command import clicks_parser

DEFAULT_SPEC = (
    '{"name": "residual_unet", "in_channels": 4, "filters": [16, 32, 64, 128, 256], '
    '"skip": "stem", "dropout": 0.1}'
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stroketrain", description="Train StrokeLesionSeg models, step by step."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    p = commands.add_parser("simulate", help="write simulated strokes as an ATLAS tree")
    p.add_argument("out", type=Path)
    p.add_argument("-n", "--scans", type=int, default=24)
    p.add_argument("--data", type=Path, help="folder with t1, lesions, labels (else procedural)")
    p.add_argument("--part", choices=("train", "val", "test"), default="train")
    p.add_argument("--kinds", nargs="+", choices=("cavity", "mixed", "faint", "healthy"))
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--layout", default="r2.0", choices=("r2.0", "r1.1", "r3.0"))
    p.add_argument("--subjects", type=int, help="subject names for the one procedural head")
    p.add_argument("--unlabelled", type=int, default=0, help="so many further scans in Testing, "
                   "without a mask (R2.0)")  # fmt: skip
    p.add_argument("--anatomies", type=Path, help="where aligned people are kept between runs")

    p = commands.add_parser("prepare", help="turn an ATLAS tree of any layout into a cache")
    p.add_argument("tree", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--layout", default="auto", choices=("auto", "r2.0", "r3.0", "r1.1", "r1.2"))

    p = commands.add_parser("split", help="split a cache 60/20/20 and write the split as JSON")
    p.add_argument("cache", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--by", default="subject", choices=("subject", "site", "scan", "slice"))
    p.add_argument("--seed", type=int, default=0)

    p = commands.add_parser("fit", help="train a network on a cache")
    p.add_argument("cache", help="of stroketrain prepare; none with --simulate for its scans alone")
    p.add_argument("out", type=Path)
    p.add_argument("--network", default=DEFAULT_SPEC, help="the network's spec as JSON")
    p.add_argument("--channels", nargs="+", help="names of the network's inputs in their order; "
                   "those of one or four need none")  # fmt: skip
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--minutes", type=float, help="stop, well annealed, after this wall time")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--guided", type=float, default=0.2, help="share of batches with clicks")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--precision", choices=("bf16-mixed", "32-true"),
                   help="default bf16-mixed; for a preset 32-true")  # fmt: skip
    p.add_argument("--workers", type=int, default=0)
    p.add_argument("--threads", type=int)
    p.add_argument("--start", type=Path, help="weights.safetensors of an earlier run to go on from")
    p.add_argument("--also", type=Path, nargs="*", default=[], help="further caches to draw from")
    p.add_argument("--positive-weight", type=float, default=10.0)
    p.add_argument("--false-positive", type=float, default=0.5, help="its weight in Tversky's loss")
    p.add_argument(
        "--hard-share", type=float, default=0.0, help="worst pixels counted again (TopK)"
    )
    p.add_argument(
        "--paint", type=float, default=0.0, help="slices that get a lesion of random look painted"
    )
    p.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    p.add_argument("--lesion-share", type=float, default=0.65, help="slices drawn with lesion")
    p.add_argument("--ema", type=float, default=0.995, help="decay of the averaged weights")
    p.add_argument(
        "--simulate", metavar="DATA", help="draw scans while training; DATA as in simulate, or none"
    )
    p.add_argument("--pool", type=int, default=64, help="simulated scans at a time")
    p.add_argument("--turnover", type=int, default=20, help="steps until one of them is replaced")
    p.add_argument("--anatomies", type=Path, help="where aligned people are kept between runs")
    q = p.add_argument_group("where and how, for the presets too")
    q.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu", "mps"))
    q.add_argument("--devices", type=int, default=1, help="processes on each machine")
    q.add_argument("--nodes", type=int, default=1, help="machines")
    q.add_argument("--strategy", default="auto", help="Lightning's, e.g. ddp")
    q.add_argument("--resident", default="auto", choices=("auto", "yes", "no"),
                   help="cache in the device's memory; auto: on a GPU where it fits")  # fmt: skip
    q.add_argument("--logger", default="csv", choices=("csv", "tensorboard"))
    q.add_argument("--progress", default="auto", choices=("auto", "bar", "none"))
    q.add_argument("--save-seconds", type=float, default=300.0, help="between checkpoints")
    papers = p.add_argument_group("runs of the papers, instead of the options above")
    papers.add_argument("--preset", help="a recipe of stroketrain/presets, e.g. cs230_paper")
    papers.add_argument("--override", default="{}", help="JSON laid onto the preset")
    papers.add_argument("--loss", help="loss by name, see losses.py")
    papers.add_argument("--lr-schedule", choices=("constant", "two_stage", "poly", "cosine"))
    papers.add_argument("--split", type=Path, help="split file; default one by subject")

    experiments_parser(commands)
    figures_parser(commands)
    bench_parser(commands)
    clicks_parser(commands)

    p = commands.add_parser("evaluate", help="score a model on an ATLAS tree")
    p.add_argument("tree", type=Path)
    p.add_argument("--model", help="name or folder of a model; default the one that ships")
    p.add_argument("--threshold", type=float)
    p.add_argument("--min-volume", type=float)
    p.add_argument("--views", default="axial", choices=("axial", "triplanar"))
    p.add_argument("--tta", action="store_true")
    p.add_argument(
        "--scorer", default="all", choices=("all", "atlas2022", "isles2022", "isles2026")
    )
    p.add_argument("--split", type=Path, help="score one part of this split alone")
    p.add_argument("--part", default="test", choices=("train", "val", "test"), help="of --split")
    p.add_argument("--out", type=Path, help="JSON with every case")

    p = commands.add_parser("tune", help="choose thresholds and smallest lesion on a tree")
    p.add_argument("tree", type=Path, nargs="+")
    p.add_argument("--quiet", type=float, default=0.85, help="share of healthy scans to be empty")
    p.add_argument("--model")
    p.add_argument("--views", default="axial", choices=("axial", "triplanar"))

    p = commands.add_parser("export", help="turn a run into a model that can be installed")
    p.add_argument("run", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--name", required=True)
    p.add_argument("--version", default="0.1.0")
    p.add_argument("--title", default="Residual U-Net (stem)")
    p.add_argument("--description", default="Chronic stroke lesions in T1-weighted MRI.")
    p.add_argument("--channels", nargs="+", help="names of the input channels; default t1 (and "
                   "clicks, where the network takes four)")  # fmt: skip
    p.add_argument("--contrast", default="T1w", help="the MR contrast that it was trained on")
    p.add_argument("--label", default="stroke lesion", help="what the mask marks")
    p.add_argument("--threshold", type=float, default=0.5)
    p.add_argument("--second-threshold", type=float, help="see segment --second-threshold")
    p.add_argument("--min-volume", type=float, default=0.05)
    p.add_argument("--min-mean-probability", type=float, default=0.0)
    p.add_argument("--triplanar", type=float, nargs=3, metavar=("P", "SECOND", "ML"),
                   help="the first three with --views triplanar")  # fmt: skip
    p.add_argument("--training", type=Path, help="JSON to merge into the manifest's training field")
    p.add_argument("--metrics", type=Path, help="JSON for the manifest's metrics field")
    p.add_argument("--default", action="store_true")
    return parser


# Options of one kind of training that the other one would ignore.
_NOT_FOR_PRESETS = (
    "network", "steps", "minutes", "batch", "lr", "guided", "workers", "start", "also",
    "positive_weight", "false_positive", "hard_share", "paint", "compile", "lesion_share", "ema",
    "simulate", "pool", "turnover", "anatomies",
)  # fmt: skip
_FOR_PRESETS = ("override", "loss", "lr_schedule", "split")


def _refuse(a: argparse.Namespace, names: Sequence[str], why: str, advice: str) -> None:
    """Raises ``InputError`` for the first of the options that was given another value."""
    plain = _parser().parse_args(["fit", "cache", "out"])
    for name in names:
        if getattr(a, name) != getattr(plain, name):
            raise InputError(f"--{name.replace('_', '-')}", why, advice)


def _run(a: argparse.Namespace) -> None:
    if a.command == "simulate":
        from .simulate.tree import simulate_tree

        if a.data is not None and not (a.data / "t1").is_dir():
            raise InputError(a.data, "it has no folder t1", "leave --data out for a procedural run")
        records = simulate_tree(
            a.out,
            a.scans,
            data=a.data,
            part=a.part,
            cache=a.anatomies,
            seed=a.seed,
            workers=a.workers,
            kinds=a.kinds,
            layout=a.layout,
            subjects=a.subjects,
            unlabelled=a.unlabelled,
        )
        sick = sum(1 for r in records if r["volume_ml"] > 0)
        print(f"{len(records)} simulated scans in {a.out}, {sick} with lesions")
    elif a.command == "prepare":
        from .data.cache import prepare

        prepare(a.tree, a.out, layout=a.layout)
    elif a.command == "split":
        from .data.cache import Cache
        from .data.splits import make_split

        cache = Cache.open(a.cache)
        split = make_split(cache.scans, a.by, seed=a.seed, fingerprint=cache.fingerprint)
        split.save(a.out)
        counts = ", ".join(f"{len(names)} {part}" for part, names in split.parts.items())
        print(f"split by {a.by}, scans: {counts}; {a.out}")
    elif a.command == "experiments":
        from .experiments.command import run_command

        run_command(a)
    elif a.command == "clicks":
        from .judge.command import run_command as clicks

        clicks(a)
    elif a.command == "figures":
        from .figures.command import run_command as draw

        draw(a)
    elif a.command == "bench":
        from .bench.command import run_command as bench

        bench(a)
    elif a.command == "fit" and a.preset:
        _refuse(a, _NOT_FOR_PRESETS, "a preset does not take it", "use --override, see its README")
        from .fit.command import fit_preset

        fit_preset(a)
    elif a.command == "fit":
        _refuse(a, _FOR_PRESETS, "it changes a preset, and none is given", "add --preset")
        import torch

        from .fit.command import runtime_options
        from .fit.run import Simulate, fit

        if a.threads:
            torch.set_num_threads(a.threads)
        try:
            spec = json.loads(a.network)
        except json.JSONDecodeError as error:
            raise InputError("--network", f"not JSON ({error})", "see the default") from error
        simulate = None
        if a.simulate:
            data = None if a.simulate == "none" else Path(a.simulate)
            if data is not None and not (data / "t1").is_dir():
                raise InputError(
                    data, "it has no folder t1", "--simulate none for a procedural run"
                )
            simulate = Simulate(data, a.pool, a.turnover, max(1, a.workers), a.anatomies)
        weights = fit(
            None if a.cache == "none" and simulate else Path(a.cache),
            a.out,
            spec=spec,
            steps=a.steps,
            minutes=a.minutes,
            batch=a.batch,
            lr=a.lr,
            guided=a.guided,
            seed=a.seed,
            precision=a.precision or "bf16-mixed",
            workers=a.workers,
            start=a.start,
            positive_weight=a.positive_weight,
            also=a.also,
            false_positive=a.false_positive,
            hard_share=a.hard_share,
            paint=a.paint,
            lesion_share=a.lesion_share,
            ema=a.ema,
            compiled=a.compile,
            channels=a.channels,
            simulate=simulate,
            **runtime_options(a),
        )
        print(weights)
    elif a.command == "evaluate":
        from StrokeLesionSegLib.models import load_model

        from .evaluate import SCORER_NAMES, evaluate, part_of_split

        result = evaluate(
            load_model(a.model),
            a.tree,
            threshold=a.threshold,
            min_volume_ml=a.min_volume,
            views=a.views,
            tta=a.tta,
            out=a.out,
            scorers=SCORER_NAMES if a.scorer == "all" else (a.scorer,),
            names=part_of_split(a.split, a.part) if a.split else None,
        )
        print(json.dumps(result, indent=2))
    elif a.command == "tune":
        from StrokeLesionSegLib.inference import SegmentOptions
        from StrokeLesionSegLib.models import load_model

        from .evaluate import predict_tree
        from .tune import choose_operating_point, search_operating_points

        model, options = load_model(a.model), SegmentOptions(views=a.views)
        cases = [case for tree in a.tree for case in predict_tree(model, tree, options)]
        table = search_operating_points(cases)
        for point in table:
            print(json.dumps(point.row()))
        print("chosen:", json.dumps(choose_operating_point(table, a.quiet).row()))
    elif a.command == "export":
        from .export import export

        export(
            a.run,
            a.out,
            name=a.name,
            version=a.version,
            title=a.title,
            description=a.description,
            point=_point(a.threshold, a.second_threshold, a.min_volume, a.min_mean_probability),
            of_views={"triplanar": _point(*a.triplanar)} if a.triplanar else None,
            training=json.loads(a.training.read_text()) if a.training else None,
            metrics=json.loads(a.metrics.read_text()) if a.metrics else None,
            channels=a.channels,
            contrast=a.contrast,
            label=a.label,
            default=a.default,
        )
        print(a.out)


def _point(*values: float | None) -> OperatingPoint:
    """The operating point of these values; ``InputError`` if they make none."""
    try:
        return OperatingPoint(*values)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError("operating point", str(error), "Correct the value") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``stroketrain``; returns the exit code (2 for unusable input, one line on stderr)."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except InputError as error:
        print(f"stroketrain: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What ``adapt`` is worth: simulated sites, Dice before and after on others of the same site.

    python Testing/benchmarks/adapting.py --data ../shared/data --out bench/adapting
    python Testing/benchmarks/adapting.py ... --sites deep --subjects 12 --seeds 0 --minutes 20

Each site's scans look unlike the training (``stroketrain.bench.sites``): contrast curve,
resolution, noise and lesions. The subjects of the site are people of the training split with masks
of that split; 20 others, the validation people with masks of the part "test", judge, and ``adapt``
sees neither. A setting is a site, a number of subjects and a seed; each is one run of the command
line with its own models' folder. What is done is kept in ``--out``, so that a run that was stopped
goes on; whole it takes about 30 hours on two cores, since it is 27 settings of an hour.
If the new model is not installed, the old one's figure stands for both, as it does for the user.

With ATLAS at hand, the same on one of its sites, of which no model that ships has seen a scan:

    python Testing/benchmarks/adapting.py --atlas ATLAS_2 --held-out R009 --out bench/adapting

``adapt`` gets the first subjects of the site in an order that follows from the seed; up to 20 of
the others judge.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "StrokeLesionSeg"), str(REPOSITORY / "training")]

import numpy as np  # noqa: E402
from measuring import run_process  # noqa: E402
from StrokeLesionSegLib.images import read_scan, write_volume  # noqa: E402
from StrokeLesionSegLib.inference import SegmentOptions, segment_volume  # noqa: E402
from StrokeLesionSegLib.lesions import find_lesions  # noqa: E402
from StrokeLesionSegLib.lesions.scorers.common import dice  # noqa: E402
from StrokeLesionSegLib.models import LoadedModel, load_model  # noqa: E402
from StrokeLesionSegLib.outputs import atomic_file  # noqa: E402
from stroketrain.bench.plan import test_masks  # noqa: E402
from stroketrain.bench.sites import SITES, Site, draw_at  # noqa: E402
from stroketrain.data.atlas import AtlasScan, find_scans  # noqa: E402
from stroketrain.simulate.anatomy import cached_anatomy  # noqa: E402
from stroketrain.simulate.subject_split import kind_of  # noqa: E402
from stroketrain.volumetric.heads import SPLIT_FILE  # noqa: E402

OTHERS = 20
ScanAndMask = tuple[Path, Path]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, metavar="DIR", help="T1s and masks to simulate with")
    where.add_argument("--atlas", type=Path, metavar="DIR", help="a release of ATLAS, unpacked")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sites", nargs="+", choices=list(SITES), default=list(SITES))
    parser.add_argument("--held-out", metavar="SITE", help="the site of ATLAS, such as R009")
    parser.add_argument("--subjects", nargs="+", type=int, default=[12, 24, 48])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--picture", type=Path, metavar="PNG")
    arguments = parser.parse_args()
    if bool(arguments.atlas) != bool(arguments.held_out):
        parser.error("--atlas and --held-out go together")
    rows = []
    for name in [arguments.held_out] if arguments.atlas else arguments.sites:
        for subjects in arguments.subjects:
            for seed in arguments.seeds:
                rows.append(setting(arguments, name, subjects, seed))
                print(line(rows[-1]), flush=True)
    for (name, subjects), gains in by_setting(rows).items():
        print(f"{name}, {subjects} subjects: {np.mean(gains):+.4f} ({len(gains)} seeds)")
    if arguments.picture:
        draw_picture(rows, arguments.picture)
    return 0


def setting(arguments: argparse.Namespace, name: str, subjects: int, seed: int) -> dict[str, Any]:
    """One run of ``adapt`` at the site of this name, and the others' Dice by both models."""
    folder = arguments.out / name / f"{subjects}-{seed}"
    record = folder / "result.json"
    if record.exists():
        return dict(json.loads(record.read_text()))
    if arguments.atlas:
        scans = find_scans(arguments.atlas).labelled
        pairs, others = atlas_cohort(scans, name, subjects, seed, arguments.out / name / "masks")
    else:
        pairs, others = simulated_cohort(arguments, SITES[name], subjects, seed)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "pairs.tsv"
    rows = ["scan\tmask\tsubject"]
    rows += [f"{s.absolute()}\t{m.absolute()}\tp{n:02}" for n, (s, m) in enumerate(pairs)]
    table.write_text("\n".join(rows) + "\n")
    home = {"STROKE_LESION_SEG_HOME": str(folder / "home")}
    threads = ["--threads", str(arguments.threads)] if arguments.threads else []
    run = run_process(
        [sys.executable, "-m", "StrokeLesionSegLib", "adapt", table, "--progress", "json",
         "--minutes", str(arguments.minutes), "--seed", str(seed), *threads],
        home | {"PYTHONPATH": str(REPOSITORY / "StrokeLesionSeg")},
    )  # fmt: skip
    if run.code not in (0, 3):
        raise SystemExit(run.stderr)
    result = json.loads(run.stdout.strip().splitlines()[-1])
    before = before_at(tuple(others), arguments.threads)
    after = before
    if result["directory"]:
        child = load_model(Path(result["directory"]))
        after = [dice_of(child, *pair, arguments.threads) for pair in others]
    row = {
        "site": name, "subjects": subjects, "seed": seed, "others": len(others),
        "minutes": run.wall_s / 60, "peak_mb": run.peak_mb, "installed": bool(result["directory"]),
        "before": before, "after": after, "reasons": result["reasons"],
        "figures": result["figures"], "steps": result["facts"]["steps"],
    }  # fmt: skip
    with atomic_file(record) as part:
        part.write_text(json.dumps(row, indent=1))
    return row


def simulated_cohort(
    arguments: argparse.Namespace, site: Site, subjects: int, seed: int
) -> tuple[list[ScanAndMask], list[ScanAndMask]]:
    """Who is learnt from, and the 20 others."""
    parts = json.loads(SPLIT_FILE.read_text())
    split = parts["people"]
    rng = np.random.default_rng((seed, len(site.name)))
    people = rng.permutation([p for p in split["train"] if "template" not in p])[:subjects]
    scans = arguments.out / site.name
    masks = [arguments.data / m for m in parts["masks"]["train"]]
    pairs = [scan_of(arguments, site, str(p), masks, seed, scans / f"lab-{seed}") for p in people]
    tested = test_masks(arguments.data)
    return pairs, [
        scan_of(arguments, site, p, tested, 1000, scans / "others")
        for p in split["validation"][:OTHERS]
    ]


def atlas_cohort(
    scans: Sequence[AtlasScan], site: str, subjects: int, seed: int, united: Path
) -> tuple[list[ScanAndMask], list[ScanAndMask]]:
    """Who of a site of ATLAS is learnt from, and up to 20 others; one scan of each subject.

    ``united``: folder for the masks of scans that have several. Exits if the site has too few.
    """
    first = {s.subject: s for s in reversed(scans) if s.site == site}
    if len(first) <= subjects:
        raise SystemExit(f"{site}: {len(first)} subjects with masks, {subjects} and others asked")
    order = np.random.default_rng(seed).permutation(sorted(first))
    chosen = [first[str(subject)] for subject in order[: subjects + OTHERS]]
    pairs = [(scan.t1, mask_of(scan, united)) for scan in chosen]
    return pairs[:subjects], pairs[subjects:]


def mask_of(scan: AtlasScan, united: Path) -> Path:
    """The scan's mask; several are united in a file of their own."""
    if len(scan.masks) == 1:
        return scan.masks[0]
    path = united / f"{scan.name}_mask.nii.gz"
    if not path.exists():
        united.mkdir(parents=True, exist_ok=True)
        parts = [read_scan(mask, allow_constant=True).volume for mask in scan.masks]
        whole = np.any([part.array > 0 for part in parts], axis=0).astype(np.uint8)
        write_volume(path, parts[0].with_array(whole))
    return path


@cache
def before_at(others: tuple[ScanAndMask, ...], threads: int | None) -> tuple[float, ...]:
    """The shipped model's Dice on a site's others, once for all its settings."""
    parent = load_model(None)
    return tuple(dice_of(parent, *pair, threads) for pair in others)


def scan_of(
    arguments: argparse.Namespace,
    site: Site,
    person: str,
    masks: list[Path],
    seed: int,
    folder: Path,
) -> tuple[Path, Path]:
    """The person's scan and mask at the site; drawn once."""
    name = Path(person).name.split(".")[0]
    scan, mask = (folder / f"{name}_{what}.nii.gz" for what in ("T1w", "mask"))
    if not mask.exists():
        folder.mkdir(parents=True, exist_ok=True)
        anatomies = arguments.out / "anatomies"
        anatomy = cached_anatomy(arguments.data / person, kind_of(person), anatomies)
        # Not Python's own hash of the name, which changes with every start.
        rng = np.random.default_rng((seed, len(site.name), *name.encode()))
        head = anatomy.image.astype(np.float32) / np.float32(255)
        volume, truth = draw_at(site, rng, head, anatomy.brain, masks)
        write_volume(scan, volume, overwrite=True)
        write_volume(mask, type(volume)(truth, volume.affine), overwrite=True)
    return scan, mask


def dice_of(model: LoadedModel, scan: Path, mask: Path, threads: int | None) -> float:
    """Of the model's mask at its own operating point, on the scan's grid."""
    found = segment_volume(read_scan(scan).volume, model, SegmentOptions(threads=threads))
    lesions = find_lesions(
        found.probability.array, found.probability.affine, model.manifest.operating_point()
    )
    truth = read_scan(mask, allow_constant=True).volume.array > 0
    return dice(lesions.labels > 0, truth)


def line(row: dict[str, Any]) -> str:
    """A row of the table in the docs."""
    before, after = (np.mean(row[key]) for key in ("before", "after"))
    kept = row["figures"]["kept Dice"]
    said = "installed" if row["installed"] else "kept the old one: " + "; ".join(row["reasons"])
    return (
        f"| {row['site']} | {row['subjects']} | {row['seed']} | {before:.3f} | {after:.3f} | "
        f"{gain(row):+.3f} | {kept[0]:.3f} | {kept[1]:.3f} | {row['minutes']:.0f} | "
        f"{row['peak_mb']:.0f} | {said} |"
    )


def gain(row: dict[str, Any]) -> float:
    """By how much the mean Dice of the others changes."""
    return float(np.mean(row["after"]) - np.mean(row["before"]))


def by_setting(rows: list[dict[str, Any]]) -> dict[tuple[str, int], list[float]]:
    """The gains of all seeds by site and number of subjects."""
    gains: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        gains.setdefault((row["site"], row["subjects"]), []).append(gain(row))
    return gains


def draw_picture(rows: list[dict[str, Any]], path: Path) -> None:
    """What the others gain: a bar for the mean of the seeds, a dot for each."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    gains = by_setting(rows)
    names = sorted({site for site, _ in gains})
    size = (0.8 + 2.4 * len(names), 3.2)
    figure, axes = plt.subplots(1, len(names), sharey=True, squeeze=False, figsize=size)
    for ax, name in zip(axes[0], names, strict=True):
        settings = sorted(subjects for site, subjects in gains if site == name)
        for n, subjects in enumerate(settings):
            of_seeds = gains[name, subjects]
            ax.bar(n, np.mean(of_seeds), width=0.6, color="#9ecae1")
            ax.plot(n + np.linspace(-0.12, 0.12, len(of_seeds)), of_seeds, "o", color="#08519c")
        before = np.mean([np.mean(row["before"]) for row in rows if row["site"] == name])
        kind = "simulated site" if name in SITES else "ATLAS,"
        ax.set(title=f"{kind} “{name}”\nbefore {before:.3f}", xlabel="subjects")
        ax.set_xticks(range(len(settings)), map(str, settings))
        ax.axhline(0, color="black", linewidth=0.8)
    axes[0][0].set_ylabel("gain in mean Dice of 20 others")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())

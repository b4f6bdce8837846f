"""Side by side with nnU-Net and MONAI, and everything else that a user may want in numbers.

    make bench                                   all parts, about 45 minutes on two quiet cores
    make bench ARGS="--parts side --rounds 1"    some of them
    make bench ARGS="--report --readme"          tables and plots again from what was measured

Every measurement is a process of its own. Results are kept in ``bench/`` and a run that was
interrupted goes on where it ended, as long as model, volume and PyTorch are the same; ``--again``
measures anew what ``--parts`` and ``--cases`` choose. At the end come
``Testing/benchmarks/RESULTS.md`` and ``docs/benchmark.png``, and with ``--readme`` the table
between the markers of docs/speed.md.

Parts: peak (matrix products), side (the side-by-side), startup, size, stages (of ``segment``, file
to file), contended, clicks, training, cohort.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cases import CASES, Case
from measuring import Run, busy_share, cpu_name, run_process, versions

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
ENGINE = REPOSITORY / "StrokeLesionSeg"
PEERS_PYTHON = REPOSITORY / ".venv-peers" / "bin" / "python"
PARTS = (
    *("peak", "size", "startup", "side", "stages", "contended"),
    *("clicks", "training", "cohort"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--cases", help="of the part side: those whose names contain one of these")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="interleaved rounds")
    parser.add_argument("--volume", type=Path, help=".npy, float32 (K, J, I), MNI152 grid, 1 mm")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--model", metavar="NAME", help="of ours; default: the one that ships")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--readme", action="store_true", help="put the table into docs/speed.md")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="results and report there, and not in the checkout"
    )
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}")
    # A trial must not write into the checkout.
    root = REPOSITORY if arguments.out is None else arguments.out
    arguments.out = arguments.out or REPOSITORY / "bench"
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (ENGINE, REPOSITORY / "training", HERE)))

    if not arguments.report:
        bench = Bench(arguments)
        for part in parts:
            bench.part(part)
    from report import write_report

    write_report(arguments.out, root, readme=arguments.readme)
    return 0


class Bench:
    """The parts; each writes one file of results, the part side one line a measurement."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.options = arguments
        self.out: Path = arguments.out
        # Results of a GPU stand beside those of the CPU.
        self.suffix = "" if arguments.device == "cpu" else f"-{arguments.device}"
        self._volume: Path | None = arguments.volume

    def part(self, name: str) -> None:
        if name == "side":
            self.side()
            return
        file = self.out / f"{name}{self.suffix}.json"
        if file.exists() and not self.options.again:
            say(f"{name}: measured already (--again measures anew)")
            return
        if self.suffix and name not in ("peak", "training"):
            say(f"{name}: of the CPU only")
            return
        say(name)
        before = facts()
        started = time.perf_counter()
        measure: Callable[[], dict[str, Any] | None] = getattr(self, name)
        try:
            result = measure()
        except RuntimeError as error:
            say(f"  {name} failed: {error}")
            return
        if result is None:
            say(f"  {name}: nothing to measure here")
            return
        whole = {**before, "seconds": round(time.perf_counter() - started, 1), **result}
        write_json(file, whole)

    # -------------------------------------------------------------- side by side

    def side(self) -> None:
        """Rounds over all cases, one process each, so that a slower hour hits all alike."""
        log = self.out / f"side{self.suffix}.jsonl"
        wanted = self.options.cases.split(",") if self.options.cases else [""]
        cases = [
            case
            for case in CASES
            if any(word in case.name for word in wanted) and (self.suffix or not case.gpu)
        ]
        if self.options.again:
            drop_cases(log, {case.name for case in cases})
        done = {
            (line["case"], line["round"], json.dumps(line.get("key")))
            for line in read_lines(log)
            if "failed" not in line
        }
        for number in range(self.options.rounds):
            for case in cases:
                # The slowest run in the last rounds only: everything else is there before.
                early = number < self.options.rounds - case.most
                if early:
                    continue
                if case.peer and not PEERS_PYTHON.exists():
                    say("  the peers' environment is missing: make .venv-peers/.stamp")
                    continue
                key = self.key(case.peer)
                if (case.name, number, json.dumps(key)) in done:
                    continue
                line = {"case": case.name, "round": number, "key": key, **facts()}
                line |= self._one(case)
                with open(log, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")

    def _one(self, case: Case) -> dict[str, Any]:
        python = PEERS_PYTHON if case.peer else Path(sys.executable)
        script = HERE / ("peer_case.py" if case.peer else "our_case.py")
        command = [python, script, *case.arguments, "--volume", self.volume()]
        command += ["--device", self.options.device]
        if self.options.model and not case.peer:
            command += ["--model", self.options.model]
        # The peers must not see our packages.
        run = run_process(command, {"PYTHONPATH": str(HERE)} if case.peer else None)
        if run.code:
            say(f"  {case.name} failed: {run.stderr.strip().splitlines()[-1:]}")
            return {"failed": run.stderr.strip()[-2000:]}
        result = run.last_json()
        say(
            f"  {case.name:38s} network {result['network_s']:7.2f} s, volume to mask "
            f"{result['volume_s']:7.2f} s, {result['peak_mb']:5.0f} MB"
        )
        return {**result, "process_s": run.wall_s, "cpu_s": run.cpu_s}

    @functools.cache  # noqa: B019 - one object, as long as the program
    def key(self, peer: bool) -> dict[str, str]:
        """What a result depends on besides the code: results with another key are not mixed."""
        python = PEERS_PYTHON if peer else Path(sys.executable)
        code = "from importlib.metadata import version; print(version('torch'))"
        key = {
            "torch": checked([python, "-c", code]).stdout.strip(),
            "volume": hashlib.sha256(self.volume().read_bytes()).hexdigest()[:12],
        }
        if not peer:
            key["model"] = model_name(self.options.model)
        return key

    def volume(self) -> Path:
        """The one volume: MNI152 template with the simulated stroke of ``make demo``, as .npy."""
        if self._volume is None:
            self._volume = self.out / "volume.npy"
            if not self._volume.exists():
                import numpy as np
                from StrokeLesionSegLib.commands.demo import _simulate

                np.save(self._volume, to_mni_grid(_simulate(0).t1))
        return self._volume

    # -------------------------------------------------------------- the other parts

    def peak(self) -> dict[str, Any]:
        runs = [
            checked([sys.executable, HERE / "peak.py", "--device", self.options.device])
            for _ in range(3)
        ]
        rates = [run.last_json()["gmac_per_s"] for run in runs]
        best = {name: max(rate[name] for rate in rates) for name in rates[0]}
        return {"gmac_per_s": best, "threads": runs[0].last_json()["threads"]}

    def startup(self) -> dict[str, Any]:
        """Wall seconds of processes that only start, medians."""
        ours = Path(sys.executable)
        commands: dict[str, list[Any]] = {
            "python": [ours, "-c", "pass"],
            "ours: --help": [ours, "-m", "StrokeLesionSegLib", "--help"],
            "ours: import torch": [ours, "-c", "import torch"],
        }
        if PEERS_PYTHON.exists():
            nnunet = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point"
            commands["nnU-Net: --help"] = [
                PEERS_PYTHON,
                "-c",
                f"import sys; {nnunet}; sys.argv = ['nnUNetv2_predict', '--help']; "
                "predict_entry_point()",
            ]
            commands["MONAI: import"] = [
                PEERS_PYTHON,
                "-c",
                "import monai.inferers, monai.networks.nets",
            ]
        walls: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(max(3, self.options.rounds)):
            for name, command in commands.items():
                walls[name].append(checked(command).wall_s)
        return {"seconds_median": {name: statistics.median(w) for name, w in walls.items()}}

    def size(self) -> dict[str, Any]:
        """Installed MB of each program with all that it needs."""
        sizes = {}
        script = HERE / "installed_size.py"
        for name, python, package in (
            ("ours", Path(sys.executable), "stroke-lesion-seg"),
            ("nnU-Net", PEERS_PYTHON, "nnunetv2"),
            ("MONAI", PEERS_PYTHON, "monai"),
        ):
            if python.exists():
                sizes[name] = checked([python, script, package]).last_json()
        return {"programs": sizes}

    def stages(self) -> dict[str, Any] | None:
        return self._script("stages.py", "--repeat", max(2, self.options.rounds))

    def contended(self) -> dict[str, Any] | None:
        return self._script("contended.py", "--repeat", max(2, self.options.rounds))

    def clicks(self) -> dict[str, Any] | None:
        return self._script("clicks.py")

    def training(self) -> dict[str, Any] | None:
        return self._script("training.py", "--device", self.options.device)

    def cohort(self) -> dict[str, Any] | None:
        return self._script("cohort.py", "--scans", 12)

    def _script(self, name: str, *options: Any) -> dict[str, Any] | None:
        """Another benchmark of this folder, through its ``--json``; None if it is not there."""
        script = HERE / name
        if not script.exists():
            return None
        file = self.out / f".{script.stem}.part.json"
        command = [sys.executable, script, *options, "--json", file]
        run = run_process(command)
        if run.code:
            raise RuntimeError(run.stderr.strip()[-1000:])
        print(run.stdout, flush=True)
        result = json.loads(file.read_text())
        file.unlink()
        shown = [part if isinstance(part, str) else str(part) for part in (name, *options)]
        return {"command": f"python Testing/benchmarks/{' '.join(shown)}", "result": result}


def to_mni_grid(volume: Any) -> Any:
    """``volume`` resampled onto the MNI152 2009a grid, float32 (K, J, I)."""
    import numpy as np
    from StrokeLesionSegLib.images import MNI_GRID, Alignment, to_canonical

    if volume.grid.same_as(MNI_GRID):
        return np.ascontiguousarray(volume.array, np.float32)
    lies_there = Alignment(np.eye(4), True, "", 1.0, 1.0, 0.0)
    return to_canonical(volume, lies_there).volume.array


def model_name(name: str | None) -> str:
    """Name and version of the model ``name``, None being the one that ships."""
    from StrokeLesionSegLib.models import Manifest, find_model

    manifest = Manifest.from_file(find_model(name))
    return f"{manifest.name} {manifest.version}"


def checked(command: list[Any]) -> Run:
    run = run_process(command)
    if run.code:
        raise RuntimeError(run.stderr.strip()[-1000:])
    return run


def facts() -> dict[str, Any]:
    """Where and when a measurement starts, and how busy the machine is without it."""
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        # Not the load average, which still tells of the run before.
        "busy_before": busy_share(),
        "versions_ours": versions("torch", "numpy", "SimpleITK"),
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def drop_cases(log: Path, names: set[str]) -> None:
    """Forget what was measured of these cases."""
    kept = [line for line in read_lines(log) if line["case"] not in names]
    part = log.with_suffix(".part")
    part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    part.replace(log)


def write_json(path: Path, value: Any) -> None:
    """Complete or not at all: an interrupted run must not look measured."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

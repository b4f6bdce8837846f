"""How much work a run does, in counts that no machine and no neighbour changes.

Seconds are measured by ``make bench``. These are the reasons behind them: calls of the network,
bytes read, volumes held in memory, modules imported, pages taken from the system.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import write_tiny_model
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.images import Volume, read_scan, write_volume
from StrokeLesionSegLib.inference import (
    SegmentOptions,
    SlicesOptions,
    after_network,
    before_network,
    choose_device,
    make_predictor,
    predict_volume,
    prepare_network,
    run_network,
)
from StrokeLesionSegLib.inference.placing import PlacedScan
from StrokeLesionSegLib.models import LoadedModel, load_model, write_model
from StrokeLesionSegLib.networks import build_network
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.pipeline import FileOptions, OutputPaths, find_in, segment_file

LIB_ROOT = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
SHAPE = (48, 72, 60)
# Histograms and weights take up to two megabytes whatever the volume: it has to be larger.
LARGE, FIXED = (96, 112, 100), 2_000_000
OPTIONS = SegmentOptions(align="none", device="cpu", precision="float32", crop=False)
# Slow to import: together they take longer than the help that is asked for.
SLOW = {
    *("torch", "SimpleITK", "scipy", "nibabel", "pydicom", "highdicom", "matplotlib", "nilearn"),
    *("rich", "PIL", "dask", "pandas", "jinja2"),
}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def turned(degrees: float, spacing: float = 1.0) -> np.ndarray:
    angle = math.radians(degrees)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:2, :2] = spacing * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    return affine


AFFINES = {"exact": np.eye(4), "oblique": turned(7), "fine": turned(0, 0.8)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    home = tmp_path_factory.mktemp("home")
    write_tiny_model(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STROKE_LESION_SEG_HOME", str(home))
        return load_model("tiny")


def write_scan(folder: Path, affine: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> Path:
    """An ellipsoid of tissue as int16 NIfTI, not compressed."""
    rng = np.random.default_rng(0)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    values = 500 + 200 * i + 20 * rng.standard_normal(shape)
    path = folder / "scan.nii"
    inside = k**2 + j**2 + i**2 < 0.8
    write_volume(path, Volume((values * inside).astype(np.int16), affine), dtype=np.int16)
    return path


def run(path: Path, model: LoadedModel | str, options: SegmentOptions = OPTIONS) -> Any:
    paths = OutputPaths.beside(path, path.with_name("mask.nii"))
    return segment_file(path, paths, FileOptions(model, options), overwrite=True)


# ------------------------------------------------------------------ calls of the network


@pytest.mark.parametrize(
    ("views", "tta", "planes"),
    [
        ("axial", False, [48]),
        ("axial", True, [48, 48]),
        ("triplanar", False, [48, 72, 60]),
        ("triplanar", True, [48, 48, 72, 72, 60]),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_calls_of_the_network(
    tmp_path: Path, model: LoadedModel, views: str, tta: bool, planes: list[int], precision: str
) -> None:
    """Every slice once a pass, in full batches; and two calls that check a reduced format."""
    seen: Counter[tuple[int, ...]] = Counter()
    hook = model.network.register_forward_pre_hook(
        lambda module, inputs: seen.update([tuple(inputs[0].shape)])
    )
    try:
        options = SegmentOptions(
            views=views, tta=tta, align="none", device="cpu", precision=precision, crop=False,
            batch_size=10,
        )  # fmt: skip
        result = run(write_scan(tmp_path, np.eye(4)), model, options)
    finally:
        hook.remove()
    probes = [shape for shape in seen if shape[0] == 2]
    checks = 0 if precision == "float32" else 2
    slices = result.prediction.details["slices"]
    # The ellipsoid leaves some planes at the border empty, and those are not computed.
    assert 0.8 * sum(planes) < slices < sum(planes)
    computed = sum(shape[0] * n for shape, n in seen.items()) - 2 * checks
    assert computed == slices
    calls = sum(seen.values()) - checks
    passes = len(planes)
    assert math.ceil(slices / 10) <= calls <= math.ceil(slices / 10) + passes - 1
    assert sum(seen[shape] for shape in probes) >= checks


# ------------------------------------------------------------------ bytes read


def bytes_read() -> int:
    """Bytes that this process has asked the system for, from files and pipes."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    pytest.skip("this system does not count bytes read")


@linux_only
def test_the_scan_is_read_once_and_hashed_once(tmp_path: Path, model: LoadedModel) -> None:
    path = write_scan(tmp_path, np.eye(4))
    run(path, model)  # imports read their own files
    before = bytes_read()
    run(path, model)
    read = bytes_read() - before
    # Versions of packages for the sidecar come to some kilobytes.
    assert 2 * path.stat().st_size <= read < 2 * path.stat().st_size + 400_000


@linux_only
def test_weights_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksum is that of the bytes which become the weights."""
    spec = {"name": "residual_unet", "in_channels": 4, "filters": [16, 16, 32, 64, 64]}
    folder = write_tiny_model(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["weights"]
    write_model(folder, {**manifest, "network": spec}, build_network(spec).state_dict())
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path))
    load_model("tiny")
    before = bytes_read()
    load_model("tiny")
    read, size = bytes_read() - before, (folder / "weights.safetensors").stat().st_size
    assert size > 200_000
    assert size <= read < 1.5 * size


# ------------------------------------------------------------------ maps brought back


@pytest.mark.parametrize("asked", [False, True])
def test_the_uncertainty_is_brought_back_where_it_is_asked_for(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    back: list[Volume] = []
    original = PlacedScan.to_native

    def counted(placed: PlacedScan, array: np.ndarray) -> Volume:
        back.append(original(placed, array))
        return back[-1]

    monkeypatch.setattr(PlacedScan, "to_native", counted)
    path = write_scan(tmp_path, AFFINES["oblique"])
    file = tmp_path / "uncertainty.nii" if asked else None
    paths = replace(OutputPaths.beside(path, tmp_path / "mask.nii"), uncertainty=file)
    result = segment_file(path, paths, FileOptions(model, OPTIONS))
    assert len(back) == 1 + asked
    uncertainty = result.prediction.uncertainty
    assert result.prediction.uncertainty is uncertainty is back[1]
    assert uncertainty.grid.same_as(result.prediction.probability.grid)
    if file is not None:
        np.testing.assert_array_equal(read_scan(file).volume.array, uncertainty.array)


# ------------------------------------------------------------------ volumes in memory


@pytest.mark.parametrize(
    ("grid", "before_peak", "after_peak"),
    [("exact", 2.5, 1.2), ("oblique", 2.8, 2.2), ("fine", 2.2, 2.2)],
)
def test_volumes_held_at_once(
    tmp_path: Path, model: LoadedModel, grid: str, before_peak: float, after_peak: float
) -> None:
    """Most memory of each stage beyond what was there, in float32 volumes of the larger grid."""
    path = write_scan(tmp_path, AFFINES[grid], LARGE)
    run(path, model)  # imports and caches
    size = 4 * math.prod(LARGE)
    tracemalloc.start()
    try:
        scan, peak = peak_of(lambda: read_scan(path))
        assert peak < 1.6 * size  # the stored int16 values beside it

        predictor = make_predictor(model, OPTIONS)
        ready, peak = peak_of(lambda: before_network(scan.volume, predictor))
        unit = max(size, ready.placed.volume.array.nbytes)
        assert peak < before_peak * unit + FIXED

        _, peak = peak_of(lambda: run_network(ready, predictor))
        assert peak < 2.8 * unit + FIXED  # mean and uncertainty, and the slices of a batch

        prediction, peak = peak_of(lambda: after_network(ready))
        assert peak < after_peak * unit  # the probability, and one on its way

        _, peak = peak_of(lambda: find_in(prediction, OperatingPoint(0.999)))
        assert peak < 3 * unit + FIXED
    finally:
        tracemalloc.stop()


def peak_of(function: Any) -> tuple[Any, int]:
    """(result, largest number of bytes that numpy and Python held beyond those at the start)."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    result = function()
    return result, tracemalloc.get_traced_memory()[1] - before


# ------------------------------------------------------------------ pages from the system


def page_faults() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@linux_only
def test_layers_take_no_new_pages_from_the_system() -> None:
    """Activations of a batch lie where those of the batch before lay.

    Without ``keep_freed_memory`` every large layer is paged in again: tens of thousands of pages
    of 4 KiB, a fifth of the time.
    """
    from StrokeLesionSegLib.inference.device import keep_freed_memory

    # Dask leaves a variable of the kind in a process that has started workers.
    if not keep_freed_memory({k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}):
        pytest.skip("not glibc")
    network = build_network(
        {"name": "residual_unet", "in_channels": 4, "filters": [16, 16, 16, 16, 16]}
    ).eval()
    channels = ("t1", "click_positive", "click_negative", "previous_probability")
    prepared = prepare_network(network, channels, choose_device("cpu"), "float32")
    array = np.random.default_rng(0).random((27, 160, 160), dtype=np.float32)
    predict_volume(array, prepared, SlicesOptions(batch_size=9))
    before = page_faults()
    predict_volume(array, prepared, SlicesOptions(batch_size=9))
    assert page_faults() - before < 5000


@linux_only
def test_a_long_run_gives_back_what_it_does_not_need() -> None:
    """Between scans: 200 MB of small blocks that were freed are the system's again."""
    code = """
import ctypes
from StrokeLesionSegLib.inference.device import keep_freed_memory, release_freed_memory

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

if not keep_freed_memory():
    raise SystemExit(77)
before = resident_mb()
blocks = [b"x" * 100_000 for _ in range(2000)]
last = b"y" * 100_000  # the top of the heap stays in use
del blocks
kept = resident_mb() - before
released = release_freed_memory()
print(kept, released, resident_mb() - before)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=LIB_ROOT
    )
    if run.returncode == 77:
        pytest.skip("not glibc")
    assert run.returncode == 0, run.stderr
    kept, released, left = run.stdout.split()
    assert float(kept) > 150
    assert released == "True"
    assert float(left) < 20


def test_the_allocator_is_left_alone_where_the_user_set_it() -> None:
    from StrokeLesionSegLib.inference.device import give_back_freed_memory, keep_freed_memory

    assert keep_freed_memory({"MALLOC_TRIM_THRESHOLD_": "0"}) is False
    assert give_back_freed_memory({"MALLOC_TRIM_THRESHOLD_": "0"}) is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_training_gives_back_what_it_frees() -> None:
    """Blocks as large as a step's are gone once freed, though later ones live on; and torch is
    asked for large pages."""
    code = """
import os
import numpy as np
from StrokeLesionSegLib.inference.device import give_back_freed_memory, keep_freed_memory

def resident_mb():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024

keep_freed_memory()
if not give_back_freed_memory():
    raise SystemExit(77)
before = resident_mb()
blocks = [np.ones(16 << 20, np.uint8) for _ in range(15)]
last = np.ones(1 << 20, np.uint8)
full = resident_mb() - before
del blocks
print(full, resident_mb() - before, os.environ["THP_MEM_ALLOC_ENABLE"])
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "THP_"))}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=LIB_ROOT
    )
    if run.returncode == 77:
        pytest.skip("not glibc")
    assert run.returncode == 0, run.stderr
    full, left, pages = (float(n) for n in run.stdout.split())
    assert full > 220
    assert left < 20
    assert pages == 1


# ------------------------------------------------------------------ imports at start-up


def imported_by(*arguments: str, code: int = 0) -> set[str]:
    """Top-level packages that a command line imports, by ``-X importtime``."""
    command = [sys.executable, "-X", "importtime", "-m", "StrokeLesionSegLib", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(LIB_ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-2000:]
    names = set()
    for line in done.stderr.splitlines():
        if line.startswith("import time:"):
            names.add(line.rpartition("|")[2].strip().partition(".")[0])
    assert "StrokeLesionSegLib" in names  # or nothing was seen
    return names


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("segment", "--help"), 0),
        (("batch", "--help"), 0),
        (("segment", "no-such-scan.nii.gz"), 2),
        (("segment", "scan.nii.gz", "--threshold", "2"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_help_and_refusals_import_nothing_slow(arguments: tuple[str, ...], code: int) -> None:
    assert not imported_by(*arguments, code=code) & SLOW


def test_torch_is_not_imported_ahead_for_a_scan_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import would go on beside the refusal, now and then far enough to be noticed."""
    began: list[bool] = []
    monkeypatch.setattr(
        "StrokeLesionSegLib.commands.segment.import_ahead", lambda: began.append(True)
    )
    assert main(["segment", str(tmp_path / "none.nii.gz")]) == 2
    assert began == []
    (tmp_path / "empty.nii.gz").touch()
    assert main(["segment", str(tmp_path / "empty.nii.gz"), "--align", "none"]) == 2
    assert began == [True]


def test_a_run_imports_only_what_it_uses(tmp_path: Path) -> None:
    """A NIfTI that lies straight, without alignment and report."""
    path = write_scan(tmp_path, np.eye(4))
    home = tmp_path / "home"
    write_tiny_model(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STROKE_LESION_SEG_HOME", str(home))
        found = imported_by(
            *("segment", str(path), "--model", "tiny", "--align", "none", "--device", "cpu"),
            *("--precision", "float32", "--threads", "1", "--progress", "none"),
        )
    assert "torch" in found
    assert not found & (SLOW - {"torch", "scipy"})

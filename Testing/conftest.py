"""Fixtures that every area of the tests shares."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from StrokeLesionSegLib.images import Alignment

REPOSITORY = Path(__file__).resolve().parents[1]

# The tests also run from a checkout that was not installed.
for folder in (REPOSITORY / "StrokeLesionSeg", REPOSITORY / "training"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

# Before anything imports torch: OpenMP's threads must not wait busily, or a suite on a machine
# that does something else too takes several times as long.
import simulated  # noqa: E402
from StrokeLesionSegLib.inference.device import (  # noqa: E402
    available_threads,
    keeping_gaps,
    prepare_environment,
    release_freed_memory,
)
from StrokeLesionSegLib.models.store import HOME_VARIABLE  # noqa: E402

# Processes that each use all cores wait for one another's threads, and take up to twice as long:
# each has its share. Tests that are about threads name their number.
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _PROCESSES > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_threads() // _PROCESSES)))
prepare_environment()


# Files of at least eight seconds of processor time, measured one by one: four fifths of the suite.
# They are slow as a whole: what they share (a network, a scene) costs as much as any test.
SLOW_FILES = {
    "test_adapt.py", "test_alignment.py", "test_batch.py", "test_batch_dask.py",
    "test_batch_stopped.py", "test_canonical.py", "test_changes.py", "test_cli.py",
    "test_compare.py", "test_contract.py", "test_deformable.py", "test_demo.py",
    "test_devices.py", "test_edit_voxels.py", "test_effects_offscreen.py", "test_experiments.py",
    "test_fast_path.py", "test_field_cases.py", "test_figures.py", "test_fit.py",
    "test_head_map.py", "test_headless_scripts.py", "test_independent_simulator.py",
    "test_input_check.py", "test_installing.py", "test_kills.py", "test_looks.py",
    "test_mni_space.py", "test_module_scenario.py", "test_pages_for_everyone.py",
    "test_pages_in_use.py", "test_panel_bad_input.py", "test_panel_batch.py",
    "test_panel_full_disk.py", "test_panel_offscreen.py", "test_panel_scans.py",
    "test_public_docstrings.py", "test_readme.py", "test_real_patients.py", "test_real_scans.py",
    "test_report_browser.py", "test_resume.py", "test_same_answer.py", "test_session.py",
    "test_shipped_model.py", "test_simulated_scan.py", "test_soft_targets.py", "test_strokes.py",
    "test_volumetric_release.py", "test_volumetric_training.py", "test_whole_head.py",
    "test_work_counts.py",
}  # fmt: skip


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One process more than cores for ``-n auto``: a tenth of the time a test waits for a process
    or a disk, and another then has its core."""
    cores = yield
    return cores if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else cores + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW_FILES or item.get_closest_marker("long"):
            item.add_marker(pytest.mark.slow)
    # The slow ones first: the quick ones then fill what is left of every core at the end.
    first = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in first)


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: it need not be gone through at every collection of
    garbage, which takes longer than many a test."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Give memory back after each file: this process keeps what is freed, as the engine does, and
    the gaps of a hundred files would add up to gigabytes."""
    result = yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        release_freed_memory()
    return result


@pytest.fixture(autouse=True)
def the_process_as_it_was() -> Iterator[None]:
    """Puts back what a test, or a command that it ran, may have set for the whole process: no test
    depends on those before it."""
    folder = os.getcwd()
    ours = {n: v for n, v in os.environ.items() if n.startswith("STROKE_LESION_SEG_")}
    torch = sys.modules.get("torch")
    if not hasattr(torch, "get_num_threads"):
        # Not there, or just being imported: a command does that in a thread, and may have ended.
        torch = None
    threads = torch.get_num_threads() if torch else None
    yield
    os.chdir(folder)
    for name in [n for n in os.environ if n.startswith("STROKE_LESION_SEG_")]:
        del os.environ[name]
    os.environ.update(ours)
    if torch and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def gaps_for_the_next_head() -> Iterator[None]:
    """As in a batch: a file's tests run one head after the other."""
    with keeping_gaps():
        yield


@pytest.fixture(scope="session", autouse=True)
def without_models_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is installed on this machine changes no test, and no test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(tmp_path_factory.mktemp("no-models")))
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def kept_by_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made once for all tests and processes of a session."""
    folder = tmp_path_factory.getbasetemp()
    # Each process of pytest-xdist has a folder in that of the session.
    folder = (folder.parent if _PROCESSES > 1 else folder) / "kept"
    folder.mkdir(exist_ok=True)
    simulated.folder = folder
    return folder


@pytest.fixture(scope="session")
def aligned(kept_by_all: Path) -> Callable[[Path], Alignment]:
    """The alignment of a scan's file, found once for all tests and processes of a session."""
    from StrokeLesionSegLib.images import align_to_mni, read_scan
    from StrokeLesionSegLib.pipeline.documents import alignment_facts, alignment_of

    def found(file: Path) -> Alignment:
        kept = kept_by_all / f"{hashlib.sha256(bytes(file)).hexdigest()}.json"
        if not kept.exists():
            facts = alignment_facts(align_to_mni(read_scan(file).volume))
            # Two processes may come at once: each writes what is whole, and the same.
            own = kept.with_suffix(f".{os.getpid()}")
            own.write_text(json.dumps({"alignment": facts}))
            own.replace(kept)
        alignment = alignment_of(json.loads(kept.read_text()))
        assert alignment is not None
        return alignment

    return found


@pytest.fixture(scope="module")
def aligned_once(kept_by_all: Path) -> Iterator[None]:
    """The same heads come in command after command; how they lie is found once for all tests and
    processes. What is true of alignments is asked without this."""
    from StrokeLesionSegLib import images

    def once(real: Callable[..., Any]) -> Callable[..., Any]:
        def align(*given: Any, **more: Any) -> Any:
            content = [(g.array, g.affine) if isinstance(g, images.Volume) else g for g in given]
            key = hashlib.sha256(pickle.dumps((real.__name__, content))).hexdigest()
            kept = kept_by_all / f"{key}.pickle"
            if not kept.exists():
                own = kept.with_suffix(f".{os.getpid()}")
                own.write_bytes(pickle.dumps(real(*given, **more)))
                own.replace(kept)
            return pickle.loads(kept.read_bytes())

        return align

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "align_to_mni", once(images.align_to_mni))
        patch.setattr(images, "align_rigid", once(images.align_rigid))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Openly licensed T1s, lesion masks and label maps that lie beside the checkout."""
    folder = Path(os.environ.get("STROKE_LESION_SEG_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "t1").is_dir():
        pytest.skip(f"no openly licensed test data in {folder}")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A disk of a few hundred kB, and a function that mounts it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> subprocess.CompletedProcess[str]:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    if shutil.which("mount") is None or os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    if (tried := mount("size=600k")).returncode:
        pytest.skip(f"no disk may be mounted here ({tried.stderr.strip()})")

    def again(options: str) -> None:
        result = mount(f"remount,{options}")
        assert result.returncode == 0, result.stderr

    try:
        yield place, again
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)

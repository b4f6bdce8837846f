"""Fixtures that every area of the tests shares."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# The tests also run from a checkout that was not installed.
for folder in (REPOSITORY / "StrokeLesionSeg", REPOSITORY / "training"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

# Before anything imports torch: OpenMP's threads must not wait busily, or a suite on a machine
# that does something else too takes several times as long.
from StrokeLesionSegLib.inference.device import prepare_environment  # noqa: E402

prepare_environment()


# Files of at least eight seconds of processor time, measured one by one: four fifths of the suite.
# They are slow as a whole: what they share (a network, a scene) costs as much as any test.
SLOW_FILES = {
    *("test_alignment.py", "test_batch.py", "test_batch_dask.py", "test_batch_stopped.py"),
    *("test_bench.py", "test_cli.py", "test_contract.py", "test_demo.py", "test_devices.py"),
    *("test_edit_voxels.py", "test_effects_offscreen.py", "test_experiments.py"),
    *("test_fit.py", "test_headless_scripts.py", "test_independent_simulator.py"),
    *("test_input_check.py", "test_losses_metrics.py", "test_module_scenario.py"),
    *("test_fast_path.py", "test_figures.py", "test_own_model.py"),
    *("test_networks.py", "test_panel_offscreen.py", "test_real_patients.py", "test_real_scans.py"),
    *("test_resume.py", "test_shipped_model.py", "test_simulated_scan.py", "test_strokes.py"),
    *("test_volumetric_release.py", "test_volumetric_training.py", "test_whole_head.py"),
    *("test_changes.py", "test_compare.py", "test_whole_study.py"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW_FILES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Openly licensed T1s, lesion masks and label maps that lie beside the checkout."""
    folder = Path(os.environ.get("STROKE_LESION_SEG_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "t1").is_dir():
        pytest.skip(f"no openly licensed test data in {folder}")
    return folder

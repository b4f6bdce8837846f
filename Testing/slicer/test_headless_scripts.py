"""The scripts of the manual, run as they stand there, on Slicer's libraries without its desktop."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import forked_python
import nibabel
import numpy as np
import pytest
from simulated import small_head
from StrokeLesionSegLib.slicerbridge.engine import process, run

FAST = {"model": "fluid", "align": "none", "precision": "float32", "device": "cpu"}


@pytest.fixture
def scripts(repository: Path) -> list[str]:
    text = (repository / "docs" / "slicer.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def scan() -> nibabel.Nifti1Image:
    """The sample, small and coarse: a few seconds less for each run."""
    t1 = small_head().t1
    return nibabel.Nifti1Image(t1.array.T, t1.affine)


@pytest.fixture
def headless(
    slicer: Any, model_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Slicer's functions that need Qt, over the storage nodes; the exit codes that were asked for.

    The engine runs with a small model: what is tried here is the script.
    """
    import slicer_python

    slicer_python.install()
    sys.modules.pop("StrokeLesionSeg", None)
    importlib.import_module("StrokeLesionSeg")
    monkeypatch.chdir(tmp_path)
    codes: list[int] = []

    def load(path: str) -> Any:
        name = Path(path).name.split(".")[0]
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        storage = node.CreateDefaultStorageNode()
        storage.SetFileName(path)
        if not storage.ReadData(node):
            raise RuntimeError(f"{path} cannot be read")
        return node

    def save(node: Any, path: str) -> bool:
        storage = node.CreateDefaultStorageNode()
        storage.SetFileName(path)
        return bool(storage.WriteData(node))

    monkeypatch.setattr(slicer.util, "loadVolume", load, raising=False)
    monkeypatch.setattr(slicer.util, "saveNode", save, raising=False)
    monkeypatch.setattr(slicer.util, "exit", lambda status=0: codes.append(status), raising=False)
    fast = functools.partial(run.RunParameters, **FAST)
    monkeypatch.setattr(run, "RunParameters", fast)
    monkeypatch.setattr(process, "subprocess", forked_python.Subprocess)
    return codes


def test_one_scan(
    scripts: list[str], scan: nibabel.Nifti1Image, headless: list[int], tmp_path: Path
) -> None:
    nibabel.save(scan, tmp_path / "sub-01_T1w.nii.gz")
    exec(compile(scripts[0], "docs/slicer.md", "exec"), {})
    assert headless == [0]
    assert (tmp_path / "sub-01_lesion.seg.nrrd").stat().st_size > 0
    assert [p.suffix for p in (tmp_path / "reports").iterdir()] == [".html"]


def test_a_folder_with_one_scan_that_cannot_be_used(
    scripts: list[str], scan: nibabel.Nifti1Image, headless: list[int], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "scans").mkdir()
    nibabel.save(scan, tmp_path / "scans" / "sub-01_T1w.nii.gz")
    flat = nibabel.Nifti1Image(np.full((9, 9, 9), 7, np.int16), np.eye(4))
    nibabel.save(flat, tmp_path / "scans" / "sub-02_T1w.nii.gz")
    nibabel.save(scan, tmp_path / "scans" / "sub-03_T1w.nii.gz")
    exec(compile(scripts[1], "docs/slicer.md", "exec"), {})
    assert headless == [1]
    made = sorted(p.name for p in (tmp_path / "scans").glob("*.seg.nrrd"))
    assert made == ["sub-01_lesion.seg.nrrd", "sub-03_lesion.seg.nrrd"]
    assert "sub-02_T1w.nii.gz" in capsys.readouterr().err

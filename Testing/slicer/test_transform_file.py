"""The transform's file as Slicer reads it: hung over a scan it puts the scan into MNI space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from StrokeLesionSegLib.images import Deformation, write_transform

TO_MNI = np.array(
    [[0.98, 0.10, -0.05, 6.0], [-0.12, 1.05, 0.08, -9.0], [0.03, -0.06, 0.93, 14.0], [0, 0, 0, 1.0]]
)


def test_slicer_reads_the_way_to_mni(slicer_core: Any, tmp_path: Path) -> None:
    import vtk

    file = tmp_path / "from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.h5"
    write_transform(file, TO_MNI)
    scene = slicer_core.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    storage = slicer_core.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(file))
    assert storage.ReadData(node)
    matrix = vtk.vtkMatrix4x4()
    assert node.GetMatrixTransformToParent(matrix)
    read = [[matrix.GetElement(row, column) for column in range(4)] for row in range(4)]
    assert np.array(read) == pytest.approx(TO_MNI)


def test_slicer_reads_a_deformation(slicer_core: Any, tmp_path: Path) -> None:
    """Hung over a scan, the file brings a point of it where our own field says."""
    random = np.random.default_rng(0)
    k, j, i = np.indices((30, 30, 30)) - 15.0
    bump = np.exp(-(k**2 + j**2 + i**2) / 60)
    shifts = (bump * random.uniform(-5, 5, (3, 1, 1, 1))).astype(np.float32)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-40, -60, -30)
    deformation = Deformation(shifts, affine)
    file = tmp_path / "from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.h5"
    write_transform(file, TO_MNI, deformation)
    scene = slicer_core.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    storage = slicer_core.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(file))
    assert storage.ReadData(node)
    points = np.array([[4.0, 1.0, -12.0], [-15.0, -20.0, 0.0], [14.0, 10.0, 22.0]])
    mni = (TO_MNI[:3, :3] @ points.T + TO_MNI[:3, 3:]).astype(np.float64)
    expected = deformation.to_template(mni).T
    assert np.abs(expected - mni.T).max() > 1
    to_parent = node.GetTransformToParent()
    read = [to_parent.TransformPoint(*point) for point in points]
    np.testing.assert_allclose(read, expected, atol=0.1)

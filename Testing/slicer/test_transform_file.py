"""The transform's file as Slicer reads it: hung over a scan it puts the scan into MNI space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from StrokeLesionSegLib.images import write_transform

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

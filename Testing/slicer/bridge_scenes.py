"""Small scenes for the tests of the bridge."""

from __future__ import annotations

from typing import Any

import numpy as np
from StrokeLesionSegLib.images.volume import Volume
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.slicerbridge.module import threshold
from StrokeLesionSegLib.slicerbridge.scene import results, volumes
from StrokeLesionSegLib.slicerbridge.scene.probability_map import ProbabilityMap
from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance


def _oblique() -> np.ndarray:
    a, b = np.radians(20), np.radians(-12)
    turn = np.array(
        [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]]
    ) @ np.array([[1.0, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.9, 1.1, 3.0])
    affine[:3, 3] = (-30.5, 12.25, 40)
    return affine


def _permuted() -> np.ndarray:
    affine = np.zeros((4, 4))
    affine[0, 2], affine[1, 0], affine[2, 1], affine[3, 3] = -1.2, 1, -1, 1
    affine[:3, 3] = (90, -100, 60)
    return affine


AFFINES = {
    "RAS": np.diag([1.0, 1, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1, 1]),
    "sagittal": _permuted(),
    "oblique, thick": _oblique(),
}


def head_node(slicer: Any, affine: np.ndarray | None = None, name: str = "T1") -> Any:
    """A small volume node (20 x 24 x 28 in k, j, i) with some grey values."""
    rng = np.random.default_rng(1)
    array = rng.integers(100, 900, (20, 24, 28)).astype(np.int16)
    node = volumes.add_volume_node(
        Volume(array, AFFINES["RAS"] if affine is None else affine), name
    )
    node.CreateDefaultDisplayNodes()
    return node


def blob_volume(node: Any) -> Volume:
    """A probability on the node's grid: a large blob and a small one, with soft rims."""
    grid = volumes.volume_from_node(node).grid
    k, j, i = np.ogrid[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    one = 1.1 - np.sqrt((k - 9) ** 2 + (j - 9) ** 2 + (i - 8) ** 2) / 9
    two = 0.95 - np.sqrt((k - 12) ** 2 + (j - 16) ** 2 + (i - 21) ** 2) / 7
    probability = np.clip(np.maximum(one, two), 0, 1).astype(np.float32)
    return Volume(probability, grid.affine)


def make_thresholder(
    slicer: Any, provenance: Provenance | None = None, affine: np.ndarray | None = None
) -> Any:
    """(the volume node, the sliders of a segment that was made from two blobs)."""
    node = head_node(slicer, affine)
    made = ProbabilityMap(blob_volume(node))
    segmentation = results.add_segmentation(node)
    patch = made.lesions(OperatingPoint(0.5, min_volume_ml=0.0)).patch
    segment_id = results.add_segment(segmentation, patch, provenance or Provenance())
    return node, threshold.ThresholdEditor(segmentation, segment_id, node, made)


def voxels(thresholder: Any, node: Any) -> np.ndarray:
    """The mask of the sliders' segment on the whole grid of the volume node."""
    found = results.read_segment(thresholder.segmentation_node, thresholder.segment_id, node)
    return found.full()

"""MRML volume nodes and the engine's ``Volume``; every array is [k, j, i], every affine RAS mm.

A node's own geometry is what travels: voxels and ``IJKToRAS``, without the parent transform. What
comes back goes under the same parent transform and so lies on the image in the scene, whether
that transform is linear or a warp. Nothing is resampled for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...images.formats.nifti import nifti_grid
from ...images.volume import Volume
from ..i18n import tr as _


def affine_from_node(node: Any) -> NDArray[np.float64]:
    """4x4 float64, (i, j, k, 1) to RAS mm, of the node itself, without its parent transform."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return affine_from_matrix(matrix)


def affine_from_matrix(matrix: Any) -> NDArray[np.float64]:
    """4x4 float64 of a ``vtkMatrix4x4``."""
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def exact_affine(node: Any) -> NDArray[np.float64]:
    """As ``affine_from_node``, but without what loading did to the last digits.

    Slicer rebuilds directions and origin from a NIfTI header, and turns left-handed volumes into
    right-handed ones. Where the node's file is still there and its header agrees with the node to
    a ten-thousandth of a millimetre, the header's own numbers are taken, with Slicer's order of
    the axes, so that the engine computes the same for both.
    """
    affine = affine_from_node(node)
    storage = node.GetStorageNode()
    path = storage.GetFileName() if storage is not None else None
    if not path or not path.lower().endswith((".nii", ".nii.gz")):
        return affine
    stated = nifti_grid(path)
    if stated is None:
        return affine
    axes = np.rint(np.linalg.inv(stated.affine) @ affine)
    candidate = stated.affine @ axes
    return candidate if np.abs(candidate - affine).max() < 1e-4 else affine


def matrix_from_affine(affine: NDArray[np.floating]) -> Any:
    """``vtkMatrix4x4`` of a 4x4 array."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(affine[row, column]))
    return matrix


def voxels_from_node(node: Any) -> NDArray[Any]:
    """The node's voxels, (K, J, I), as a view that must not outlive the node's image.

    Raises ``InputError`` if the node holds no single scalar 3D image.
    """
    import slicer.util

    name = node.GetName() or node.GetID()
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise InputError(name, _("the volume is empty"), _("Load the image again"))
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(
            name,
            _("each voxel has {count} values").format(count=image.GetNumberOfScalarComponents()),
            _("Choose a volume with one value per voxel, such as a T1-weighted scan"),
        )
    array = slicer.util.arrayFromVolume(node)
    return array.reshape(array.shape[-3:]) if array.ndim == 4 else array


def volume_from_node(node: Any) -> Volume:
    """A copy of the node's voxels in their own type, (K, J, I), with its own affine.

    Raises ``InputError`` if the node holds no single scalar 3D image.
    """
    return Volume(np.array(voxels_from_node(node)), affine_from_node(node))


def fingerprint(array: NDArray[Any]) -> str:
    """A few numbers that tell these voxels (K, J, I) from others, for ``same_voxels``; under a
    millisecond."""
    sparse = array[tuple(slice(None, None, max(1, n // 32)) for n in array.shape)]
    sample = np.nan_to_num(sparse.astype(np.float64), posinf=0, neginf=0)
    # What is summed up has another weight at each place, so that moving it does not go unseen.
    waves = [np.cos(np.outer([0.7, 1.9], np.arange(1, n + 1))) for n in sample.shape]
    sums = np.einsum("kji,ak,bj,ci->abc", sample, *waves, optimize=True).ravel()
    values = [float(np.linalg.norm(sample)), *sums.tolist()]
    return " ".join([*map(str, array.shape), *(f"{value:.8g}" for value in values)])


def same_voxels(kept: str, array: NDArray[Any]) -> bool:
    """Whether voxels (K, J, I) are those of a ``fingerprint``, but for what storing them in
    another type does to the last digits."""
    then = np.array(kept.split(), np.float64)
    # Saving turns a left-handed volume into a right-handed one, with its slices in reverse.
    for found in (array, array[::-1]):
        now = np.array(fingerprint(found).split(), np.float64)
        # The shape, which is whole numbers, the length of the sample, and its sums.
        if np.array_equal(now[:3], then[:3]) and np.allclose(now, then, 0, 1e-4 * then[3]):
            return True
    return False


def image_of(segmentation_node: Any) -> Any | None:
    """The image that a segmentation was made on; None if it is not in the scene."""
    import slicer

    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentation_node.GetNodeReference(role)


def add_volume_node(
    volume: Volume,
    name: str,
    like: Any | None = None,
    class_name: str = "vtkMRMLScalarVolumeNode",
    display: Any | None = None,
) -> Any:
    """Add a volume node with these voxels (copied); under the parent transform of ``like``.

    ``display``: the display node that it gets before its voxels.
    """
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name))
    if display is not None:
        node.SetAndObserveDisplayNodeID(display.GetID())
    set_volume(node, volume)
    if like is not None:
        node.SetAndObserveTransformNodeID(like.GetTransformNodeID())
    return node


def set_volume(node: Any, volume: Volume) -> None:
    """Replace the voxels and the geometry of a volume node (copied)."""
    import slicer.util

    node.SetIJKToRASMatrix(matrix_from_affine(volume.affine))
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(volume.array))


def node_by_id(node_id: str | None) -> Any | None:
    """The node if the scene still has it."""
    import slicer

    return slicer.mrmlScene.GetNodeByID(node_id) if node_id else None


def if_present(node: Any | None) -> Any | None:
    """The node itself if the scene still has it: another may have its ID meanwhile."""
    import slicer

    return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None


def first_scan() -> Any | None:
    """The first image of the scene that a run could start with, see ``is_scan``."""
    import slicer.util

    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return next((node for node in volumes if is_scan(node)), None)


def is_scan(node: Any) -> bool:
    """Whether a volume node holds an image in 3D that is no label map and none of our maps."""
    image = node.GetImageData()
    if node.GetClassName() != "vtkMRMLScalarVolumeNode" or image is None:
        return False
    return not node.GetAttribute("StrokeLesionSeg") and min(image.GetDimensions()) > 1


def own_maps() -> list[Any]:
    """Our probabilities, uncertainties and mirrored scans: volumes that nobody would segment."""
    import slicer.util

    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in volumes if node.GetAttribute("StrokeLesionSeg")]

"""What an edit belongs to: segment and grid, remembered, so that nothing lands elsewhere later.

World is Slicer's scene in RAS mm. Local is the segmentation's own frame in RAS mm, before its
parent transform; the two differ only under one. An index is (k, j, i) of the edited grid, whose
first voxel is (0, 0, 0) whatever extent Slicer's images have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...boxes import Box, whole_box
from ...images.volume import Grid, Volume
from ..i18n import tr as _
from ..scene.results import finished
from ..scene.volumes import affine_from_node, node_by_id


class CannotEdit(Exception):
    """Why nothing was changed, in a sentence for the user."""


@dataclass(frozen=True)
class EditTarget:
    """One segment of one segmentation, by their ids: selections may move while work goes on."""

    segmentation_id: str
    segment_id: str

    @classmethod
    def selected(cls, editor_node: Any) -> EditTarget | None:
        """The segment that is selected in a ``vtkMRMLSegmentEditorNode``, or None."""
        node = editor_node.GetSegmentationNode() if editor_node is not None else None
        segment_id = editor_node.GetSelectedSegmentID() if node is not None else None
        if not segment_id or node.GetSegmentation().GetSegment(segment_id) is None:
            return None
        return cls(node.GetID(), segment_id)

    @property
    def node(self) -> Any | None:
        """The segmentation node, as long as the scene has it."""
        return node_by_id(self.segmentation_id)

    @property
    def segment(self) -> Any | None:
        """The ``vtkSegment``, as long as it exists."""
        node = self.node
        return None if node is None else node.GetSegmentation().GetSegment(self.segment_id)

    def refusal(self) -> str:
        """Why the segment must not be changed now; empty if it may be."""
        segment = self.segment
        if segment is None:
            return _("The segment was removed.")
        if finished(segment):
            return _(
                "The segment '{name}' is marked as completed. Set its status back to 'In "
                "progress' in the list of segments to edit it."
            ).format(name=segment.GetName())
        return ""


@dataclass(frozen=True)
class EditGrid:
    """The grid on which a segmentation is edited, and its place in the scene.

    ``grid``: shape (K, J, I) and affine to local RAS mm, for indices from 0. ``first``: index
    (k, j, i) that Slicer gives to our first voxel. ``frame``: ``vtkOrientedImageData`` without
    voxels that has exactly Slicer's directions, spacing and origin.
    """

    grid: Grid
    first: tuple[int, int, int]
    segmentation_id: str
    frame: Any = field(repr=False, compare=False)

    @classmethod
    def from_image(cls, image: Any, segmentation_node: Any) -> EditGrid:
        """The grid of an image that Slicer aligned with the segmentation (its modifier labelmap
        or source volume). Raises ``CannotEdit`` if that is empty."""
        import slicer

        extent = image.GetExtent()
        shape = tuple(extent[2 * a + 1] - extent[2 * a] + 1 for a in (2, 1, 0))
        if min(shape) < 1:
            raise CannotEdit(_("The segmentation has no geometry yet: choose a source volume."))
        first = (extent[4], extent[2], extent[0])
        affine = _matrix_of(image)
        affine[:3, 3] += affine[:3, :3] @ np.array(first[::-1], float)
        frame = slicer.vtkOrientedImageData()
        frame.SetSpacing(image.GetSpacing())
        frame.SetOrigin(image.GetOrigin())
        frame.CopyDirections(image)
        k, j, i = shape
        return cls(Grid((k, j, i), affine), first, segmentation_node.GetID(), frame)

    def matches(self, image: Any, segmentation_node: Any) -> bool:
        """True if an image that Slicer aligned still lies on this grid's voxels, whatever its
        extent, so that indices mean the same."""
        if segmentation_node is None or segmentation_node.GetID() != self.segmentation_id:
            return False
        return self._lies_under(image)

    def covers(self, image: Any) -> bool:
        """True if an image that Slicer aligned has exactly this grid's voxels."""
        k, j, i = self.grid.shape
        same = image.GetDimensions() == (i, j, k) and image.GetExtent()[::2] == self.first[::-1]
        return same and self._lies_under(image)

    def _lies_under(self, image: Any) -> bool:
        """Whether an index means the same place in the image as in this grid."""
        here = _matrix_of(self.frame)
        return bool(np.allclose(_matrix_of(image), here, rtol=0, atol=1e-6))

    @property
    def node(self) -> Any | None:
        return node_by_id(self.segmentation_id)

    def stamp(self) -> dict[str, Any]:
        """The grid in JSON, to be kept beside places on it, see ``moved_since``."""
        affine = [round(float(v), 6) for v in self.grid.affine[:3].ravel()]
        return {"shape": list(self.grid.shape), "affine": affine}

    def moved_since(self, stamp: Any) -> NDArray[np.float64]:
        """4x4, from local RAS mm when the grid had this stamp to those of now.

        A grid of the same shape at another place was moved as a whole, as by hardening a
        transform; on one of another shape, and without a stamp, places are what they were. Raises
        ``ValueError`` or ``TypeError`` for a stamp that makes no sense.
        """
        if not isinstance(stamp, dict) or stamp.get("shape") != list(self.grid.shape):
            return np.eye(4)
        then = np.vstack([np.array(stamp.get("affine"), float).reshape(3, 4), [0, 0, 0, 1]])
        if np.allclose(then, self.grid.affine, rtol=0, atol=1e-5):
            return np.eye(4)
        return np.asarray(self.grid.affine @ np.linalg.inv(then))

    def to_local(self, world: Any) -> NDArray[np.float64]:
        """A point of the scene (RAS mm) in the segmentation's own frame, through any transform."""
        return np.array(self._transform(False).TransformPoint([float(v) for v in world]))

    def to_world(self, local: Any) -> NDArray[np.float64]:
        """The reverse."""
        return np.array(self._transform(True).TransformPoint([float(v) for v in local]))

    def local_to_index(self, local: Any) -> NDArray[np.float64]:
        """Index (k, j, i), not rounded, of a local point."""
        ijk = np.linalg.inv(self.grid.affine) @ np.array([*local, 1.0])
        return ijk[2::-1]

    def index_to_local(self, index: Any) -> NDArray[np.float64]:
        """Local RAS mm of an index (k, j, i)."""
        k, j, i = index
        return (self.grid.affine @ np.array([i, j, k, 1.0]))[:3]

    def inside(self, local: Any) -> bool:
        """True if a local point lies in a voxel of the grid."""
        index = np.rint(self.local_to_index(local))
        return bool((index >= 0).all() and (index < self.grid.shape).all())

    def world_to_index_matrix(self) -> NDArray[np.floating] | None:
        """4x4, scene RAS mm to (i, j, k); None if the segmentation lies under a warp."""
        import vtk

        node = self.node
        parent = node.GetParentTransformNode() if node is not None else None
        if parent is None:
            return np.linalg.inv(self.grid.affine)
        if not parent.IsTransformToWorldLinear():
            return None
        matrix = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformFromWorld(matrix)
        from_world = [[matrix.GetElement(r, c) for c in range(4)] for r in range(4)]
        return np.linalg.inv(self.grid.affine) @ np.array(from_world)

    def world_to_index_transform(self) -> Any:
        """``vtkGeneralTransform``, scene RAS mm to (i, j, k) of the edited grid."""
        import vtk

        from ..scene.volumes import matrix_from_affine

        transform = vtk.vtkGeneralTransform()
        transform.PostMultiply()
        transform.Concatenate(self._transform(False))
        transform.Concatenate(matrix_from_affine(np.linalg.inv(self.grid.affine)))
        return transform

    def _transform(self, outward: bool) -> Any:
        import slicer
        import vtk

        node = self.node
        parent = node.GetParentTransformNode() if node is not None else None
        transform = vtk.vtkGeneralTransform()
        ends = (parent, None) if outward else (None, parent)
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(*ends, transform)
        return transform


def _matrix_of(image: Any) -> NDArray[np.float64]:
    """4x4, (i, j, k) of the image's own extent to local RAS mm."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def voxels_of_image(image: Any) -> NDArray[Any]:
    """The voxels of a ``vtkImageData`` with one value each, (K, J, I), as a view."""
    from vtk.util.numpy_support import vtk_to_numpy

    i, j, k = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)


def volume_of_image(image: Any, edit_grid: EditGrid) -> Volume:
    """A copy of the aligned source volume on the edited grid."""
    return Volume(np.array(voxels_of_image(image)), edit_grid.grid.affine)


def resampled(node: Any, edit_grid: EditGrid) -> NDArray[np.float32]:
    """A volume node's values on the edited grid, (K, J, I), linear, 0 outside; both may lie
    under transforms of their own."""
    import slicer
    import vtk

    from ..scene.volumes import voxels_from_node

    segmentation = edit_grid.node
    own = Grid(voxels_from_node(node).shape, affine_from_node(node))  # type: ignore[arg-type]
    together = (node.GetTransformNodeID() or None) == (segmentation.GetTransformNodeID() or None)
    if together and own.same_as(edit_grid.grid):
        return np.array(voxels_from_node(node), dtype=np.float32)
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(node.GetImageData())
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        node.GetParentTransformNode(), segmentation.GetParentTransformNode(), transform
    )
    wanted, out = empty_image(edit_grid), slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        image, wanted, out, True, False, transform, 0.0
    )
    return np.array(voxels_of_image(out), dtype=np.float32)


def empty_image(edit_grid: EditGrid, box: Box | None = None) -> Any:
    """``vtkOrientedImageData`` of zeros (unsigned char) on the grid, or on a box of it, with
    exactly Slicer's geometry and extent."""
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    image = slicer.vtkOrientedImageData()
    image.SetSpacing(edit_grid.frame.GetSpacing())
    image.SetOrigin(edit_grid.frame.GetOrigin())
    image.CopyDirections(edit_grid.frame)
    box = box or whole_box(edit_grid.grid.shape)
    starts = [first + part.start for first, part in zip(edit_grid.first, box, strict=True)]
    sizes = [part.stop - part.start for part in box]
    extent: list[int] = []
    for axis in (2, 1, 0):
        extent += [starts[axis], starts[axis] + sizes[axis] - 1]
    image.SetExtent(*extent)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = 0
    return image

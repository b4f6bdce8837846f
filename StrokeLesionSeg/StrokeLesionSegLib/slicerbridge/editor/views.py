"""Slice views and the edited grid: where a pixel lies, what a view shows, and overlays in it.

Works on slice nodes and VTK only; the effects bring widgets. XY are pixels of a slice view, from
its lower left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scene.volumes import matrix_from_affine
from .target import EditGrid

# A view turned by less than this against the grid shows slices of the grid.
_ALIGNED_COSINE = float(np.cos(np.radians(0.5)))
Color = tuple[float, float, float]


@dataclass(frozen=True)
class ViewPlane:
    """What a slice view shows, in the segmentation's local RAS mm.

    ``origin``: the middle of the view. ``u``, ``v``: to the right and up, of unit length.
    ``axis``, ``index``: the native slice it shows; ``axis`` is None if the view is turned against
    the grid or shows no slice of it.
    """

    origin: NDArray[np.floating]
    u: NDArray[np.floating]
    v: NDArray[np.floating]
    axis: int | None
    index: int

    @property
    def normal(self) -> NDArray[np.floating]:
        return np.cross(self.u, self.v)


def xy_to_world(slice_node: Any, xy: Sequence[float]) -> NDArray[np.floating]:
    """RAS mm in the scene of a pixel."""
    return np.array(slice_node.GetXYToRAS().MultiplyPoint((xy[0], xy[1], 0.0, 1.0))[:3])


def world_to_xy(slice_node: Any, world: Sequence[float]) -> NDArray[np.floating]:
    """(x, y) in pixels and the distance from the slice's plane in mm."""
    import vtk

    inverse = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(slice_node.GetXYToRAS(), inverse)
    x, y = inverse.MultiplyPoint((*(float(w) for w in world), 1.0))[:2]
    origin = xy_to_world(slice_node, (0, 0))
    across = np.cross(
        xy_to_world(slice_node, (1, 0)) - origin, xy_to_world(slice_node, (0, 1)) - origin
    )
    across /= np.linalg.norm(across)
    return np.array([x, y, float(across @ (np.array(world) - origin))])


def pixel_size(slice_node: Any) -> float:
    """Millimetres a pixel, along the vertical of the view."""
    up = xy_to_world(slice_node, (0, 1)) - xy_to_world(slice_node, (0, 0))
    return float(np.linalg.norm(up))


def view_plane(slice_node: Any, edit_grid: EditGrid) -> ViewPlane:
    """What the view shows of the edited grid."""
    width, height = slice_node.GetDimensions()[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    step = 20.0  # pixels, for directions that a warp turns little by little
    here = edit_grid.to_local(xy_to_world(slice_node, middle))
    right = edit_grid.to_local(xy_to_world(slice_node, (middle[0] + step, middle[1])))
    up = edit_grid.to_local(xy_to_world(slice_node, (middle[0], middle[1] + step)))
    u = (right - here) / np.linalg.norm(right - here)
    v = up - here - u * (u @ (up - here))
    v /= np.linalg.norm(v)
    axis, index = _native_slice(edit_grid, here, np.cross(u, v))
    return ViewPlane(here, u, v, axis, index)


def _native_slice(
    edit_grid: EditGrid, point: NDArray[np.floating], normal: NDArray[np.floating]
) -> tuple[int | None, int]:
    """(array axis, index) of the native slice in a plane; (None, 0) if there is none."""
    to_index = np.linalg.inv(edit_grid.grid.affine)[:3, :3]
    # Rows are the gradients of i, j, k: the normals of the native slices, in a sheared grid too.
    for row, axis in ((0, 2), (1, 1), (2, 0)):
        across = to_index[row] / np.linalg.norm(to_index[row])
        if abs(float(across @ normal)) >= _ALIGNED_COSINE:
            index = int(np.rint(edit_grid.local_to_index(point)[axis]))
            if 0 <= index < edit_grid.grid.shape[axis]:
                return axis, index
    return None, 0


def brush_circle(
    slice_node: Any,
    centre_world: Sequence[float],
    radius_mm: float,
    sphere: bool,
    own_view: bool,
) -> tuple[float, float, float] | None:
    """Centre (x, y) and radius in pixels of the brush as this view cuts it, or None.

    A disk shows in the view that it is painted in only, a sphere in all that cut it.
    """
    x, y, off = world_to_xy(slice_node, centre_world)
    if not sphere:
        cut = radius_mm if own_view else 0.0
    else:
        cut = float(np.sqrt(max(0.0, radius_mm**2 - off**2)))
    return (float(x), float(y), cut / pixel_size(slice_node)) if cut > 0 else None


class Overlay:
    """A small label image (0 shows nothing) drawn above one slice view or several.

    ``labels``: uint8 (K, J, I) on the edited grid; change it in place and call ``changed``.
    """

    def __init__(self, edit_grid: EditGrid) -> None:
        import vtk
        from vtk.util.numpy_support import numpy_to_vtk

        self.edit_grid = edit_grid
        self.labels = np.zeros(edit_grid.grid.shape, np.uint8)
        k, j, i = edit_grid.grid.shape
        self.image = vtk.vtkImageData()
        self.image.SetDimensions(i, j, k)
        # The array and the image share their memory.
        self.image.GetPointData().SetScalars(numpy_to_vtk(self.labels.reshape(-1), deep=0))
        self.table = vtk.vtkLookupTable()
        self.table.SetNumberOfTableValues(4)
        self.table.SetTableRange(0, 3)
        for value in range(4):
            self.table.SetTableValue(value, 0, 0, 0, 0)

    def set_color(self, value: int, color: Color, opacity: float) -> None:
        """Colour and opacity (0 to 1) of the label ``value`` (1 to 3)."""
        self.table.SetTableValue(value, *color, opacity)

    def changed(self) -> None:
        """Call after ``labels`` was changed."""
        self.image.GetPointData().GetScalars().Modified()
        self.image.Modified()


class OverlayActor:
    """Draws an ``Overlay`` in one slice view; ``actor`` goes into the view's renderer."""

    def __init__(self, overlay: Overlay) -> None:
        import vtk

        self.overlay = overlay
        self.reslice = vtk.vtkImageReslice()
        self.reslice.SetInputData(overlay.image)
        self.reslice.SetInterpolationModeToNearestNeighbor()
        self.reslice.SetOutputDimensionality(3)
        self.reslice.SetOutputSpacing(1, 1, 1)
        self.reslice.SetOutputOrigin(0, 0, 0)
        self.reslice.SetBackgroundLevel(0)
        self.colors = vtk.vtkImageMapToColors()
        self.colors.SetOutputFormatToRGBA()
        self.colors.SetLookupTable(overlay.table)
        self.colors.SetInputConnection(self.reslice.GetOutputPort())
        self.mapper = vtk.vtkImageMapper()
        self.mapper.SetInputConnection(self.colors.GetOutputPort())
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(self.mapper)

    def follow(self, slice_node: Any) -> None:
        """Cut the overlay where the view is now."""
        import vtk

        width, height = slice_node.GetDimensions()[:2]
        edit_grid = self.overlay.edit_grid
        matrix = edit_grid.world_to_index_matrix()
        # VTK cuts many times faster along a matrix than along a general transform.
        transform = vtk.vtkGeneralTransform() if matrix is None else vtk.vtkTransform()
        transform.PostMultiply()
        transform.Concatenate(slice_node.GetXYToRAS())
        if matrix is None:
            transform.Concatenate(edit_grid.world_to_index_transform())
        else:
            transform.Concatenate(matrix_from_affine(matrix))
        self.reslice.SetResliceTransform(transform)
        self.reslice.SetOutputExtent(0, max(width, 1) - 1, 0, max(height, 1) - 1, 0, 0)


class CircleActor:
    """The outline of the brush in one slice view."""

    def __init__(self) -> None:
        import vtk

        self.source = vtk.vtkRegularPolygonSource()
        self.source.SetNumberOfSides(48)
        self.source.GeneratePolygonOff()
        self.mapper = vtk.vtkPolyDataMapper2D()
        self.mapper.SetInputConnection(self.source.GetOutputPort())
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(self.mapper)
        self.actor.GetProperty().SetLineWidth(1.5)
        self.actor.VisibilityOff()

    def show(self, circle: tuple[float, float, float] | None, color: Color) -> None:
        """Draw a circle (x, y, radius in pixels), or nothing."""
        if circle is None:
            self.actor.VisibilityOff()
            return
        x, y, radius = circle
        self.source.SetCenter(x, y, 0)
        self.source.SetRadius(radius)
        self.actor.GetProperty().SetColor(*color)
        self.actor.VisibilityOn()


def jump(edit_grid: EditGrid, local: Sequence[float]) -> None:
    """Centre all slice views on a local point."""
    import slicer.util

    world = [float(v) for v in edit_grid.to_world(local)]
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*world)
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is not None:
        crosshair.SetCrosshairRAS(world)

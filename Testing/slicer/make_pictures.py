"""Pictures of the manual: slice views and 3D, drawn by Slicer's own libraries without its desktop,
and the panel offscreen.

    python Testing/slicer/make_pictures.py [FOLDER] [--model NAME] [--simulated-probability]

makes the sample, segments it, and writes ``slices.png``, ``overlay.png``, ``three-d.png``,
``panel-2-ready.png`` and ``panel-4-result.png`` into FOLDER. Without FOLDER they go to
docs/pictures and, as the extension's screenshots, to Resources. Needs EGL (Debian packages:
libegl1, libgl1-mesa-dri) and PySide6 (make test installs it).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(Path(__file__).resolve().parent),
    str(ROOT / "Testing" / "gui"),
    str(ROOT / "StrokeLesionSeg"),
]
SCREENSHOTS = {"slices.png": "screenshot-slices.png", "panel-4-result.png": "screenshot-panel.png"}

import headless_slicer  # noqa: E402
import numpy as np  # noqa: E402

ORIENTATIONS = ("Axial", "Coronal", "Sagittal")


class Views:
    """Offscreen views of one scene."""

    def __init__(self, slicer: Any, size: int = 420) -> None:
        import vtk

        self.slicer, self.vtk, self.size = slicer, vtk, size
        self._windows: list[Any] = []  # kept until the end, managers included
        logic = slicer.app.applicationLogic()
        self._slices = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self._threed = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        for factory, name in (
            (self._slices, "vtkMRMLSegmentationsDisplayableManager2D"),
            (self._threed, "vtkMRMLSegmentationsDisplayableManager3D"),
        ):
            factory.SetMRMLApplicationLogic(logic)
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)

    def slice(
        self,
        orientation: str,
        point: tuple[float, float, float],
        volume: Any,
        draw: Callable[[Any, Any], None] | None = None,
        width_mm: float = 0.0,
    ) -> np.ndarray:
        """One slice view with everything that is shown in it, (H, W, 3) uint8.

        ``draw(renderer, slice_node)`` may add actors of its own. ``width_mm``: shown around
        ``point``; 0 shows the whole slice.
        """
        slicer, vtk = self.slicer, self.vtk
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetSliceLogics().AddItem(logic)
        logic.SetMRMLScene(slicer.mrmlScene)
        node = logic.AddSliceNode(f"Picture{len(self._windows)}")
        node.SetOrientation(orientation)
        node.SetDimensions(self.size, self.size, 1)
        composite = logic.GetSliceCompositeNode(node)
        template = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(template.GetForegroundVolumeID())
        composite.SetForegroundOpacity(template.GetForegroundOpacity())
        logic.FitSliceToAll(self.size, self.size)
        node.JumpSliceByOffsetting(*point)
        if width_mm:
            node.SetFieldOfView(width_mm, width_mm, node.GetFieldOfView()[2])
            node.JumpSliceByCentering(*point)
        window = self._window()
        renderer = window.GetRenderers().GetFirstRenderer()
        mapper = vtk.vtkImageMapper()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        logic.GetBlend()
        logic.UpdatePipeline()
        mapper.SetInputConnection(logic.GetImageDataConnection())
        actor = vtk.vtkActor2D()
        actor.SetMapper(mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        renderer.AddViewProp(actor)  # before the managers, or their fills blend with black
        group = self._slices.InstantiateDisplayableManagers(renderer)
        group.SetMRMLDisplayableNode(node)
        self._windows.append((group, logic))
        if draw is not None:
            draw(renderer, node)
        return self._grab(window)

    def three_d(self, brain: Any, azimuth: float) -> np.ndarray:
        """The 3D view of all closed surfaces, with a pale surface of the brain around them."""
        slicer = self.slicer
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLViewNode", "Picture3D")
        window = self._window()
        renderer = window.GetRenderers().GetFirstRenderer()
        renderer.SetBackground(0.97, 0.97, 0.98)
        renderer.AddActor(brain)
        group = self._threed.InstantiateDisplayableManagers(renderer)
        group.SetMRMLDisplayableNode(node)
        renderer.SetUseDepthPeeling(1)
        renderer.ResetCamera()
        camera = renderer.GetActiveCamera()
        focus = np.array(camera.GetFocalPoint())
        turn = np.radians(azimuth)
        camera.SetPosition(*(focus + 420 * np.array([-np.cos(turn), np.sin(turn), 0.35])))
        camera.SetViewUp(0, 0, 1)
        renderer.ResetCamera()
        camera.Zoom(1.35)
        return self._grab(window)

    def _window(self) -> Any:
        window = self.vtk.vtkRenderWindow()
        interactor = self.vtk.vtkGenericRenderWindowInteractor()
        interactor.SetRenderWindow(window)  # the displayable managers ask the window for one
        window.SetOffScreenRendering(1)
        window.SetMultiSamples(0)
        window.SetAlphaBitPlanes(1)
        window.SetSize(self.size, self.size)
        window.AddRenderer(self.vtk.vtkRenderer())
        self._windows.append((window, interactor))
        return window

    def _grab(self, window: Any) -> np.ndarray:
        from vtk.util.numpy_support import vtk_to_numpy

        window.Render()
        grab = self.vtk.vtkWindowToImageFilter()
        grab.SetInput(window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars())
        return pixels.reshape(height, width, -1)[::-1, :, :3].copy()


def brain_surface(vtk: Any) -> Any:
    """A pale actor of the MNI152 brain where the sample has it, RAS mm."""
    from StrokeLesionSegLib.images.space.template import template_brain
    from StrokeLesionSegLib.sample_scan import HEAD_SHIFT_MM
    from vtk.util.numpy_support import numpy_to_vtk

    brain = template_brain()
    image = vtk.vtkImageData()
    image.SetDimensions(*brain.array.shape[::-1])
    image.SetSpacing(2, 2, 2)
    image.SetOrigin(*(brain.affine[:3, 3] + HEAD_SHIFT_MM))
    image.GetPointData().SetScalars(numpy_to_vtk(brain.array.reshape(-1), deep=1))
    surface = vtk.vtkFlyingEdges3D()
    surface.SetInputData(image)
    surface.SetValue(0, 127)
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(surface.GetOutputPort())
    smooth.SetNumberOfIterations(20)
    mapper = vtk.vtkPolyDataMapper()
    mapper.SetInputConnection(smooth.GetOutputPort())
    mapper.ScalarVisibilityOff()
    actor = vtk.vtkActor()
    actor.SetMapper(mapper)
    actor.GetProperty().SetColor(0.83, 0.78, 0.74)
    actor.GetProperty().SetOpacity(0.25)
    return actor


def truth_as_probability(simulated: Any) -> Any:
    """A made-up probability for pictures without a model: the truth with soft rims."""
    from scipy import ndimage

    soft = ndimage.gaussian_filter(simulated.truth.array.astype(np.float32), 2.0)
    return simulated.truth.with_array(np.clip(soft, 0, 1).astype(np.float32))


def open_panel(slicer: Any, folder: Path) -> Any:
    """The module's panel offscreen, with stand-ins for Slicer's widgets."""
    import pythonqt_stand_in as stand_in
    import slicer_python
    from test_panel_offscreen import Panel

    slicer_python.install(stand_in.make_qt(), stand_in.make_ctk())
    slicer.util.loadUI = stand_in.load_ui
    slicer.util.childWidgetVariables = stand_in.child_widgets
    panel = Panel(slicer, folder)
    panel.window.resize(440, 770)
    return panel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--model", default="")
    parser.add_argument("--simulated-probability", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder or ROOT / "docs" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    slicer = headless_slicer.start(tempfile.mkdtemp())
    from PIL import Image
    from StrokeLesionSegLib.operating_point import OperatingPoint
    from StrokeLesionSegLib.sample_scan import stroke_in_head
    from StrokeLesionSegLib.slicerbridge.engine.run import RunParameters
    from StrokeLesionSegLib.slicerbridge.module import sample
    from StrokeLesionSegLib.slicerbridge.module.logic import SEGMENT_ATTRIBUTE, BridgeLogic
    from StrokeLesionSegLib.slicerbridge.scene import results
    from StrokeLesionSegLib.slicerbridge.scene.probability_map import ProbabilityMap
    from StrokeLesionSegLib.slicerbridge.scene.provenance import Provenance

    volume = sample.add_sample()
    panel = open_panel(slicer, folder)
    panel.picture("2-ready")
    if arguments.simulated_probability:
        probability = truth_as_probability(stroke_in_head())
        segmentation = results.add_segmentation(volume)
        node = results.add_map(probability, volume, "probability")
        segmentation.SetNodeReferenceID(results.PROBABILITY_ROLE, node.GetID())
        found = ProbabilityMap(probability).lesions(OperatingPoint(0.5, min_volume_ml=0.05))
        segment_id = results.add_segment(segmentation, found.patch, Provenance())
        segmentation.SetAttribute(SEGMENT_ATTRIBUTE, segment_id)
    else:
        segmentation = BridgeLogic().segment(volume, RunParameters(model=arguments.model))
    panel.parameters.inputVolume = None
    panel.parameters.inputVolume = volume  # now it has a result
    panel.choose("overlay", "probability")
    panel.picture("4-result")
    node = results.maps_of(segmentation)[0]
    views = Views(slicer)
    import vtk

    centre = (-41.0, -19.0, 43.0)
    results.show_overlay(None)
    rows = [views.slice(name, centre, volume) for name in ORIENTATIONS]
    Image.fromarray(np.hstack(rows)).save(folder / "slices.png", optimize=True)
    segmentation.SetDisplayVisibility(False)
    results.show_overlay(node, 0.7)
    rows = [views.slice(name, centre, volume) for name in ORIENTATIONS]
    Image.fromarray(np.hstack(rows)).save(folder / "overlay.png", optimize=True)
    segmentation.SetDisplayVisibility(True)
    segmentation.CreateClosedSurfaceRepresentation()
    shots = [views.three_d(brain_surface(vtk), azimuth) for azimuth in (20, 70)]
    Image.fromarray(np.hstack(shots)).save(folder / "three-d.png", optimize=True)
    if arguments.folder is None:
        for picture, screenshot in SCREENSHOTS.items():
            shutil.copy(folder / picture, ROOT / "Resources" / screenshot)
    print(f"pictures in {folder}")
    panel.widget.cleanup()
    panel.stand_in.raw(panel.ui.inputSelector).forget()
    panel.window.close()


if __name__ == "__main__":
    main()

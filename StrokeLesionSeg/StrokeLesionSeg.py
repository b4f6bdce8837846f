"""The scripted module StrokeLesionSeg: chronic stroke lesions in T1-weighted MRI.

Thin on purpose: what happens is in ``StrokeLesionSegLib.slicerbridge``; here are the module's
registration, its parameters, the widget that shows them, and the self test.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import (
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from StrokeLesionSegLib.slicerbridge.module.logic import BridgeLogic

SEGMENTATION_CATEGORY = "Segmentation"
PYTHON_NEEDED = (3, 10)


class StrokeLesionSeg(ScriptedLoadableModule):
    """The module's name, help and registrations. Nothing heavy happens here."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Stroke Lesion Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", SEGMENTATION_CATEGORY)]
        self.parent.dependencies = ["Segmentations", "Terminologies"]
        self.parent.contributors = ["StrokeLesionSeg contributors"]
        self.parent.helpText = _(
            "Finds chronic stroke lesions in a T1-weighted MRI of the head, on this computer. "
            "The result is a segment with its probability, which follows a threshold without a "
            "new run and can be corrected in the Segment Editor. Nothing is sent anywhere. "
            "For research; not a medical device."
        )
        self.parent.acknowledgementText = _(
            "Please cite this software, as the README and CITATION.cff say. The model that ships "
            "was trained on simulated strokes; the project's NOTICE names the sources of its data."
        )
        slicer.app.connect("startupCompleted()", registerWithSlicer)


def registerWithSlicer():
    """Offer sample data, terminology and Segment Editor effects, each once in a session.

    Called when Slicer has started, and with the panel: a module that was added to a running Slicer
    sees no start. A step that fails keeps none of the others off and is tried again.
    """
    if sys.version_info < PYTHON_NEEDED:
        return
    done = getattr(slicer.modules, "strokeLesionSegRegistered", frozenset())
    for step in (_registerSample, _loadTerminology, _registerEffects):
        if step.__name__ in done:
            continue
        try:
            step()
        except Exception:
            logging.exception("StrokeLesionSeg: %s failed", step.__name__)
        else:
            done = done | {step.__name__}
    slicer.modules.strokeLesionSegRegistered = done


def _registerSample():
    from StrokeLesionSegLib.slicerbridge.module import sample

    icons = Path(__file__).parent / "Resources" / "Icons"
    sample.register_sample("StrokeLesionSeg", str(icons / "StrokeT1Simulated.png"))


def _loadTerminology():
    from StrokeLesionSegLib.slicerbridge.scene import terminology

    terminology.load_terminology()


def _registerEffects():
    import StrokeLesionSegEffects

    StrokeLesionSegEffects.registerEffects()


@parameterNodeWrapper
class StrokeLesionSegParameterNode:
    """What is saved with the scene."""

    inputVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    threshold: Annotated[float, WithinRange(0.05, 0.95)] = 0.5
    minimumVolumeMl: Annotated[float, WithinRange(0.0, 100.0)] = 0.05
    # Voxels "k j i; k j i" of the lesions that were unticked.
    dropped: str = ""
    views: str = ""
    align: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    model: str = ""
    overlay: str = "none"
    overlayOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5


class StrokeLesionSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Shows parameters and results, and starts what the logic does."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.controller = None
        self._parameterNode = None
        self._guiTag = None

    # -- life of the widget ---------------------------------------------------------------------

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        if sys.version_info < PYTHON_NEEDED:
            self._showTooOld()
            return
        registerWithSlicer()
        from StrokeLesionSegLib.slicerbridge.module.controller import PanelController

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/StrokeLesionSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = StrokeLesionSegLogic()
        self.controller = PanelController(self.ui, self.logic, qt)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onEndClose)
        self.addObserver(scene, scene.StartImportEvent, self.onStartImport)
        self.addObserver(scene, scene.EndImportEvent, self.onEndImport)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            self._observeSegmentation(node)  # they came before the panel
        self.initializeParameterNode()
        self.controller.chooseScan()

    def _showTooOld(self):
        """One line instead of the panel; there is no controller then."""
        text = _(
            "This module needs Slicer 5.10 or newer, or a Slicer with Python 3.10 or newer. "
            "This Slicer has Python {version}."
        )
        label = qt.QLabel(text.format(version=sys.version.split()[0]))
        label.wordWrap = True
        self.layout.addWidget(label)

    def enter(self):
        if not self.controller:
            return
        node = self._parameterNode
        if node and node.parameterNode is self.logic.parameterNodeOfScene():
            self.controller.chooseScan()
            self.controller.lookAgain()
        else:
            self.initializeParameterNode()
            self.controller.chooseScan()
        self.controller.checkDevice()
        self.controller.keepWidth(self.parent, True)

    def exit(self):
        """Nothing is disconnected: a run goes on meanwhile, and its result has to arrive."""
        if self.controller:
            self.controller.leave()
            self.controller.keepWidth(self.parent, False)

    def cleanup(self):
        if self.controller:
            self.controller.shutDown()
        self._disconnectParameterNode()
        self.removeObservers()

    def onStartClose(self, caller, event):
        self.controller.cancel()
        self.setParameterNode(None)
        self.controller.forget()
        self.logic.forget()

    def onEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onStartImport(self, caller, event):
        # Nodes arrive one by one: a half-loaded scene must not be taken for what the user chose.
        self.controller.leaveAlone()
        self.setParameterNode(None)

    def onEndImport(self, caller, event):
        # Nothing is chosen by itself: what the scene says counts.
        self.onEndClose(caller, event)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        if node.IsA("vtkMRMLSegmentationNode"):
            self._observeSegmentation(node)
        elif not node.IsA("vtkMRMLVolumeNode"):
            return
        self.controller.somethingArrived()

    def _observeSegmentation(self, node):
        """A script may fill it at any time, and anybody remove a result."""
        for event in (vtk.vtkCommand.ModifiedEvent, slicer.vtkSegmentation.SegmentRemoved):
            self.addObserver(node, event, self.onSegmentation)

    def onSegmentation(self, caller, event):
        self.controller.somethingArrived()

    # -- parameters -----------------------------------------------------------------------------

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        self._disconnectParameterNode()
        self._parameterNode = parameterNode
        if parameterNode:
            # Not connectGui(): up to Slicer 5.8 that returns no tag to disconnect it by.
            self._guiTag = parameterNode.connectParametersToGui(self._boundWidgets())
            self.addObserver(
                parameterNode.parameterNode,
                vtk.vtkCommand.ModifiedEvent,
                self.onParameterNodeModified,
            )
        self.controller.setParameterNode(parameterNode)

    def _boundWidgets(self):
        """The widgets of the form that carry the name of a parameter, by that name."""
        bound = {}
        for widget in vars(self.ui).values():
            name = widget.property("SlicerParameterName")
            if name:
                bound[name] = widget
        return bound

    def _disconnectParameterNode(self):
        if self._parameterNode and self._guiTag is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self._guiTag = None
            self.removeObserver(
                self._parameterNode.parameterNode,
                vtk.vtkCommand.ModifiedEvent,
                self.onParameterNodeModified,
            )

    def onParameterNodeModified(self, caller, event):
        self.controller.onParametersChanged()


class StrokeLesionSegLogic(ScriptedLoadableModuleLogic, BridgeLogic):
    """See ``BridgeLogic``: segment, threshold, measure, undo; usable without the widget."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        BridgeLogic.__init__(self)

    def getParameterNode(self):
        return StrokeLesionSegParameterNode(self.parameterNodeOfScene())

    def parameterNodeOfScene(self):
        """The MRML node that the parameters are kept in."""
        return ScriptedLoadableModuleLogic.getParameterNode(self)


class StrokeLesionSegTest(ScriptedLoadableModuleTest):
    """The self test: the whole way of a user, in Slicer itself."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_StrokeLesionSegScenario()

    def test_StrokeLesionSegScenario(self):
        if sys.version_info < PYTHON_NEEDED:
            self.delayDisplay("Nothing is tried: this Slicer's Python is too old for the module")
            return
        from StrokeLesionSegLib.models import list_models
        from StrokeLesionSegLib.slicerbridge.engine import torch_setup
        from StrokeLesionSegLib.slicerbridge.module import selftest

        logic = StrokeLesionSegLogic()
        if torch_setup.torch_state().installed and list_models([]):
            selftest.run_scenario(logic, say=self.delayDisplay)
        else:
            # Build machines have no PyTorch, and a test installs nothing.
            selftest.run_without_engine(logic, say=self.delayDisplay)

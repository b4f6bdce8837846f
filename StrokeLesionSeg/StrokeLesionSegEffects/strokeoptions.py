"""The options of Stroke Lesion: its widgets, and the parameters that they show and set."""

from slicer.i18n import tr as _

from . import widgets

MIRRORS = ("none", "overlay", "beside")
#: What the mouse does, in the order in which the key m goes through it.
MODES = ("click", "brush", "outline")


class StrokeOptions:
    """Builds the widgets of the effect; what they ask for is done by the effect."""

    def __init__(self, effect):
        self.scriptedEffect = effect.scriptedEffect
        self._addMain(effect)
        self._addBrush(effect)
        self._addMirror(effect)

    def _addMain(self, effect):
        add = self.scriptedEffect.addOptionsWidget
        self.readyButton = widgets.button("", _("Get what is missing."))
        self.readyButton.setVisible(False)
        add(self.readyButton)
        self.modeButtons = [
            widgets.radio(
                _("Click"), _("Left: lesion. Right or Ctrl: not lesion. Drag: many clicks.")
            ),
            widgets.radio(_("Brush"), _("Paint by the probability; right or Ctrl erases (m).")),
            widgets.radio(
                _("Outline"),
                _("Draw around a lesion in one slice; the slices around follow (m)."),
            ),
        ]
        add(widgets.row(self.modeButtons))
        self.thresholdSlider = widgets.slider(
            0.05, 0.95, 0.01, 2, _("Lesion probability from which a voxel is lesion.")
        )
        self.scriptedEffect.addLabeledOptionsWidget(_("Threshold:"), self.thresholdSlider)
        self.cancelButton = widgets.button(_("Cancel"), _("Leave the segment as it is."))
        self.applyButton = widgets.button(
            _("Apply"), _("Make the segment what the model finds at this threshold.")
        )
        add(widgets.row([self.cancelButton, self.applyButton]))
        self.readyButton.connect("clicked()", effect.onReadyButton)
        for button, mode in zip(self.modeButtons, MODES, strict=True):
            button.connect("clicked(bool)", lambda *_, mode=mode: effect.setMode(mode))
        self.thresholdSlider.connect("valueChanged(double)", effect.onThreshold)
        self.applyButton.connect("clicked()", effect.onApply)
        self.cancelButton.connect("clicked()", effect.onCancel)

    def _addBrush(self, effect):
        self.brushSection, rows = widgets.section(_("Brush and preview"))
        self.diameterSlider = widgets.slider(
            1, 100, 1, 1, _("Diameter of the brush; also Shift + mouse wheel."), " mm"
        )
        self.sphereCheck = widgets.check(
            _("Sphere"), _("Paint and outline in all directions, not in the slice only.")
        )
        self.followCheck = widgets.check(
            _("Follow the first touch"),
            _(
                "Paint what is as likely lesion as where the stroke begins; erase what is as "
                "unlikely."
            ),
        )
        self.showCheck = widgets.check(
            _("Show a click first"),
            _("While the button is down, show what a click changes; take it on release."),
        )
        rows.addRow(_("Diameter:"), self.diameterSlider)
        rows.addRow(widgets.row([self.sphereCheck, self.followCheck]))
        rows.addRow(self.showCheck)
        self.scriptedEffect.addOptionsWidget(self.brushSection)
        self.diameterSlider.connect("valueChanged(double)", effect.onDiameter)
        for item in (self.sphereCheck, self.followCheck, self.showCheck):
            item.connect("clicked(bool)", self.onCheck)

    def _addMirror(self, effect):
        self.mirrorSection, rows = widgets.section(_("Mirrored view"))
        self.mirrorButtons = [
            widgets.radio(_("Off"), _("Show the image alone.")),
            widgets.radio(_("Over"), _("The image flipped from left to right, over the image.")),
            widgets.radio(_("Beside"), _("The flipped image beside the image.")),
        ]
        rows.addRow(widgets.row(self.mirrorButtons))
        self.scriptedEffect.addOptionsWidget(self.mirrorSection)
        for button, how in zip(self.mirrorButtons, MIRRORS, strict=True):
            button.connect("clicked(bool)", lambda _on, how=how: effect.onMirror(how))

    def onCheck(self, *_args):
        """The boxes set their parameters in one go."""
        effect = self.scriptedEffect
        node = effect.parameterSetNode()
        wasModifying = node.StartModify()
        try:
            effect.setParameter("Sphere", 1 if self.sphereCheck.checked else 0)
            effect.setParameter("Follow", 1 if self.followCheck.checked else 0)
            effect.setParameter("ShowFirst", 1 if self.showCheck.checked else 0)
        finally:
            node.EndModify(wasModifying)

    def showParameters(self, diameter, threshold):
        """Show the parameters; ``diameter`` of the brush in mm."""
        effect = self.scriptedEffect
        for button, mode in zip(self.modeButtons, MODES, strict=True):
            button.setChecked(effect.parameter("Mode") == mode)
        self.sphereCheck.setChecked(bool(effect.integerParameter("Sphere")))
        self.followCheck.setChecked(bool(effect.integerParameter("Follow")))
        self.showCheck.setChecked(bool(effect.integerParameter("ShowFirst")))
        widgets.setQuietly(self.diameterSlider, self.diameterSlider.setValue, diameter)
        self.showThreshold(threshold)

    def showThreshold(self, threshold):
        """Show the threshold that holds, maybe the model's own."""
        widgets.setQuietly(self.thresholdSlider, self.thresholdSlider.setValue, threshold)

    def showState(self, ready, canApply, canCancel, remedy, mirror):
        """What can be used; ``remedy``: the text of the button that gets what is missing."""
        self.readyButton.setText(remedy)
        self.readyButton.setVisible(bool(remedy))
        self.thresholdSlider.setEnabled(ready)
        self.applyButton.setEnabled(canApply)
        self.cancelButton.setEnabled(canCancel)
        for button, own in zip(self.mirrorButtons, MIRRORS, strict=True):
            button.setChecked(own == mirror)
            button.setEnabled(ready)


def hint(mode):
    """What the mouse does."""
    return {
        "click": _("Click: left lesion, right or Ctrl not lesion."),
        "brush": _("Paint: left adds, right or Ctrl erases."),
        "outline": _("Draw around: left lesion, right or Ctrl not lesion."),
    }[mode]


def setDefaults(scriptedEffect):
    """The parameters of the effect, with their defaults."""
    scriptedEffect.setParameterDefault("Mode", "click")
    scriptedEffect.setParameterDefault("Threshold", 0.0)  # the model's own, once it is known
    # Not Paint's: that is off at first, and a lesion is no disk.
    scriptedEffect.setParameterDefault("Sphere", 1)
    scriptedEffect.setParameterDefault("Follow", 1)
    scriptedEffect.setParameterDefault("ShowFirst", 0)
    # Those of Paint, so that the brush keeps its size from one effect to the other.
    scriptedEffect.setCommonParameterDefault("BrushMinimumAbsoluteDiameter", 0.01)
    scriptedEffect.setCommonParameterDefault("BrushMaximumAbsoluteDiameter", 100.0)
    scriptedEffect.setCommonParameterDefault("BrushAbsoluteDiameter", 10.0)
    scriptedEffect.setCommonParameterDefault("BrushRelativeDiameter", 3.0)
    scriptedEffect.setCommonParameterDefault("BrushDiameterIsRelative", 1)

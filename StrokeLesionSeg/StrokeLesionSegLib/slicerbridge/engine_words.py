"""What the engine says, in the language of Slicer: the one place where its words are translated.

The engine speaks English and knows nothing of Slicer. Its stages, states and classes are words that
are looked up; its notes are sentences with values in them, which are known again by the templates
below. What is not known stays English, such as the refusals of files (cause and remedy): they are
the same on the command line, in tables and in the documentation, where they can be searched for.
``Testing/gui/test_engine_words.py`` compares the tables with the engine's own code.
"""

from __future__ import annotations

import functools
import re

from .i18n import tr


def _(text: str) -> str:
    """Marks a text for the tool that collects them; it is translated when it is shown."""
    return text


#: Stages, by the engine's word: of a run, a comparison, a batch, and of learning.
STAGES = {
    "export": _("Handing over the image"),
    "start": _("Starting the engine"),
    "read": _("Reading"),
    "align": _("Aligning to the MNI brain"),
    "canonical": _("Resampling"),
    "window": _("Scaling intensities"),
    "network": _("Looking for lesions"),
    "back": _("Back to the grid of the image"),
    "clean": _("Finding lesions"),
    "write": _("Writing"),
    "results": _("Showing the results"),
    "scans": _("Going through the scans"),
    "pairs": _("Comparing sessions"),
    "score": _("Comparing masks"),
    "prepare": _("Preparing the scans"),
    "ventricles": _("Finding ventricles"),
    "simulate": _("Drawing strokes"),
    "before": _("Judging the old model"),
    "learn": _("Learning"),
    "choose": _("Choosing the operating point"),
    "judge": _("Judging the new model"),
}

#: States of a scan of a batch; "planned" and "left out" are those of its preview.
STATES = {
    "planned": _("to do"),
    "left out": _("left out"),
    "waiting": _("waiting"),
    "running": _("running"),
    "done": _("done"),
    "failed": _("failed"),
}

#: What became of a group of lesions.
CLASSES = {
    "new": _("new"),
    "grown": _("grown"),
    "merged": _("merged"),
    "split": _("split"),
    "unchanged": _("unchanged"),
    "shrunken": _("shrunken"),
    "gone": _("gone"),
    "not covered": _("not covered"),
}

SIDES = {"left": _("left"), "right": _("right"), "both": _("both")}

#: What the input check finds, clauses that follow "The scan"; those of the tables below are whole.
FINDINGS = (
    _("is nearly empty: hardly a voxel differs from the rest"),
    _("looks like CT (air at {value}), and the model knows T1-weighted MRI only"),
    _("does not look T1-weighted: fluid seems to be bright"),
    _("is of unclear contrast; is it T1-weighted?"),
    _("is a mask (its middle has {count} values)"),
    _("is a label map ({share} of neighbouring voxels are equal)"),
    _("is a map of probabilities or tissue ({share} of it is near the greatest value)"),
    _("is noise: neighbouring voxels are unlike (correlation {value})"),
    _(
        "is no magnitude image: beyond the head there is no dark air, as in phase images and in "
        "the UNI images of MP2RAGE as they come from the scanner"
    ),
    _("shows something of {size} mm, no head"),
    _("shows something of {size} mm, more than a head"),
    _("shows something of {size} mm, less than a head"),
    _("could not be aligned to the MNI152 brain ({reason})"),
    _("does not show the whole brain: {share} of it lies beyond the image"),
    _(
        "does not look T1-weighted: white matter is not brighter than grey matter (contrast "
        "{value})"
    ),
    _("was made after a contrast agent was given, which the model has hardly seen"),
    _("was made after a contrast agent was given (ce-{agent})"),
    _("is {kind}, by its name (part-{part})"),
    _("is {kind}, not T1-weighted, by its name (_{suffix})"),
    _('is {kind}, not T1-weighted, by its name ("{word}")'),
    _("may be {kind}, not T1-weighted ({reason})"),
    _("is {kind}, not T1-weighted ({reason})"),
)

#: What was odd of a scan and its run, but dealt with.
WARNINGS = (
    _("values above {most} had run over ({share} of the voxels); put right"),
    _("all values are negative; the sign was turned"),
    _("the background of {value} was set to {other}"),
    _("1 voxel of an absurd value ({value}) was cut to the others'"),
    _("{count} voxels of absurd values (such as {value}) were cut to the others'"),
    _("{count} of {all} voxels were NaN or infinite and were set to 0"),
    _(
        "The scan could not be aligned to MNI152 ({reason}). Segmented without alignment; accuracy "
        "may be lower."
    ),
    _("Memory ran out on {device} with {count} slices at a time; going on with {fewer}."),
    _("Memory ran out on {device} even with a single slice; the CPU goes on."),
    _(
        "{format} differs from float32 by {value} in probability on this scan; float32 is used, "
        "which is slower."
    ),
    _("This model sees the whole head at once: three views change nothing."),
    _("This model has windows of its own: three views change nothing."),
    _("Results in {space} are affine. {reason}"),
    _("Nothing is written in {space}: there is no alignment."),
    _("Volumes by region need an alignment to MNI152, and there is none."),
    _("{file} could not be written: {cause}."),
)

#: Why a scan could not be aligned or deformed.
ALIGNMENT = (
    _("There is nothing to align: {error}."),
    _("The alignment was given up after {seconds} seconds."),
    _("The alignment did not converge."),
    _("The alignment would stretch the brain beyond human sizes (scales {least} to {most})."),
    _(
        "The aligned scan does not resemble the MNI152 brain (correlation {value}, at least "
        "{least} needed)."
    ),
    _(
        "The aligned scan does not fill the MNI152 brain (overlap {value}, at least {least} "
        "needed)."
    ),
    _("The deformation folds or tears (volumes change by {least} to {most})."),
    _("The deformation gains nothing (correlation {before} before, {after})."),
)

#: Why an image of a folder is no scan of a batch, by its name and those beside it.
LEFT_OUT = (
    _("named in .bidsignore"),
    _("values along surfaces (CIFTI)"),
    _("another kind of image (_{suffix})"),
    _("a mask or a map of probabilities"),
    _('another contrast ("{word}")'),
    _("a Philips PAR/REC image, which is not read"),
    _("a download that is not complete"),
    _("a copy of {name} in another format"),
    _("a copy of {name}"),
    _("in a folder of masks ({folder})"),
    _("a result of the program that {name} stands for"),
    _("a map or field made from {name}"),
    _("an echo of {name}"),
    _("a later echo than {name}"),
    _("a map of tissue"),
    _("a bias field"),
    _("a map of Jacobians"),
    _("a deformation field"),
    _("a label map"),
    _("a picture of the skull"),
    _("a map of the cortex"),
    _("a mask"),
    _("a phase image"),
    _("the real part of an image"),
    _("the imaginary part of an image"),
)

#: Why a model that has learnt is not installed.
VERDICTS = (
    _("mean Dice on the kept subjects changes by {change}, not by {wanted}"),
    _("a kept subject falls by {change} in Dice, more than {most}"),
    _("simulated strokes are found worse by {change} in Dice"),
    _("healthy scans are not as empty as before (up to {ml} mL more)"),
    _("clicks bring less: Dice of the robot is lower by {change}"),
)

#: What is left of the lesions beside the regions of an atlas; what a model asks for, in the list of
#: models; where and how the engine runs, and why.
FACTS = (
    _("in no region"),
    _("native, {orientation}"),
    _("about {count} s, {memory} GB"),
    _("about {count} minutes, {memory} GB"),
    _("about {count} hours, {memory} GB"),
    _("{seconds} s of network time for one scan"),
    _("no default model, so no estimate"),
    _("asked for"),
    _("asked for, though this CPU only emulates it"),
    _("{fact}, asked for"),
    _("{fact}, found by itself"),
    _("no GPU that torch can use ({reason})"),
    _("not an Apple computer with Metal, or a torch without it"),
    _("torch {version} is built without CUDA"),
    _("torch is built for CUDA {version}, but no driver or device answers"),
    _("half precision on a GPU"),
    _("this CPU computes it natively"),
    _("this CPU has no native bfloat16"),
)

SENTENCES = (*FINDINGS, *WARNINGS, *ALIGNMENT, *LEFT_OUT, *VERDICTS, *FACTS)
_AFTER_THE_SCAN = (
    _("The scan {finding} (segmented all the same)."),
    _("The scan {finding}."),
    _("The scan {finding}"),
)


def stage_name(stage: str) -> str:
    """A stage for the user."""
    return tr(STAGES[stage]) if stage in STAGES else stage


def state_name(state: str) -> str:
    """A state of a scan for the user."""
    return tr(STATES[state]) if state in STATES else state


def class_name(kind: str) -> str:
    """A class of a change for the user."""
    return tr(CLASSES[kind]) if kind in CLASSES else kind


def side_name(side: str) -> str:
    """The side of a lesion for the user."""
    return tr(SIDES[side]) if side in SIDES else side


def said(text: str) -> str:
    """A note of the engine for the user, with its values; as it is where it is not known."""
    for english, pattern in _patterns():
        if (match := pattern.fullmatch(text)) is None:
            continue
        values = {name: said(value) for name, value in match.groupdict().items()}
        if english in _AFTER_THE_SCAN and not _is_finding(match["finding"]):
            continue  # no half of a sentence
        return tr(english).format(**values)
    return text


def _is_finding(text: str) -> bool:
    known = _patterns()[: len(FINDINGS)]
    return any(pattern.fullmatch(text) for _english, pattern in known)


@functools.lru_cache(maxsize=1)
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Each template with the texts that it makes; the findings come first."""
    found = []
    for english in (*SENTENCES, *_AFTER_THE_SCAN):
        parts = re.split(r"\{(\w+)\}", english)
        names = (f"(?P<{part}>.+?)" if n % 2 else re.escape(part) for n, part in enumerate(parts))
        found.append((english, re.compile("".join(names), re.DOTALL)))
    return found

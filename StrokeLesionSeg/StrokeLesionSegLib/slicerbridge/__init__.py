"""Between Slicer and the engine: the only part of the Lib that imports slicer, vtk, qt or ctk.

Four rooms; each knows those above it in this list, ``module`` and ``editor`` not each other.

``scene``: nodes and what they hold
    ``volumes``         MRML volume node to ``Volume`` and back, files for the engine
    ``patch``           a mask within a larger grid
    ``probability_map`` quick thresholds of a probability
    ``provenance``      what made a segment, in its tags
    ``terminology``     the codes of infarct and ischemic stroke
    ``results``         segment, probability, uncertainty and their display
    ``input_check``     one line about an input before it is used

``engine``: the engine in a process of its own
    ``process``         its progress, cancel, crash
    ``child``           what runs in that process: the command line, ended when Slicer ends
    ``polled_thread``   work on arrays in a thread that gets its turns while it is polled
    ``run``             one run from volume node to results
    ``batch``           arguments and progress of a run over a folder
    ``torch_setup``     PyTorch by the PyTorch extension, with consent; verified in a process
    ``system_check``    what a help desk wants to know

``module``: the panel
    ``logic``           segment, threshold, measure, report; callable from a script
    ``threshold``       the segment follows the sliders, with undo and without losing manual edits
    ``measure``         the lesion table
    ``report``          one HTML page of a segment as it is now
    ``sample``          a simulated stroke T1, made on this computer
    ``panel``           one section a part of the form: the scan, the run, its result, the batch...
    ``controller``      joins the sections: who is shown, polled and stopped when
    ``selftest``        the scenario that runs in Slicer and, without its desktop, in the tests

``editor``: the Segment Editor effects below their widgets
    ``target``          what an edit belongs to: segment and grid, remembered
    ``store``           the correction sessions of a source volume, opened in the background
    ``correct``         clicks, strokes and fills into the segment
    ``write``           voxels into a segment through Slicer's masking, overwriting and undo
    ``views``           slice views and the edited grid; overlays and the brush's outline
    ``stroke``          a stroke of the brush
    ``review``          going through the pieces of a segment
    ``mirror``          the mirrored scan above the image or beside it

``i18n`` (texts in the language of Slicer) is known to all of them.

Only ``controller`` and the sections use Qt, by the module ``qt`` that they are given. All is called
from Slicer's main thread; threads touch neither Qt nor MRML.
"""

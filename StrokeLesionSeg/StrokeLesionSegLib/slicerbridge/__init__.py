"""Between Slicer and the engine: the only part of the Lib that imports slicer, vtk, qt or ctk.

=================  ==========================================================================
``volumes``        MRML volume node to ``Volume`` and back, files for the engine
``verdict``        one line about an input before it is used
``process``        the engine in a process of its own: progress, cancel, crash
``child``          what runs in that process: the command line, ended when Slicer ends
``run``            one run from volume node to results
``scratch_files``  the images that go to the engine and come back
``results``        segment, probability, uncertainty and their display
``threshold``      the segment follows the sliders, with undo and without losing manual edits
``measure``        the lesion table
``report``         one HTML page of a segment as it is now
``terminology``    the codes of infarct and ischemic stroke
``sample``         a simulated stroke T1, made on this computer
``torch_setup``    PyTorch by the PyTorch extension, with consent; verified in a process
``system_check``   what a help desk wants to know
``batch``          arguments and progress of a run over a folder
``controller``     between the form and the logic: one method a user action, and timers
``panel_results``  its part for table, overlay, sliders, ticks, undo
``panel_tasks``    its part for installations, system check, report and batch
``logic``          segment, threshold, measure, report; callable from a script
``panel``          what the panel says and allows in each state; no Qt
``edit_target``    what an edit belongs to: segment and grid, remembered
``edit_store``     the editing session of a source volume, shared by the Segment Editor effects
``edit_write``     voxels into a segment through Slicer's masking, overwriting and undo
``edit_views``     slice views and the edited grid; overlays and the brush's outline
``edit_regions``   slice, slab or ROI as a region of the session
``edit_stroke``    a stroke of the lesion brush
``edit_clicks``    clicks and the work that they cause
``edit_points``    clicks as markups
``edit_review``    going through the candidates
``edit_mirror``    the mirrored scan above the image or beside it
``i18n``           texts in the language of Slicer
``selftest``       the scenario that runs in Slicer and, without its desktop, in the tests
=================  ==========================================================================

Only ``controller``, ``panel_results`` and ``panel_tasks`` use Qt, by the module ``qt`` that they
are given. All is called from Slicer's main thread; threads touch neither Qt nor MRML.
"""

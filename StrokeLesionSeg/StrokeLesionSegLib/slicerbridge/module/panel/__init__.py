"""The sections of the panel. Each owns its widgets and its fields; ``controller`` joins them.

``context``   what they share: form, logic, Qt, parameters, what is told, the timer that polls
``texts``     what the panel says and allows in each state; no Qt
``choices``   combo boxes whose items are values of a parameter
``scan``      the chosen scan and which of its results is shown
``run``       the button Segment: start, progress, cancel, end
``result``    sliders, undo and redo, the way into the Segment Editor
``table``     the lesion table
``look``      overlay, surface and colour of the result
``report``    report, volumes by region, files in MNI space
``change``    two scans of one person
``batch``     a folder of scans
``results``   what a batch wrote: shown, corrected
``learn``     learning from corrected masks
``models``    installed models
``engine``    PyTorch and the system check

A section whose widgets depend on the state of the panel has ``show(view)``. One that starts
something has ``poll()``, True while that goes on; one that starts threads says by ``busy`` whether
they need their turns.
"""

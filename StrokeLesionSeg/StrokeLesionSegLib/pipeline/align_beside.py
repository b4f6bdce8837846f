"""The alignment of a scan in a second process, while this one imports torch and loads the model.

Threads would not do: imports hold Python's global lock, and so does much of an alignment. Only for
a process that runs one scan and has two cores: elsewhere torch is there already, and a batch has
other scans to work on meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .documents import alignment_facts, alignment_of
from .source import read_repaired

if TYPE_CHECKING:
    from ..images import Alignment
    from ..inference import SegmentOptions


class AlignBeside:
    """The alignment of the scan ``source``, found in a second process; a context.

    ``source``, ``series``: as ``read_scan`` takes them. ``options``: nothing is started where they
    want no alignment or leave one thread, nor for a NIfTI file that lies on the MNI grid.

    Examples
    --------
    >>> from pathlib import Path
    >>> from StrokeLesionSegLib.inference import SegmentOptions
    >>> from StrokeLesionSegLib.pipeline import AlignBeside
    >>> with AlignBeside(Path("t1.nii"), None, SegmentOptions(align="none")) as beside:
    ...     beside.result() is None
    True
    """

    def __init__(self, source: Path, series: str | None, options: SegmentOptions) -> None:
        from ..inference.device import available_threads

        self._process: subprocess.Popen[str] | None = None
        if options.align == "none" or available_threads(options.threads) < 2:
            return
        # Within an application it is that, which would open once more.
        if "python" not in os.path.basename(sys.executable or "").lower():
            return
        if options.align == "auto" and _lies_in_mni(source):
            return
        library = Path(__file__).resolve().parents[2]
        path = os.pathsep.join(filter(None, (str(library), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", __name__, str(source), options.align, series or ""]
        try:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            )
        except OSError:  # no memory, no processes left: it is found here, as ever
            self._process = None

    def __enter__(self) -> AlignBeside:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @property
    def started(self) -> bool:
        """Whether there is a second process."""
        return self._process is not None

    def result(self) -> Alignment | None:
        """Wait for it; None if it is to be found here, or none is needed."""
        if self._process is None:
            return None
        text, _ = self._process.communicate()
        process, self._process = self._process, None
        if process.returncode != 0:
            return None
        return _from_text(text)


def _lies_in_mni(source: Path) -> bool:
    """Whether a NIfTI file says so by its header."""
    from ..images import lies_on_mni_grid
    from ..images.formats.nifti import nifti_grid

    grid = nifti_grid(source)
    return grid is not None and lies_on_mni_grid(grid)


def _from_text(text: str) -> Alignment | None:
    """What ``main`` printed; None if that is no alignment."""
    try:
        return alignment_of({"alignment": json.loads(text)})
    except ValueError:
        return None


def main(source: str, align: str, series: str) -> int:
    """Print the alignment of a scan as JSON, exact to the last bit; exit code 1 if there is none.

    What is wrong with a scan is told by the process that asked, which reads it too.
    """
    from ..images import align_to_mni, lies_on_mni_grid
    from ..inference.device import prepare_environment

    prepare_environment()
    try:
        volume = read_repaired(Path(source), series or None).volume
    except InputError:
        return 1
    if align == "auto" and lies_on_mni_grid(volume.grid):
        return 1
    print(json.dumps(alignment_facts(align_to_mni(volume))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

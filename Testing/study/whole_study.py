"""A study from a BIDS folder to all that is taken away, with one command each.

    python Testing/study/whole_study.py OUT [--people 10] [--dicom 10]

simulates people (two sessions each; strokes that grow, shrink, stay, are new, or none) as a BIDS
data set with ``participants.tsv``, and ``--dicom`` of them as DICOM series in its ``sourcedata``;
then runs, as a user does,

    batch IN OUT --reports --space native,MNI152NLin2009aSym
    compare OUT
    batch IN/sourcedata OUT-DICOM --dicom-seg --dicom-sr --dicom-rtstruct

and says how long each took, and how what was found agrees with the truth. By default all twenty
scans are DICOM series, too. ``test_whole_study.py`` runs three people, one of them in DICOM: eight
scans instead of forty.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "StrokeLesionSeg")]

from simulated_people import simulated_sessions, story_of, write_series  # noqa: E402
from StrokeLesionSegLib.cli import main  # noqa: E402
from StrokeLesionSegLib.images import write_volume  # noqa: E402
from StrokeLesionSegLib.lesions import read_table  # noqa: E402

Run = Callable[[Sequence[str]], int]


def simulate(folder: Path, people: int, dicom: int) -> Path:
    """The BIDS data set ``folder/bids``; truth lies in ``folder/truth``."""
    source = folder / "bids"
    rows = ["participant_id\tsite\tgroup\tage\tstory"]
    for person in range(people):
        label = f"{person + 1:02d}"
        for session, scan in zip("12", simulated_sessions(person), strict=True):
            stem = f"sub-{label}_ses-{session}"
            anat = source / f"sub-{label}" / f"ses-{session}" / "anat"
            anat.mkdir(parents=True)
            write_volume(anat / f"{stem}_T1w.nii", scan.t1)
            (folder / "truth").mkdir(exist_ok=True)
            write_volume(folder / "truth" / f"{stem}_mask.nii.gz", scan.truth)
            if person < dicom:
                place = source / "sourcedata" / f"sub-{label}" / f"ses-{session}"
                write_series(place, scan.t1, str(person), session)
        site, group = ("Hill", "Harbour")[person % 2], ("aphasia", "no aphasia")[person % 3 > 0]
        rows.append(f"sub-{label}\t{site}\t{group}\t{48 + 3 * person}\t{story_of(person)}")
    (source / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (source / "dataset_description.json").write_text(
        '{"Name": "Simulated strokes, two sessions", "BIDSVersion": "1.10.0"}', encoding="utf-8"
    )
    return source


def commands(source: Path, folder: Path) -> dict[str, list[str]]:
    """What a user types."""
    out, dicom = folder / "derivative", folder / "dicom-derivative"
    return {
        "masks, overlap map, regions, pages": [
            *("batch", str(source), str(out), "--reports"),
            *("--space", "native,MNI152NLin2009aSym"),
        ],
        "change table and pages": ["compare", str(out)],
        "SEG, SR, RTSTRUCT": [
            *("batch", str(source / "sourcedata"), str(dicom)),
            *("--dicom-seg", "--dicom-sr", "--dicom-rtstruct"),
        ],
    }


def run_all(folder: Path, people: int, dicom: int, run: Run = main) -> dict[str, float]:
    """Simulate and run all; seconds by what was made. Raises if a command does not end with 0."""
    source = simulate(folder, people, dicom)
    seconds = {}
    for what, arguments in commands(source, folder).items():
        if dicom or "sourcedata" not in arguments[1]:
            began = time.perf_counter()
            code = run(arguments)
            if code != 0:
                raise RuntimeError(f"{' '.join(arguments)} ended with {code}")
            seconds[what] = time.perf_counter() - began
    return seconds


def agreement(folder: Path) -> list[str]:
    """What was found beside what is true, a line for each pair of sessions."""
    lines = []
    out = folder / "derivative"
    kinds: dict[str, list[str]] = {}
    for row in read_table(out / "group_change.tsv"):
        kinds.setdefault(str(row["participant_id"]), []).append(str(row["class"]))
    for row in read_table(out / "group_change_pairs.tsv"):
        who = str(row["participant_id"])
        story = story_of(int(who.removeprefix("sub-")) - 1)
        found = ", ".join(sorted(kinds.get(who, []))) or "no lesion"
        volumes = f"{row['volume_a_ml']:.1f} mL, {row['volume_b_ml']:.1f} mL"
        lines.append(f"{who}  true: {story:<10} found: {found} ({volumes})")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--dicom", type=int, default=10)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for what, took in run_all(given.out, given.people, given.dicom).items():
        print(f"{took:8.0f} s  {what}")
    print("\n".join(agreement(given.out)))

"""Write simulated scans as an ATLAS tree, so that everything after it sees the real layout.

R2.0 here, R1.1 and R3.0 in ``layouts.py``:
``ATLAS_2/Training/R0xx/sub-r0xxsNNN/ses-N/anat/`` with the T1 and the mask named as INDI names
them. A subject is a person, a session one simulated scan of that person, a site one source of
people; so a split by subject keeps people apart.
"""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.outputs import atomic_file, write_json_object

from ..made_of import RECORD, keep_made_of
from . import layouts
from .subject_split import kind_of, load_subject_split

T1_NAME = "{subject}_{session}_space-MNI152NLin2009aSym_T1w.nii.gz"
MASK_NAME = "{subject}_{session}_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz"
METADATA = "20220425_ATLAS_2.0_MetaData.csv"
RECORDS = "simulated.json"

# One site per source of people, as cohorts are in ATLAS.
_SITES = {"brains": 1, "heads": 2, "labels": 3, "templates": 4, "nilearn": 5}

# No tree holds so many scans; less than what lies between two seeds.
_UNLABELLED = 500_000

_state: dict[str, Any] = {}


def _start_worker(data: str | None, mask_files: list[str]) -> None:
    import torch

    from .bank import read_mask_bank

    torch.set_num_threads(1)
    root = Path(data) if data else Path()
    _state["bank"] = read_mask_bank(root / f for f in mask_files) if mask_files else None


def _anatomy(file: str, data: str | None, cache: str) -> Any:
    from .anatomy import cached_anatomy, template_anatomy

    if file == "nilearn/MNI152":
        return template_anatomy()
    return cached_anatomy(Path(data or "") / file, kind_of(file), Path(cache))


def _save(path: Path, array: np.ndarray) -> None:
    import nibabel as nib
    from StrokeLesionSegLib.images import MNI_GRID

    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), MNI_GRID.affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(MNI_GRID.affine, 4)
    image.set_qform(MNI_GRID.affine, 4)
    with atomic_file(path) as temporary:
        nib.save(image, temporary)


def _record_of(job: dict[str, Any]) -> Path:
    return Path(job["folder"]) / f"{job['subject']}_{job['session']}_simulation.json"


def _one(job: dict[str, Any]) -> dict[str, Any]:
    from torch import Generator

    from .scan import simulate_scan

    folder = Path(job["folder"])
    names = {"subject": job["subject"], "session": job["session"]}
    mask_path = folder / MASK_NAME.format(**names)
    record_path = _record_of(job)
    layout = job["layout"]
    # In R2.0 the mask is written last, elsewhere (and without a mask) the record is.
    last_is_mask = layout == "r2.0" and job["labelled"]
    if record_path.exists() and (not last_is_mask or mask_path.exists()):
        return json.loads(record_path.read_text(encoding="utf-8"))
    anatomy = _anatomy(job["person"], job["data"], job["cache"])
    g = Generator().manual_seed(job["seed"])
    t1, truth, record = simulate_scan(g, anatomy, _state["bank"], kind=job["kind"])
    if not job["labelled"]:
        _save(folder / T1_NAME.format(**names), t1)
        entry = {**names, "site": job["site"], "seed": job["seed"], **record.as_dict()}
        write_json_object(record_path, entry)
        return entry
    if layout != "r2.0":
        if layout == "r1.1":
            layouts.write_r1(folder, job["subject"], t1, truth)
        else:
            layouts.write_r3(folder, job["subject"], job["session"], t1, truth, job["seed"])
        entry = {**names, "site": job["site"], "seed": job["seed"], **record.as_dict()}
        write_json_object(record_path, entry)
        return entry
    _save(folder / T1_NAME.format(**names), t1)
    entry = {**names, "site": job["site"], "seed": job["seed"], **record.as_dict()}
    write_json_object(record_path, entry)
    _save(mask_path, truth)
    return entry


def _kind_for(file: str, kind: str | None) -> str | None:
    """People with multiple sclerosis keep their own plaques and get no stroke: hard negatives."""
    return "healthy" if "openms" in file else kind


@dataclass(frozen=True)
class TreeOptions:
    """How a tree is simulated.

    Attributes
    ----------
    data: folder with ``t1``, ``lesions`` and ``labels``; without it the person is nilearn's
        template and the lesions are procedural.
    part: picks people and masks of the subject split.
    cache: where aligned people are kept; None: in the tree.
    seed, workers: of what is drawn; processes.
    kinds: of strokes, dealt in turn; None: drawn.
    layout: "r2.0", "r1.1" or "r3.0"; the scans drawn for a seed are the same in each.
    subjects: without ``data``, so many subject names for the one head, at three sites; without
        them no split by subject can be tried.
    unlabelled: further scans, of subject names of their own, without masks in R2.0's Testing; the
        same ones whatever the number of those with masks.
    """

    data: Path | None = None
    part: str = "train"
    cache: Path | None = None
    seed: int = 0
    workers: int = 1
    kinds: Sequence[str] | None = None
    layout: str = "r2.0"
    subjects: int | None = None
    unlabelled: int = 0


def plan_jobs(out: Path, people: list[str], n: int, options: TreeOptions) -> list[dict[str, Any]]:
    """One job per scan, people in turn, and then those without a mask."""
    jobs = []
    data, kinds, subjects = options.data, options.kinds, options.subjects
    number_of: dict[str, tuple[int, int]] = {}
    per_site: dict[int, int] = {}
    for file in people:
        parts = Path(file).parts
        site = _SITES.get(parts[1] if parts[0] == "t1" else parts[0], 9)
        per_site[site] = per_site.get(site, 0) + 1
        number_of[file] = (site, per_site[site])
    turns = subjects or len(people)
    # Those without a mask are counted for themselves: more of the others leave them as they are.
    counted = [(number, True) for number in range(n)]
    counted += [(number, False) for number in range(options.unlabelled)]
    for number, labelled in counted:
        file = people[number % len(people)]
        site, subject = number_of[file]
        if subjects:
            site, subject = number % subjects % 3 + 1, number % subjects // 3 + 1
        names = layouts.place(
            options.layout, site, subject if labelled else 900 + subject, number // turns + 1
        )
        if not labelled:
            names["folder"] = names["folder"].replace("/Training/", "/Testing/")
        jobs.append(
            {
                "person": file,
                **names,
                "folder": str(out / names["folder"]),
                "layout": options.layout,
                "labelled": labelled,
                "data": str(data) if data else None,
                "cache": str(options.cache),
                "seed": options.seed * 1_000_003 + number + (0 if labelled else _UNLABELLED),
                "kind": _kind_for(file, kinds[number % len(kinds)] if kinds else None),
            }
        )
    return jobs


def _usable(people: list[str], most: int, data: Path | None, cache: Path) -> list[str]:
    """The first ``most`` people that can be aligned, who are in ``cache`` afterwards.

    Done before the scans: several workers would align the same person at the same time. People
    beyond the number of scans would not be drawn; each takes seconds to align.
    """
    from rich.progress import Progress

    usable: list[str] = []
    with Progress(transient=True) as progress:
        task = progress.add_task("aligning people", total=min(most, len(people)))
        for file in people:
            if len(usable) == most:
                break
            try:
                _anatomy(file, str(data) if data else None, str(cache))
            except ValueError as error:
                print(f"left out: {error}")
            else:
                usable.append(file)
                progress.advance(task)
    return usable


def _refuse_other_scans(out: Path, options: TreeOptions, drawn_from: list[str]) -> None:
    """Raise ``InputError`` if the scans in ``out`` were drawn in another way."""
    asked = {
        "seed": options.seed,
        "kinds": list(options.kinds) if options.kinds else None,
        "layout": options.layout,
        "subjects": options.subjects,
        "people and masks": hashlib.sha256("\n".join(drawn_from).encode()).hexdigest(),
    }
    keep_made_of(
        out / RECORD,
        asked,
        holds="scans that were simulated in another way",
        there=any(out.rglob("*_simulation.json")),
    )


def _refuse_fewer_scans(out: Path, jobs: list[dict[str, Any]]) -> None:
    """Raise ``InputError`` if ``out`` holds scans beside those of ``jobs``: whoever reads the tree
    would take them, too, and the tables would not know them."""
    surplus = len(set(out.rglob("*_simulation.json")) - {_record_of(job) for job in jobs})
    if surplus:
        raise InputError(
            out,
            f"holds more scans than are asked for, by {surplus}",
            "Ask for as many as before, or name another folder",
        )


def simulate_tree(out: Path, n: int, options: TreeOptions | None = None) -> list[dict[str, Any]]:
    """Write ``n`` simulated scans below ``out`` and return their records.

    Finished scans are kept, so a killed run goes on where it was. Raises ``InputError`` for scans
    without masks in a layout that has no place for them, for a folder with scans that were drawn in
    another way or more than ``n``, and if nobody can be used.
    """
    options = options or TreeOptions()
    data, layout = options.data, options.layout
    if options.unlabelled and layout != "r2.0":
        raise InputError("--unlabelled", f"the layout {layout} has no Testing folder", "Use r2.0")
    if data is not None and (data / "t1").is_dir():
        split = load_subject_split()
        people = [f for f in split["people"][options.part] if (data / f).exists()]
        masks = [f for f in split["masks"][options.part] if (data / f).exists()]
    else:
        data, people, masks = None, ["nilearn/MNI152"], []
    subjects = options.subjects if data is None else None
    _refuse_other_scans(out, replace(options, subjects=subjects), [*people, *masks])
    cache = options.cache or out / ".anatomies"
    people = _usable(people, max(n, options.unlabelled), data, cache)
    if not people:
        raise InputError(data or "simulate", "none of its people can be used", "Give other people")
    options = replace(options, data=data, cache=cache, subjects=subjects)
    jobs = plan_jobs(out, people, n, options)
    _refuse_fewer_scans(out, jobs)
    records: dict[int, dict[str, Any]] = {}
    from rich.progress import track

    data_text = str(data) if data else None
    if options.workers <= 1:
        _start_worker(data_text, masks)
        for number, job in enumerate(track(jobs, "simulating")):
            records[number] = _one(job)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            options.workers, context, initializer=_start_worker, initargs=(data_text, masks)
        ) as pool:
            futures = {pool.submit(_one, job): number for number, job in enumerate(jobs)}
            for future in track(as_completed(futures), "simulating", total=len(jobs)):
                records[futures[future]] = future.result()
    ordered = [records[number] for number in range(len(jobs))]
    if layout == "r2.0":
        _write_descriptions(out, ordered[:n])
    else:
        root = out / ("ATLAS_R1.1" if layout == "r1.1" else "ATLAS_3")
        (root / RECORDS).write_text(json.dumps(ordered, indent=0), encoding="utf-8")
        if layout == "r1.1":
            layouts.write_r1_metadata(root, ordered)
    return ordered


def _write_descriptions(out: Path, records: list[dict[str, Any]]) -> None:
    root = out / "ATLAS_2"
    for site in sorted({r["site"] for r in records}):
        text = {"Name": f"Simulated ATLAS R2.0 cohort {site}", "BIDSVersion": "1.6.0"}
        (root / "Training" / site / "dataset_description.json").write_text(
            json.dumps(text), encoding="utf-8"
        )
    with open(root / METADATA, "w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["Subject ID", "Session", "Site", "Unique Lesions", "Volume mL", "Simulated"])
        for r in records:
            rows.writerow(
                [r["subject"], r["session"], r["site"], len(r["lesions"]), r["volume_ml"], "yes"]
            )
    (root / RECORDS).write_text(json.dumps(records, indent=0), encoding="utf-8")

"""One cache per tree: windowed uint8 volumes and their masks in two memory-mapped arrays."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from StrokeLesionSegLib.brief import brief_repr, counted
from StrokeLesionSegLib.errors import InputError, why_unread
from StrokeLesionSegLib.images import MNI_GRID
from StrokeLesionSegLib.outputs import atomic_file, os_input_error

from ..made_of import RECORD, keep_made_of
from .atlas import find_scans
from .metadata import attach_metadata
from .reading import WINDOW, WINDOW_LOW_OF, read_labelled


@dataclass(frozen=True, eq=False)
class Cache:
    """An opened cache.

    Attributes
    ----------
    images: (N, 189, 233, 197) uint8, the windowed T1 in 0..255, MNI grid (k, j, i).
    masks: same shape, uint8 0/1.
    scans: one dict per scan: name, subject, session, site, volume_ml, and what the simulator knew.
    fingerprint: SHA-256 over names and voxels, made by ``prepare``; names the data in every
        manifest. (Caches of before version 0.2 have one over names and sums of voxels.)
    layout: of the tree it was prepared from, "r2.0" and so on; empty where that is not known.
    unlabelled: how many scans without a mask the tree held beside these.
    shrink: whole factor by which the slices were averaged down (``shrunk``); 1 as prepared.
    probabilities: a teacher's, same shape, uint8 0 to 255; None where people drew the masks.
    """

    images: np.ndarray
    masks: np.ndarray
    scans: list[dict[str, Any]]
    fingerprint: str
    shrink: int = 1
    layout: str = ""
    unlabelled: int = 0
    probabilities: np.ndarray | None = None

    __repr__ = brief_repr

    @staticmethod
    def open(folder: Path) -> Cache:
        """Map the cache in ``folder``; raises ``InputError`` if it is missing, unfinished or not
        whole."""
        index = folder / "index.json"
        if not index.is_file():
            raise InputError(folder, "contains no finished cache", "Run stroketrain prepare first")
        names = ["images.npy", "masks.npy"]
        if (folder / "probabilities.npy").is_file():
            names.append("probabilities.npy")
        try:
            meta = json.loads(index.read_text(encoding="utf-8"))
            n = len(meta["scans"])  # scans that were left out have left empty room at the end
            images, masks, *said = (np.load(folder / name, mmap_mode="r")[:n] for name in names)
            return Cache(
                images,
                masks,
                meta["scans"],
                meta["fingerprint"],
                layout=meta.get("layout", ""),
                unlabelled=_unlabelled(folder),
                probabilities=said[0] if said else None,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                folder,
                f"is not a whole cache ({why_unread(error)})",
                "Make it with stroketrain prepare, or copy all of it again",
            ) from error

    def __len__(self) -> int:
        return len(self.scans)

    @staticmethod
    def empty() -> Cache:
        """A cache of no scan, for training on simulated ones alone."""
        nothing = np.zeros((0, *MNI_GRID.shape), np.uint8)
        return Cache(nothing, nothing, [], hashlib.sha256(b"").hexdigest())

    def sessions(self, most: int) -> Cache:
        """The ``most`` sessions with the largest lesions of every subject; copies nothing. The
        fingerprint is one of its own, made of this one and the names that are kept."""
        of_subject: dict[str, list[int]] = {}
        for n, scan in enumerate(self.scans):
            of_subject.setdefault(str(scan["subject"]), []).append(n)
        chosen = []
        for numbers in of_subject.values():
            numbers.sort(key=lambda n: -float(self.scans[n].get("volume_ml", 0)))
            chosen += numbers[:most]
        chosen.sort()
        if len(chosen) == len(self):
            return self
        names = " ".join(str(self.scans[n]["name"]) for n in chosen)
        return Cache(
            _Chosen(self.images, chosen),  # type: ignore[arg-type]
            _Chosen(self.masks, chosen),  # type: ignore[arg-type]
            [self.scans[n] for n in chosen],
            hashlib.sha256(f"{self.fingerprint} {names}".encode()).hexdigest(),
            self.shrink,
            self.layout,
            self.unlabelled,
            None if self.probabilities is None else _Chosen(self.probabilities, chosen),  # type: ignore[arg-type]
        )

    def shrunk(self, factor: int) -> Cache:
        """Slices averaged down by ``factor`` in plane, in memory; a mask keeps every voxel that
        holds any lesion, and probabilities are left out. Heights and widths are divided and
        rounded down, slices are all kept."""
        if factor == 1:
            return self
        n, k, height, width = self.images.shape
        rows, columns = height // factor, width // factor
        small = [np.empty((n, k, rows, columns), np.uint8) for _ in range(2)]
        parts = (slice(None), slice(rows * factor), slice(columns * factor))
        for number in range(n):
            blocks = [
                np.asarray(array[number])[parts].reshape(k, rows, factor, columns, factor)
                for array in (self.images, self.masks)
            ]
            small[0][number] = np.round(blocks[0].mean(axis=(2, 4), dtype=np.float32))
            small[1][number] = blocks[1].max(axis=(2, 4))
        return replace(
            self, images=small[0], masks=small[1], shrink=self.shrink * factor, probabilities=None
        )


def _unlabelled(folder: Path) -> int:
    report = folder / "report.json"
    if not report.is_file():
        return 0
    return len(json.loads(report.read_text(encoding="utf-8")).get("unlabelled", []))


class _Chosen:
    """Some of the scans of an array, read where they lie."""

    def __init__(self, array: np.ndarray, chosen: Sequence[int]) -> None:
        self.array, self.chosen = array, list(chosen)
        self.shape = (len(self.chosen), *array.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        n, *rest = index if isinstance(index, tuple) else (index,)
        return self.array[(self.chosen[n], *rest)]


class _Certain:
    """Masks as probabilities: 0 and 255, made where they are read."""

    def __init__(self, masks: np.ndarray) -> None:
        self.masks, self.shape = masks, masks.shape

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self.masks[index]) * np.uint8(255)


class _Joined:
    """Arrays of several caches behind one another, read where they lie."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = arrays
        self.starts = np.cumsum([0, *(len(a) for a in arrays)])
        self.shape = (int(self.starts[-1]), *arrays[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        n, *rest = index if isinstance(index, tuple) else (index,)
        if not 0 <= n < len(self):
            raise IndexError(n)
        which = int(np.searchsorted(self.starts, n, side="right")) - 1
        return self.arrays[which][(n - int(self.starts[which]), *rest)]


def join_caches(caches: Sequence[Cache]) -> Cache:
    """Several caches as one, none copied; the fingerprint is that of all of them in their order."""
    if len(caches) == 1:
        return caches[0]
    prints = " ".join(c.fingerprint for c in caches)
    said: list[Any] = [
        _Certain(c.masks) if c.probabilities is None else c.probabilities for c in caches
    ]
    taught = any(c.probabilities is not None for c in caches)
    return Cache(
        _Joined([c.images for c in caches]),  # type: ignore[arg-type]
        _Joined([c.masks for c in caches]),  # type: ignore[arg-type]
        [scan for c in caches for scan in c.scans],
        hashlib.sha256(prints.encode()).hexdigest(),
        layout=" + ".join(sorted({c.layout for c in caches if c.layout})),
        probabilities=_Joined(said) if taught else None,  # type: ignore[arg-type]
    )


def refuse_other_cache(out: Path, command: str, source: Path) -> None:
    """Raise ``InputError`` if ``out`` holds a cache that another command has made, or of another
    source: making one takes hours."""
    keep_made_of(
        out / RECORD,
        {"command": command, "source": str(source.resolve())},
        holds="a cache that was made of something else",
        there=(out / "index.json").is_file(),
    )


def new_arrays(out: Path, names: Sequence[str], scans: int) -> list[np.memmap]:
    """Mapped arrays ``out/NAME.npy``, (scans, 189, 233, 197) uint8, with the room on the disk that
    they will take. Raises ``InputError`` if there is none."""
    from numpy.lib.format import open_memmap

    arrays: list[np.memmap] = []
    for name in names:
        path = out / f"{name}.npy"
        arrays.append(open_memmap(path, "w+", np.uint8, (scans, *MNI_GRID.shape)))
        # Else a disk that gets full kills the process, without a word, where it writes.
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # it promises none
                        raise os_input_error(error, path) from error
    return arrays


def simulation_records(tree: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What the simulator drew, by subject and session; empty for a real tree.

    The records beside the scans count too: a simulation that was stopped early has no list at its
    top, and must not pass for ATLAS.
    """
    rows: list[dict[str, Any]] = []
    for file in sorted(tree.rglob("*_simulation.json")):
        rows.append(json.loads(file.read_text(encoding="utf-8")))
    for file in sorted(tree.rglob("simulated.json")):
        rows += json.loads(file.read_text(encoding="utf-8"))
    return {(r["subject"], r["session"]): r for r in rows}


def prepare(tree: Path, out: Path, *, layout: str = "auto", say: Any = print) -> Cache:
    """Turn an ATLAS tree of any layout into a cache below ``out``.

    Scans that cannot be used are named and left out; ``report.json`` in the cache keeps what was
    found, what was skipped and why. Raises ``InputError`` if nothing usable is found, and if
    ``out`` holds a cache of something else or has no room for this one.
    """
    survey = find_scans(tree, layout)
    metadata, unreadable = attach_metadata(tree, survey.scans)
    survey.skipped += unreadable
    for line in survey.lines():
        say(line)
    scans = survey.labelled
    if not scans:
        raise InputError(tree, "contains no scan with a lesion mask", "Name the Training folder")
    refuse_other_cache(out, "prepare", tree)
    records = simulation_records(tree)
    (out / "index.json").unlink(missing_ok=True)
    # What a teacher said of other scans, where ``distill`` was stopped in the folder before.
    (out / "probabilities.npy").unlink(missing_ok=True)
    images, masks = new_arrays(out, ("images", "masks"), len(scans))
    entries: list[dict[str, Any]] = []
    skipped = [(str(path), reason) for path, reason in survey.skipped]
    digest = hashlib.sha256()
    from tqdm import tqdm

    for scan in tqdm(scans, "preparing", unit="scan", disable=None):  # on a terminal alone
        try:
            read = read_labelled(scan)
        except InputError as error:
            say(f"left out: {error}")
            skipped.append((str(scan.t1), str(error)))
            continue
        n = len(entries)
        images[n], masks[n] = read.image, read.mask
        digest.update(f"{scan.name}\n".encode())
        for volume in (read.image, read.mask):
            digest.update(np.ascontiguousarray(volume).data)
        entry: dict[str, Any] = {
            "name": scan.name,
            "subject": scan.subject,
            "session": scan.session,
            "site": scan.site,
            "volume_ml": read.volume_ml,
        }
        if read.to_mni is not None:
            entry["to_mni"] = read.to_mni.tolist()
        if scan.name in metadata:
            entry["metadata"] = metadata[scan.name]
        record = records.get((scan.subject, scan.session))
        if record:
            entry["simulation"] = record
        entries.append(entry)
    images.flush()
    masks.flush()
    report = {
        "tree": tree.name,
        "layout": survey.layout,
        "found": len(survey.scans),
        "labelled": len(scans),
        "unlabelled": [s.name for s in survey.unlabelled],
        "used": len(entries),
        "skipped": [{"path": path, "reason": reason} for path, reason in skipped],
    }
    (out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    if not entries:
        raise InputError(tree, "every scan was left out", "See the lines above")
    meta = {
        "window": WINDOW,
        "window_low_of": WINDOW_LOW_OF,
        "layout": survey.layout,
        "fingerprint": digest.hexdigest(),
        "scans": entries,
    }
    with atomic_file(out / "index.json") as temporary:
        temporary.write_text(json.dumps(meta, indent=0), encoding="utf-8")
    # A scan of somebody without a stroke has a mask, too: an empty one.
    sick = sum(entry["volume_ml"] > 0 for entry in entries)
    say(
        f"{len(entries)} of {counted(len(scans), 'scan')} in {out}, {sick} with lesions, "
        f"{len(entries) - sick} with an empty mask, fingerprint {digest.hexdigest()[:12]}"
    )
    return Cache.open(out)

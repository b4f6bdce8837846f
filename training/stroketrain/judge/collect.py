"""Robot users click through scans; what speaks for lesion around their clicks is written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from StrokeLesionSegLib.editing import EditingSession
from StrokeLesionSegLib.editing.clues import CLUES, REACH_MM
from StrokeLesionSegLib.images import MNI_GRID, Volume, atomic_output
from StrokeLesionSegLib.inference import SegmentOptions
from StrokeLesionSegLib.models import LoadedModel

from ..bench.robot import automatic_mask, robot_clicks
from ..data.cache import Cache

# After so many clicks the state is recorded.
WATCHED = (1, 2, 3, 4, 6, 8, 10)
# Voxels of a record: where it is decided, and anywhere else within reach.
_DISPUTED, _ELSEWHERE = 3500, 1500
_SMALLEST_ML = 0.8
# One scan in so many is clicked carelessly, and one corrected from its own mask.
_CARELESS, _CARELESS_MM, _CORRECTED = 3, 4.0, 4


# The fields of a record, in their order.
_ARRAYS = ("clues", "lesion", "weight", "distance")
_NUMBERS = ("beyond", "clicks", "scan")


@dataclass(frozen=True)
class Record:
    """The clues after some clicks, at voxels that were drawn.

    Attributes
    ----------
    clues: (n, len(CLUES)) float16. lesion: (n,) bool, the truth. weight: (n,) float32, voxels that
        each stands for. distance: (n,) float16, mm to the nearest click.
    beyond: lesion voxels out of reach. clicks: how many. scan: its number.
    """

    clues: NDArray[np.float16]
    lesion: NDArray[np.bool_]
    weight: NDArray[np.float32]
    distance: NDArray[np.float16]
    beyond: int
    clicks: int
    scan: int


def record(
    session: EditingSession,
    truth: NDArray[np.bool_],
    clicks: int,
    scan: int,
    rng: np.random.Generator,
) -> Record:
    """``truth``: (K, J, I) on the canonical grid."""
    from scipy import ndimage

    box, clues, distance = session.clues()
    inside, here = distance < REACH_MM, truth[box]
    said = dict(zip(CLUES, clues, strict=True))
    disputed = ndimage.binary_dilation(here, iterations=4)
    disputed |= (said["model"] > -1) | (said["answered"] > 0)
    drawn, weights = [], []
    for among, most in ((inside & disputed, _DISPUTED), (inside & ~disputed, _ELSEWHERE)):
        places = np.flatnonzero(among)
        n = min(most, len(places))
        drawn.append(rng.choice(places, n, replace=False) if n else places)
        weights.append(np.full(n, len(places) / max(1, n), np.float32))
    at = np.concatenate(drawn)
    return Record(
        clues.reshape(len(CLUES), -1)[:, at].T.astype(np.float16),
        here.reshape(-1)[at],
        np.concatenate(weights),
        distance.reshape(-1)[at].astype(np.float16),
        int(truth.sum()) - int(here[inside].sum()),
        clicks,
        scan,
    )


def collect(
    caches: Sequence[Cache],
    model: LoadedModel,
    *,
    minutes: float,
    part: int = 0,
    parts: int = 1,
    seed: int = 0,
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> list[Record]:
    """Ten clicks of a robot user in each lesioned scan of the caches, until the time is over.

    ``part`` of ``parts``: of the scans, for several processes. Volumes of a cache lie on the MNI
    grid.
    """
    scans = [
        (cache, n)
        for cache in caches
        for n, scan in enumerate(cache.scans)
        if scan["volume_ml"] >= _SMALLEST_ML
    ]
    order = np.random.default_rng(seed).permutation(len(scans))
    rng = np.random.default_rng((seed, part))
    started, records = time.monotonic(), list[Record]()
    for count, number in enumerate(order[part::parts]):
        if (time.monotonic() - started) / 60 > minutes:
            break
        cache, n = scans[number]
        wanted = np.array(cache.masks[n]) != 0
        volume = Volume(np.array(cache.images[n], dtype=np.float32), MNI_GRID.affine)
        options = SegmentOptions(threads=threads, device="cpu")
        session = EditingSession.open(volume, model, options=options)
        if count % _CORRECTED == _CORRECTED - 1:
            while session.work(1000.0) is not None:
                pass
            session.start_from(automatic_mask(session))
        truth = session.on_canonical_grid(wanted) > 0.5

        def watch(clicks: int, session=session, truth=truth, number=int(number)) -> None:  # type: ignore[no-untyped-def]
            if clicks in WATCHED and session.clicks:
                records.append(record(session, truth, clicks, number, rng))

        noise = _CARELESS_MM if count % _CARELESS == _CARELESS - 1 else 0.0
        dice = robot_clicks(session, wanted, max(WATCHED), noise_mm=noise, rng=rng, watch=watch)
        seconds = time.monotonic() - started
        say(
            f"{count + 1} scans, {seconds:.0f} s: Dice "
            + ", ".join(f"{dice[k]:.2f} ({k})" for k in (0, 1, 3, 10))
        )
    return records


def save(records: Sequence[Record], path: Path) -> None:
    """Write ``records`` as .npz, whole or not at all."""
    lengths = [len(r.lesion) for r in records]
    arrays = {n: np.array([getattr(r, n) for r in records]) for n in _NUMBERS}
    arrays |= {n: np.concatenate([getattr(r, n) for r in records]) for n in _ARRAYS}
    with atomic_output(path, overwrite=True) as temporary:
        np.savez_compressed(temporary, lengths=np.array(lengths), **arrays)


def load(path: Path) -> list[Record]:
    """The records of ``save``."""
    with np.load(path, allow_pickle=False) as data:
        ends = np.cumsum(data["lengths"])
        arrays = [np.split(data[n], ends[:-1]) for n in _ARRAYS]
        numbers = [data[n].tolist() for n in _NUMBERS]
    return [Record(*row) for row in zip(*arrays, *numbers, strict=True)]

"""What grey values give away, with and without alignment."""

from __future__ import annotations

import time
from collections.abc import Callable

import input_support as pictures
import numpy as np
import pytest
from StrokeLesionSegLib.images import align_to_mni
from StrokeLesionSegLib.images.volume import Volume
from StrokeLesionSegLib.input_check import check_aligned, check_looks


def found(volume: Volume, *, aligned: bool = False) -> dict[str, str]:
    """Levels by code. As in a run, what is refused by its looks is not ``aligned``."""
    findings = check_looks(volume)
    if aligned and not any(finding.level == "refuse" for finding in findings):
        findings += check_aligned(volume, align_to_mni(volume))
    return {finding.code: finding.level for finding in findings}


def thick(volume: Volume) -> Volume:
    k = volume.array.shape[0] // 3 * 3
    array = volume.array[:k].reshape(-1, 3, *volume.array.shape[1:]).mean(1)
    return Volume(np.ascontiguousarray(array), volume.affine @ np.diag([1, 1, 3, 1.0]))


GOOD: dict[str, Callable[[], Volume]] = {
    "head": pictures.head,
    "brain": pictures.stripped,
    "thick slices": lambda: thick(pictures.head()),
    "thick slices of a brain": lambda: thick(pictures.stripped()),
    "of bytes": lambda: pictures.head().with_array(np.rint(pictures.head().array / 8)),
    "with coil shading": lambda: pictures.head().with_array(
        pictures.head().array * np.linspace(0.6, 1.5, pictures.head().array.shape[1])[:, None]
    ),
    "noisy": lambda: pictures.head().with_array(
        np.abs(pictures.head().array + pictures.noise(pictures.head()).array * 30)
    ),
    "times a millionth": lambda: pictures.head().with_array(pictures.head().array * 1e-6),
}


@pytest.mark.parametrize("case", GOOD)
def test_nothing_is_said_of_t1s(case: str) -> None:
    assert found(GOOD[case](), aligned=True) == {}


def one_voxel(shape: tuple[int, ...]) -> np.ndarray:
    array = np.zeros(shape, np.float32)
    array[11, 13, 17] = 5
    return array


BAD: dict[str, tuple[Callable[[Volume], Volume], str]] = {
    "noise": (pictures.noise, "noise"),
    "noise of a magnitude image": (lambda v: pictures.noise(v, "magnitude"), "noise"),
    "noise of bytes": (lambda v: pictures.noise(v, "bytes"), "noise"),
    "mask": (lambda v: v.with_array((v.array > 200).astype("f4")), "mask"),
    "mask of 255": (lambda v: v.with_array(255 * (v.array > 100).astype("f4")), "mask"),
    "labels": (pictures.labels, "label-map"),
    "tissue map": (pictures.tissue_map, "map"),
    "tissue map in per cent": (
        lambda v: v.with_array(100 * pictures.tissue_map(v).array),
        "map",
    ),
    "phase": (pictures.phase, "phase"),
    "phase from 0 to 4095": (
        lambda v: v.with_array((pictures.phase(v).array + 4096) / 2),
        "phase",
    ),
    "CT": (pictures.ct, "ct"),
    "metres for millimetres, nearly": (lambda v: pictures.scaled(v, 3), "size"),
    "one voxel in the dark": (lambda v: v.with_array(one_voxel(v.array.shape)), "empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("of", ["head", "brain"])
def test_what_is_no_t1_is_refused_by_its_kind(case: str, of: str) -> None:
    make, code = BAD[case]
    volume = make(pictures.head() if of == "head" else pictures.stripped())
    if case == "CT" and of == "brain":
        pytest.skip("without bone and air it is a stripped CT, which alignment refuses")
    assert found(volume).get(code) == "refuse"


@pytest.mark.parametrize("kind", pictures.KINDS)
@pytest.mark.parametrize("of", ["head", "brain"])
def test_other_contrasts_are_refused_at_the_latest_after_alignment(kind: str, of: str) -> None:
    volume = pictures.as_kind(pictures.head() if of == "head" else pictures.stripped(), kind)
    assert "refuse" in found(volume, aligned=True).values()


@pytest.mark.parametrize("factor", [0.4, 0.5, 1.5, 2, 3, 10])
@pytest.mark.parametrize("of", ["head", pytest.param("brain", marks=pytest.mark.long)])
def test_a_wrong_spacing_is_refused(factor: float, of: str) -> None:
    volume = pictures.head() if of == "head" else pictures.stripped()
    began = time.thread_time()
    assert "refuse" in found(pictures.scaled(volume, factor), aligned=True).values()
    assert time.thread_time() - began < 20


def test_a_masked_phase_image_is_refused_after_alignment() -> None:
    volume = pictures.phase(pictures.head(), masked=True)
    assert "refuse" in found(volume, aligned=True).values()


@pytest.mark.parametrize("share", [0.3, 0.4])
def test_a_head_that_is_cut_off_is_told(share: float) -> None:
    head = pictures.head()
    cut = Volume(head.array[: int(head.array.shape[0] * (1 - share))].copy(), head.affine)
    codes = found(cut, aligned=True)
    assert codes.get("cut") == "warn" or codes.get("alignment") == "refuse"


def test_grey_brighter_than_white_is_refused_even_where_it_aligns() -> None:
    """A real FLAIR of a patient aligned well; what gave it away was the order of the tissues."""
    head = pictures.head()
    alignment = align_to_mni(head)
    assert check_aligned(head, alignment) == []
    flair = pictures.as_kind(head, "FLAIR")
    (finding,) = check_aligned(flair, alignment)
    assert (finding.level, finding.code) == ("refuse", "order")


def test_it_costs_a_tenth_of_a_second_at_most() -> None:
    """On a head of 256^3 voxels."""
    array = np.zeros((256, 256, 256), np.float32)
    small = pictures.head().array
    for place in np.ndindex(2, 2, 2):
        part = array[place[0] :: 2, place[1] :: 2, place[2] :: 2]
        shape = tuple(map(min, part.shape, small.shape))
        box = tuple(slice(0, n) for n in shape)
        part[box] = small[box]
    volume = Volume(array, np.eye(4))
    check_looks(volume)
    began = time.thread_time()
    check_looks(volume)
    assert time.thread_time() - began < 0.1

"""A scan that is aligned in a second process: the same answer, or none."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from cli_support import write_head
from StrokeLesionSegLib.images import MNI_GRID, Volume, align_to_mni, read_scan, write_volume
from StrokeLesionSegLib.inference import SegmentOptions
from StrokeLesionSegLib.input_check import repair
from StrokeLesionSegLib.once import once
from StrokeLesionSegLib.pipeline import AlignBeside
from StrokeLesionSegLib.pipeline.align_beside import _from_text, _lies_in_mni

TWO = SegmentOptions(threads=2)


def test_the_alignment_is_that_of_this_process_bit_for_bit(tmp_path):
    source = write_head(tmp_path / "kopf ä 1.nii.gz")
    with AlignBeside(source, None, TWO) as beside:
        found = beside.result()
    expected = align_to_mni(repair(read_scan(source)).volume)
    assert found is not None
    assert found.matrix.tobytes() == expected.matrix.tobytes()
    assert (found.ok, found.reason) == (expected.ok, expected.reason)
    assert (found.overlap, found.similarity) == (expected.overlap, expected.similarity)


@pytest.mark.parametrize(
    "options", [SegmentOptions(threads=1), SegmentOptions(align="none", threads=2)]
)
def test_nothing_is_started_without_a_second_core_or_a_need(tmp_path, options):
    with AlignBeside(write_head(tmp_path / "t1.nii"), None, options) as beside:
        assert not beside.started
        assert beside.result() is None


def test_a_scan_that_cannot_be_read_has_none(tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no scan at all")
    for source in (broken, tmp_path / "missing.nii"):
        with AlignBeside(source, None, TWO) as beside:
            assert beside.started
            assert beside.result() is None, source


@pytest.mark.parametrize("name", ["there.nii.gz", "there.nii"])
def test_none_is_looked_for_where_a_file_lies_on_the_mni_grid(tmp_path, name):
    there, beside_it = tmp_path / name, tmp_path / f"beside-{name}"
    volume = Volume(np.arange(np.prod(MNI_GRID.shape)).reshape(MNI_GRID.shape), MNI_GRID.affine)
    write_volume(there, volume)
    flipped, turned = tmp_path / f"flipped-{name}", MNI_GRID.affine @ np.diag([-1.0, 1, 1, 1])
    turned[0, 3] = -MNI_GRID.affine[0, 3]
    write_volume(flipped, Volume(volume.array, turned))
    moved = MNI_GRID.affine.copy()
    moved[0, 3] += 1
    write_volume(beside_it, Volume(volume.array, moved))
    for source, align, started in (
        (there, "auto", False), (there, "mni", True), (beside_it, "auto", True),
        (flipped, "auto", False)
    ):  # fmt: skip
        with AlignBeside(source, None, SegmentOptions(threads=2, align=align)) as beside:
            assert beside.started == started


def test_the_header_is_read_in_both_byte_orders_and_half_of_it_not(tmp_path):
    file = tmp_path / "t1.nii"
    for order in "<>":
        image = nibabel.Nifti1Image(np.zeros(MNI_GRID.shape[::-1], np.uint8), MNI_GRID.affine)
        header = image.header.as_byteswapped(order)
        header.set_sform(MNI_GRID.affine, 1)
        file.write_bytes(header.binaryblock)
        assert _lies_in_mni(file)
        header.set_sform(MNI_GRID.affine, 0)  # then the qform counts, which is not looked at
        file.write_bytes(header.binaryblock)
        assert not _lies_in_mni(file)
    file.write_bytes(header.binaryblock[:300])
    assert not _lies_in_mni(file)
    assert not _lies_in_mni(tmp_path)


def test_a_scan_in_mni_space_is_not_aligned(tmp_path):
    """Not even by the second process, if another kind of file began one."""
    there = tmp_path / "there.mha"
    array = np.zeros(MNI_GRID.shape, np.float32)
    array[60:120, 60:160, 60:140] = np.arange(60, dtype=np.float32)[:, None, None] + 50
    write_volume(there, Volume(array, MNI_GRID.affine))
    with AlignBeside(there, None, TWO) as beside:
        assert beside.started
        assert beside.result() is None


def test_it_ends_with_the_run_that_wanted_it(tmp_path):
    with AlignBeside(write_head(tmp_path / "t1.nii"), None, TWO) as beside:
        process = beside._process
    assert process is not None
    assert process.poll() is not None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"matrix": [[1]]}', '{"matrix": [1, 2], "ok": true}', "null"]
)
def test_half_an_answer_is_none(text):
    assert _from_text(text) is None


def test_a_system_that_starts_no_process_aligns_here(tmp_path, monkeypatch):
    def refused(*_args, **_kwargs):
        raise OSError("no more processes")

    monkeypatch.setattr("StrokeLesionSegLib.pipeline.align_beside.subprocess.Popen", refused)
    with AlignBeside(Path("t1.nii"), None, TWO) as beside:
        assert beside.result() is None


@pytest.mark.parametrize("executable", [None, "", "/opt/Slicer/bin/SlicerApp-real"])
def test_no_application_is_started_a_second_time(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    with AlignBeside(Path("t1.nii"), None, TWO) as beside:
        assert not beside.started


def test_what_two_threads_want_is_made_once():
    made = []

    @once
    def slow(n: int) -> int:
        time.sleep(0.05)
        made.append(n)
        return n + 1

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(slow(3))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made, found) == ([3], [4] * 4)
    assert (slow(5), made) == (6, [3, 5])

"""Conditions from public reports of users, in ../shared/field-cases where that is at hand.

Each kind has its own tests with further members, which make their inputs themselves: values in
``input_check/test_repair.py``, slices and components in ``images/test_dicom_series.py``, formats in
``images/test_field_formats.py``, studies in ``images/test_study_folder.py`` and
``cohort/test_dicom_study.py``, lists and derived images in ``cohort``, outputs and machines in
``cohort/test_outputs_together.py``, masks in ``lesions/test_mask_values.py``.
"""

from __future__ import annotations

import functools
import importlib
import runpy
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from simulated import simulated_head
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.lesions import read_table

CASES = Path(__file__).resolve().parents[3] / "shared" / "field-cases"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES.is_dir(), reason="../shared/field-cases is not at hand"),
]
QUICK = ["--model", "tiny", "--align", "none", "--precision", "float32", "--threshold", "0.3"]


class Run:
    """A case's folder, and what the command said about it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.out = folder / "out"
        self.err = self.said = ""

    def _main(self, *arguments: object) -> int:
        self._capsys.readouterr()
        code = main([str(a) for a in arguments])
        captured = self._capsys.readouterr()
        self.err, self.said = captured.err, captured.out
        return code

    def segment(self, name: str, *more: object, mask: str = "m.nii.gz") -> int:
        paths = (self.folder / "input" / name, "-o", self.out / mask, "--overwrite")
        return self._main("segment", *paths, *QUICK, *more)

    def batch(self, name: str = "") -> int:
        return self._main("batch", self.folder / "input" / name, self.out / "d", *QUICK)

    def score(self, a: str, b: str, *more: object) -> int:
        return self._main("score", self.folder / "input" / a, self.folder / "input" / b, *more)

    def table(self, name: str) -> list[dict[str, object]]:
        return read_table(self.out / "d" / f"{name}.tsv")

    def mask(self, name: str = "m.nii.gz") -> np.ndarray:
        return np.asarray(nibabel.load(self.out / name).dataobj)

    def one_line(self, *words: str) -> bool:
        return self.err.count("\n") == 1 and all(word in self.err for word in words)


def _values(run: Run) -> None:
    names = ["zero", "minus1000", "minus32768", "white"]
    for name in names:
        assert run.segment(f"{name}.nii.gz", mask=f"{name}.nii.gz") == 0
    zero = run.mask("zero.nii.gz") > 0
    for name in names[1:]:
        mask = run.mask(f"{name}.nii.gz") > 0
        assert 2 * (zero & mask).sum() >= 0.99 * (zero.sum() + mask.sum())


def _wrapped(run: Run) -> None:
    assert run.segment("unsigned.nii.gz", mask="u.nii.gz") == 0
    assert run.segment("signed.nii.gz", mask="s.nii.gz") == 0
    assert "had run over" in run.err
    same = (run.mask("u.nii.gz") > 0) == (run.mask("s.nii.gz") > 0)
    assert same.mean() > 0.99


def _nan(run: Run) -> None:
    assert run.segment("n.nii.gz") == 0
    assert "NaN" in run.err


def _all_slices(*names: str) -> Callable[[Run], None]:
    def check(run: Run) -> None:
        for name in names:
            assert run.segment(name) == 0
            assert 94 in run.mask().shape

    return check


def _every_other(run: Run) -> None:
    assert run.segment("dicom") == 0
    assert "slices seem to be missing" in run.err


def _phase(run: Run) -> None:
    code = run.segment("dicom")
    assert code == 2 or "phase images" in run.err
    assert "phase" in run.err


def _part(run: Run) -> None:
    run.batch()
    assert not [r for r in run.table("group_scans") if "part-phase" in str(r["source"])]
    assert [r for r in run.table("group_left_out") if "part-phase" in str(r["image"])]


def _refused(name: str, *words: str) -> Callable[[Run], None]:
    def check(run: Run) -> None:
        assert run.segment(name) == 2
        assert run.one_line(*words), run.err

    return check


def _dangling(run: Run) -> None:
    _refused("dicom", "leads nowhere", "datalad get")(run)
    _refused("sub-02_T1w.nii.gz", "leads nowhere", "datalad get")(run)


def _twice_packed(run: Run) -> None:
    assert run.segment("double.nii.gz") == 0
    assert "compressed" in run.err
    _refused("tar.nii.gz", "tar archive")(run)


def _uid_per_file(run: Run) -> None:
    assert run.segment("dicom") == 0
    assert "series UID of its own" in run.err
    assert len(run.err) < 1000


def _nrrd(run: Run) -> None:
    assert run.segment("bz.nrrd") == 0
    assert run.segment("p.mhd") == 0


def _seg(run: Run) -> None:
    assert run.segment("dicom", "--dicom-seg", run.out / "s.dcm") == 0
    import pydicom

    assert "山田" in str(pydicom.dcmread(run.out / "s.dcm").PatientName)


def _read(name: str) -> Callable[[Run], None]:
    def check(run: Run) -> None:
        assert run.segment(name) == 0

    return check


def _labels(run: Run) -> None:
    assert run.score("labels.nii.gz", "truth.nii.gz") == 2
    assert run.one_line("several labels (1, 2, 3, 99)")
    assert run.score("labels.nii.gz", "truth.nii.gz", "--label", "99") == 0
    assert "0.75" in run.said
    assert run.score("pred.nii.gz", "core_penumbra.nii.gz") == 2


def _soft(run: Run) -> None:
    for truth in ("from3mm", "smooth"):
        assert run.score("pred.nii.gz", f"{truth}.nii.gz") == 2
        assert run.one_line("--threshold")
        assert run.score("pred.nii.gz", f"{truth}.nii.gz", "--threshold", "0.5") == 0


def _segments(run: Run) -> None:
    assert run.score("two.seg.nrrd", "truth.nii.gz") == 0
    assert "0.75" in run.said


def _padding(run: Run) -> None:
    assert run.score("A", "B") == 0


def _anat(run: Run) -> None:
    assert run.batch() == 0
    assert len(run.table("group_scans")) == 1
    assert len(run.table("group_left_out")) > 5


def _formats(run: Run) -> None:
    assert run.batch() == 3
    rows = {str(row["source"]): row for row in run.table("group_scans")}
    for name, word in ((".mnc", "MINC"), (".HEAD", "AFNI"), (".nii.zst", "Zstandard"),
                       (".mif", "MRtrix")):  # fmt: skip
        (row,) = [row for source, row in rows.items() if source.endswith(name)]
        assert word in str(row["error"])


def _list(run: Run) -> None:
    assert run.batch("r.csv") == 0


def _pixdim(run: Run) -> None:
    assert run.segment("h.nii", "--force") == 0
    assert "pixdim" in run.err
    mask = nibabel.load(run.out / "m.nii.gz")
    sizes = np.sqrt((mask.affine[:3, :3] ** 2).sum(axis=0))
    np.testing.assert_allclose(mask.header.get_zooms()[:3], sizes, rtol=1e-3)


RIGHT: dict[str, Callable[[Run], None]] = {
    "batch_fsl_anat": _anat,
    "batch_other_formats": _formats,
    "bids_part_phase": _part,
    "dangling_links": _dangling,
    "double_gzip": _twice_packed,
    "enhanced_jpeg_lossless": _read("e.dcm"),
    "every_other_slice": _every_other,
    "flair_series": _refused("dicom", "FLAIR"),
    "list_quoted_csv": _list,
    "long_metaimage_header": _read("csa.mha"),
    "nan_background": _nan,
    "negative_background": _values,
    "no_preamble": _all_slices("some", "all"),
    "nrrd_bzip2_and_percent": _nrrd,
    "phase_slices_in_a_series": _phase,
    "pixdim_against_sform": _pixdim,
    "score_label_map": _labels,
    "score_run_padding": _padding,
    "score_seg_nrrd": _segments,
    "score_soft_truth": _soft,
    "secondary_capture_mr": _refused("dicom", "Secondary Capture"),
    "seg_japanese": _seg,
    "series_uid_per_file": _uid_per_file,
    "truncated_uids": _all_slices("dicom"),
    "uint16_as_int16": _wrapped,
}
# Conditions of the machine, not of files: ``cohort/test_outputs_together.py`` makes them.
ELSEWHERE = {"no_home", "two_processes", "_common"}


def test_no_case_is_left_out() -> None:
    assert {p.name for p in CASES.iterdir() if p.is_dir()} == RIGHT.keys() | ELSEWHERE


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], None]]:
    """Runs the script of a case, as ``python make.py`` would. All draw on the simulated person as
    the demo writes it, which is read and shrunk once."""
    folder = tmp_path_factory.mktemp("head")
    t1, file = simulated_head().t1, folder / "t1.nii"
    nibabel.save(nibabel.Nifti1Image(t1.array.transpose(2, 1, 0), t1.affine), file)
    shutil.copytree(CASES / "_common", folder / "common", copy_function=shutil.copyfile)

    def once(read: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Callable[[], object]:
        found = functools.cache(read)
        return lambda: tuple(array.copy() for array in found())

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEMO_T1", str(file))
        patch.syspath_prepend(str(folder / "common"))
        common = importlib.import_module("dcmmake")
        for name in ("volume", "small"):
            patch.setattr(common, name, once(getattr(common, name)))

        def make(script: Path) -> None:
            with pytest.MonkeyPatch.context() as inner, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                inner.setattr(sys, "path", list(sys.path))
                inner.chdir(script.parent)
                runpy.run_path(str(script), run_name="__main__")

        yield make
    del sys.modules["dcmmake"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("case", RIGHT)
def test_the_case_ends_right(
    case: str,
    tmp_path: Path,
    maker: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("_common", case):
        shutil.copytree(CASES / name, tmp_path / name)
        for file in (tmp_path / name, *(tmp_path / name).rglob("*")):
            file.chmod(file.stat().st_mode | 0o700)
    maker(tmp_path / case / "make.py")
    (tmp_path / case / "out").mkdir(exist_ok=True)
    RIGHT[case](Run(tmp_path / case, capsys))

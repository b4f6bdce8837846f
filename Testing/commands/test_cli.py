"""The command line: outputs, exit codes, progress; with a tiny random model and small images."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cli_support
import forked_python
import nibabel
import numpy as np
import pytest
import stroke_lesion_seg
from StrokeLesionSegLib import __version__, inference, outputs, pipeline
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort.fingerprint import fingerprint
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.pipeline import sha256_of

LIB_ROOT = Path(pipeline.__file__).resolve().parents[2]
# Fast, and enough for what is tested here.
QUICK = ["--align", "none", "--precision", "float32", "--threshold", "0.3"]


pytestmark = pytest.mark.usefixtures("with_tiny_model")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return cli_support.write_head(tmp_path / "scan.nii.gz")


def segment(*arguments: object) -> int:
    return main(["segment", *map(str, arguments), "--model", "tiny", *QUICK])


def files_in(folder: Path) -> set[str]:
    """Everything in a folder, hidden left-overs included."""
    return {path.name for path in folder.iterdir()}


def test_segment_writes_mask_table_and_sidecar_beside_the_scan(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(scan) == 0
    assert files_in(tmp_path) == {
        "scan.nii.gz",
        "scan_lesion.nii.gz",
        "scan_lesion.tsv",
        "scan_lesion.json",
    }
    source, mask = nibabel.load(scan), nibabel.load(tmp_path / "scan_lesion.nii.gz")
    assert mask.shape == source.shape
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-4)
    assert mask.get_data_dtype() == np.uint8
    values = np.asarray(mask.dataobj)
    assert set(np.unique(values)) == {0, 1}

    side = json.loads((tmp_path / "scan_lesion.json").read_text())
    assert side["source"]["name"] == "scan.nii.gz"
    assert side["source"]["shape_ijk"] == list(cli_support.SHAPE)
    assert len(side["source"]["sha256"]) == 64
    assert side["model"]["name"] == "tiny"
    assert side["operating_point"]["threshold"] == 0.3
    assert side["timings_s"].keys() >= {"read", "network", "back", "clean", "total"}
    voxel_ml = abs(np.linalg.det(cli_support.AFFINE[:3, :3])) / 1000
    assert side["summary"]["volume_ml"] == pytest.approx(values.sum() * voxel_ml, rel=1e-6)

    rows = (tmp_path / "scan_lesion.tsv").read_text().splitlines()
    assert len(rows) == 1 + side["summary"]["count"]
    said = capsys.readouterr().out
    assert f"{side['summary']['volume_ml']:.2f} mL in all" in said
    assert "scan_lesion.nii.gz" in said


def test_all_outputs_where_asked_for(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    names = {
        "-o": out / "m.nii.gz",
        "--probability": out / "p.nrrd",
        "--uncertainty": out / "s.mha",
        "--table": out / "t.tsv",
        "--sidecar": out / "j.json",
    }
    assert segment(scan, *(part for pair in names.items() for part in pair)) == 0
    assert files_in(out) == {path.name for path in names.values()}
    assert files_in(tmp_path) == {"scan.nii.gz", "out"}
    from StrokeLesionSegLib.images import read_scan

    grid = read_scan(scan).volume.grid
    probability = read_scan(out / "p.nrrd").volume
    assert probability.grid.same_as(grid, 0.01)
    assert 0 <= probability.array.min() <= probability.array.max() <= 1
    mask = np.asarray(nibabel.load(out / "m.nii.gz").dataobj).T
    np.testing.assert_array_equal(mask > 0, probability.array >= 0.3)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [(".nrrd", ".nrrd"), (".mha", ".mha"), (".mhd", ".mha"), (".nii", ".nii")],
)
def test_the_mask_has_the_format_of_the_scan(
    scan: Path, tmp_path: Path, suffix: str, expected: str
) -> None:
    from StrokeLesionSegLib.images import read_scan, write_volume

    folder = tmp_path / "other"
    folder.mkdir()
    source = folder / f"case{suffix}"
    original = read_scan(scan).volume
    if suffix == ".mhd":
        import SimpleITK

        SimpleITK.WriteImage(SimpleITK.ReadImage(str(scan)), str(source))
    else:
        write_volume(source, original)
    before = files_in(folder)
    assert segment(source) == 0
    mask = folder / f"case_lesion{expected}"
    assert mask.name in files_in(folder) - before
    assert read_scan(mask).volume.grid.same_as(original.grid, 0.01)


def test_dicom_folder(tmp_path: Path) -> None:
    folder = cli_support.write_dicom_series(tmp_path / "series", uid="1.2.826.0.1.3680043.10.511.7")
    before = files_in(folder)
    assert segment(folder) == 0
    assert files_in(folder) == before
    (path,) = tmp_path.glob("dicom-*_lesion.nii.gz")
    mask = nibabel.load(path)
    assert sorted(mask.shape) == sorted((*cli_support.SHAPE[:2], 12))
    side = json.loads(next(tmp_path.glob("dicom-*_lesion.json")).read_text())
    assert "Phantom" not in json.dumps(side)


def test_a_series_is_named_of_dicom_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = cli_support.write_head(tmp_path / "t1.nii.gz")
    assert main(["segment", str(scan), "--series", "1.2.3"]) == 2
    assert "series: is for DICOM only. Leave it out" in capsys.readouterr().err
    with pytest.raises(InputError, match="for DICOM only"):
        stroke_lesion_seg.segment(
            scan, model="tiny", options=stroke_lesion_seg.Options(series="1.2.3")
        )


def test_series_option_picks_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uids = ("1.2.826.0.1.3680043.10.511.7", "1.2.826.0.1.3680043.10.511.8")
    for uid in uids:
        cli_support.write_dicom_series(tmp_path / "two", uid=uid)
    assert segment(tmp_path / "two") == 2
    message = capsys.readouterr().err
    assert all(uid in message for uid in uids)
    assert segment(tmp_path / "two", "--series", uids[1]) == 0


def test_twice_the_same(scan: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert segment(scan, "-o", tmp_path / f"{name}.nii.gz", "--views", "triplanar") == 0
    first, second = (
        np.asarray(nibabel.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("a", "b")
    )
    np.testing.assert_array_equal(first, second)


def test_no_table_and_no_sidecar(scan: Path, tmp_path: Path) -> None:
    assert segment(scan, "--no-table", "--no-sidecar") == 0
    assert files_in(tmp_path) == {"scan.nii.gz", "scan_lesion.nii.gz"}


@pytest.mark.parametrize("name", ["table", "sidecar"])
def test_a_file_that_is_wanted_and_not_wanted(
    scan: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(scan, f"--{name}", tmp_path / "x", f"--no-{name}") == 2
    assert f"--{name}: and --no-{name} exclude each other" in capsys.readouterr().err
    assert files_in(tmp_path) == {"scan.nii.gz"}


def test_without_an_alignment_the_terminal_says_what_sides_are(
    scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(scan) == 0
    assert "sides are relative to the middle of the scan" in capsys.readouterr().out


def test_the_checksum_of_a_detached_header_tells_of_its_data(tmp_path: Path) -> None:
    """It is the one that a batch's ledger has."""
    header = tmp_path / "a.nhdr"
    array = cli_support.head_array()
    (tmp_path / "a.raw").write_bytes(array.astype("<i2").tobytes(order="F"))
    sizes = " ".join(map(str, array.shape))
    header.write_text(
        f"NRRD0004\ntype: short\nendian: little\ndimension: 3\nspace: RAS\nsizes: {sizes}\n"
        "space directions: (3,0,0) (0,3,0) (0,0,3)\nencoding: raw\ndata file: a.raw\n\n"
    )
    assert segment(header, "--force") == 0
    side = json.loads((tmp_path / "a_lesion.json").read_text())
    assert side["source"]["sha256"] == fingerprint(header)["sha256"] != sha256_of(header)


def test_json_progress(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert segment(scan, "--progress", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps, result = lines[:-1], lines[-1]
    for step in steps:
        assert set(step) == {"stage", "done", "total"}
        assert 0 <= step["done"] <= step["total"]
    order = list(dict.fromkeys(step["stage"] for step in steps))
    assert order == [stage for stage in pipeline.STAGES if stage in order]
    assert {"read", "canonical", "window", "network", "back", "clean", "write"} <= set(order)
    for stage in order:
        last = [step for step in steps if step["stage"] == stage][-1]
        assert last["done"] == last["total"], stage
    assert result["stage"] == "result"
    assert result["mask"] == str(tmp_path / "scan_lesion.nii.gz")
    assert result["probability"] is None
    side = json.loads((tmp_path / "scan_lesion.json").read_text())
    assert result["lesions"] == side["summary"]["count"]
    assert result["volume_ml"] == pytest.approx(side["summary"]["volume_ml"], abs=1e-3)
    assert result["timings"]["total"] > 0


def test_nothing_found_is_a_result_too(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(scan, "--min-volume", 9999) == 0
    assert "no lesion found" in capsys.readouterr().out
    assert not np.asarray(nibabel.load(tmp_path / "scan_lesion.nii.gz").dataobj).any()
    assert len((tmp_path / "scan_lesion.tsv").read_text().splitlines()) == 1


def test_existing_outputs_are_kept_unless_told(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "scan_lesion.tsv"
    table.write_text("mine\n")
    assert segment(scan) == 2
    assert str(table) in capsys.readouterr().err
    assert files_in(tmp_path) == {"scan.nii.gz", "scan_lesion.tsv"}
    assert table.read_text() == "mine\n"
    assert segment(scan, "--overwrite") == 0
    assert table.read_text() != "mine\n"


def test_what_an_earlier_run_has_left_beside_the_mask_is_told(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(scan) == 0
    transform = tmp_path / "scan_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.h5"
    transform.write_bytes(b"of an earlier run with --space")
    capsys.readouterr()
    assert segment(scan, "--overwrite", "--no-table") == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "earlier" in line]
    assert line == (
        "warning: beside the mask lies what was not written now and may tell of the lesions of an "
        f"earlier run: scan_lesion.tsv, {transform.name}"
    )
    transform.unlink()
    assert segment(scan, "--overwrite") == 0
    assert "earlier" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["scan.nii.gz", "./scan.nii.gz"])
def test_the_scan_itself_is_never_overwritten(
    scan: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = scan.read_bytes()
    assert segment(scan, "-o", name, "--overwrite") == 2
    assert scan.read_bytes() == before


def disk_full(*arguments: object, **named: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("writer", ["write_table", "write_sidecar"])
def test_a_full_disk_leaves_nothing(
    scan: Path,
    tmp_path: Path,
    writer: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from StrokeLesionSegLib import lesions

    monkeypatch.setattr(lesions, writer, disk_full)
    assert segment(scan) == 2
    error = capsys.readouterr().err
    assert "full" in error
    assert error.count("\n") == 1
    assert files_in(tmp_path) == {"scan.nii.gz"}


def test_a_full_disk_keeps_what_was_there(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from StrokeLesionSegLib import lesions

    old = tmp_path / "scan_lesion.nii.gz"
    old.write_bytes(b"an older mask")
    monkeypatch.setattr(lesions, "write_sidecar", disk_full)
    assert segment(scan, "--overwrite") == 2
    assert old.read_bytes() == b"an older mask"
    assert files_in(tmp_path) == {"scan.nii.gz", "scan_lesion.nii.gz"}


def test_a_real_full_disk(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file system of 48 KiB, where the mask does not fit."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(small)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a small file system")
    try:
        assert segment(scan, "-o", small / "mask.nii", "--probability", small / "p.nii") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "full" in error
        assert str(small) in error
        assert files_in(small) == set()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_failing_commit_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a.nii", tmp_path / "b.nii"
    first.write_text("old")
    replace, calls = os.replace, []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            disk_full()
        replace(source, target)

    with outputs.OutputSet([first, second], overwrite=True) as staged:
        staged.staged(first).write_text("new")
        staged.staged(second).write_text("new")
        monkeypatch.setattr(os, "replace", failing)
        with pytest.raises(Exception, match="full"):
            staged.commit()
    assert first.read_text() == "old"
    assert files_in(tmp_path) == {"a.nii"}


def test_a_defect_is_told_apart_from_bad_input(
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("something of ours")

    monkeypatch.setattr(pipeline.runner, "find_in", broken)
    assert segment(scan) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "report it" in error.splitlines()[-1]
    assert files_in(tmp_path) == {"scan.nii.gz"}


@pytest.mark.parametrize("failure", ["ImportError", "OSError"])
def test_a_torch_that_is_half_installed_is_told_in_one_line(
    scan: Path, tmp_path: Path, failure: str
) -> None:
    (tmp_path / "torch.py").write_text(f"raise {failure}('libtorch_cpu.so: cannot open it')\n")
    library = str(Path(pipeline.__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-B", "-m", "StrokeLesionSegLib", "segment", scan, "--force"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), library))},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    line = run.stderr.splitlines()[-1]
    assert line.startswith("stroke-lesion-seg: torch: this Python package cannot be imported (libt")
    assert "--force-reinstall torch" in line
    assert "Traceback" not in run.stderr
    assert files_in(tmp_path) == {"scan.nii.gz", "torch.py"}


@pytest.mark.parametrize(
    "failure", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_too_little_memory(
    scan: Path,
    tmp_path: Path,
    failure: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def hungry(*arguments: object, **named: object) -> None:
        raise failure

    monkeypatch.setattr("StrokeLesionSegLib.pipeline.runner.find_in", hungry)
    assert segment(scan) == 2
    error = capsys.readouterr().err
    assert "memory" in error
    assert error.count("\n") == 1
    assert "--views" not in error  # the model that ships has none
    assert files_in(tmp_path) == {"scan.nii.gz"}


@pytest.mark.parametrize(("module", "code"), [("torch", 2), ("StrokeLesionSegLib.gone", 1)])
def test_an_incomplete_installation(
    scan: Path,
    module: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lacking(*arguments: object, **named: object) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(pipeline.runner, "find_in", lacking)
    assert segment(scan) == code
    error = capsys.readouterr().err
    assert ("pip install torch" in error) == (code == 2)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_cleans_up(tmp_path: Path, home: Path, number: int) -> None:
    big = np.kron(cli_support.head_array(), np.ones((4, 4, 4), dtype=np.int16))
    affine = cli_support.AFFINE @ np.diag([0.25, 0.25, 0.25, 1])
    scan = cli_support.write_head(tmp_path / "big.nii", big, affine)
    command = [sys.executable, "-m", "StrokeLesionSegLib", "segment", str(scan)]
    command += ["--progress", "json", "--views", "triplanar", "--tta", *QUICK]
    process = forked_python.Popen(
        command, env={**os.environ, "PYTHONPATH": str(LIB_ROOT)}, text=True
    )
    for line in process.stdout:
        if json.loads(line)["stage"] in ("canonical", "network"):
            break
    assert any(name.startswith(".stroke-lesion-seg-") for name in files_in(tmp_path))
    process.send_signal(number)
    started = time.monotonic()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert time.monotonic() - started < 60
    assert error == "stroke-lesion-seg: stopped\n"
    assert files_in(tmp_path) == {"big.nii"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment"],
        ["segment", "x.nii", "--threshold", "1.5"],
        ["segment", "x.nii", "--threshold", "high"],
        ["segment", "x.nii", "--min-volume", "-1"],
        ["segment", "x.nii", "--threads", "0"],
        ["segment", "x.nii", "--views", "sagital"],
        ["segment", "x.nii", "--thresh", "0.5"],
        ["segment", ""],
        ["sgment", "x.nii"],
        ["models"],
        ["models", "install"],
        ["score", "a.nii"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("stroke-lesion-seg")


def test_version_and_help_are_quick_and_say_what_they_should(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stroke-lesion-seg {__version__}\n"
    for command in ("segment", "models", "info", "demo", "score"):
        assert main([command, "--help"]) == 0
        assert f"stroke-lesion-seg {command}" in capsys.readouterr().out
    code = "import sys; from StrokeLesionSegLib.cli import main; main(['--help'])"
    code += "; sys.exit(bool({'torch', 'scipy', 'SimpleITK'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(LIB_ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@pytest.mark.usefixtures("no_network_timed")
def test_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = cli_support.write_tiny_model(tmp_path / "source", "other")
    monkeypatch.setenv("STROKE_LESION_SEG_HOME", str(tmp_path / "target"))
    assert main(["models", "install", str(source)]) == 0
    assert main(["models", "list"]) == 0
    assert "Tests only." in capsys.readouterr().out
    assert main(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert "other" in {model["name"] for model in listed}
    assert main(["models", "verify", "other"]) == 0
    assert "other 0.0.1: ok" in capsys.readouterr().out

    weights = tmp_path / "target" / "models" / "other" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert main(["models", "verify"]) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert main(["models", "list"]) == 0
    said = capsys.readouterr()
    (row,) = [line for line in said.out.splitlines() if line.startswith("other ")]
    assert "damaged" in row
    assert "weights.safetensors" in said.err
    assert main(["models", "list", "--json"]) == 0
    states = {m["name"]: m["state"] for m in json.loads(capsys.readouterr().out)["models"]}
    assert states["other"] == "damaged"
    assert states["stroke-t1-volumetric"] == "ok"
    weights.rename(weights.with_name("away"))
    assert main(["models", "list"]) == 0
    assert "cannot be read" in capsys.readouterr().err
    weights.with_name("away").rename(weights)
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    assert "SHA-256" in said
    assert "{" not in said

    assert main(["models", "remove", "other"]) == 0
    assert not weights.exists()
    assert main(["models", "remove", "other"]) == 2


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["StrokeLesionSeg"] == __version__
    assert facts["inference"]["device"].startswith(("cpu", "cuda", "mps"))
    assert facts["inference"]["expected"].endswith(" s of network time for one scan")
    assert facts["machine"]["threads used"] >= 1
    tiny = next(model for model in facts["models"] if model["name"] == "tiny")
    assert tiny["sha256"].startswith("ok, ")


def test_info_times_the_device_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = inference.make_predictor

    def make(model: Any, options: Any = None) -> Any:
        asked.append("auto" if options is None else options.device)
        return real(model, options)

    monkeypatch.setattr(inference, "make_predictor", make, raising=False)
    assert main(["info", "--device", "cpu"]) == 0
    assert asked == ["cpu"]


def test_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = np.zeros(cli_support.SHAPE, dtype=np.uint8)
    truth[10:20, 10:20, 10:20] = 1
    prediction = np.zeros_like(truth)
    prediction[15:25, 10:20, 10:20] = 1
    a = cli_support.write_head(tmp_path / "a.nii.gz", prediction)
    b = cli_support.write_head(tmp_path / "b.nii.gz", truth)
    for scorer in ("atlas2022", "isles2022", "isles2026"):
        assert main(["score", str(a), str(b), "--scorer", scorer, "--json"]) == 0
        scores = json.loads(capsys.readouterr().out)
        assert scores["scorer"] == scorer
        assert scores["dice"] == pytest.approx(0.5)
    # An empty mask is a valid prediction, not an unusable image.
    empty = cli_support.write_head(tmp_path / "e.nii.gz", np.zeros_like(truth))
    assert main(["score", str(empty), str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dice"] == 0

    moved = cli_support.AFFINE.copy()
    moved[0, 3] += 4
    c = cli_support.write_head(tmp_path / "c.nii.gz", truth, moved)
    assert main(["score", str(a), str(c)]) == 2
    assert "elsewhere" in capsys.readouterr().err
    mirrored = cli_support.AFFINE @ np.diag([-1, 1, 1, 1])
    d = cli_support.write_head(tmp_path / "d.nii.gz", truth, mirrored)
    assert main(["score", str(a), str(d)]) == 2


def test_score_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pred", "truth"):
        (tmp_path / name).mkdir()
    mask = np.zeros(cli_support.SHAPE, dtype=np.uint8)
    mask[10:20, 10:20, 10:20] = 1
    for subject in ("01", "02"):
        for name in ("pred", "truth"):
            cli_support.write_head(tmp_path / name / f"sub-{subject}_mask.nii.gz", mask)
    folders = [str(tmp_path / "pred"), str(tmp_path / "truth")]
    assert main(["score", *folders]) == 0
    said = capsys.readouterr().out
    assert "sub-01" in said
    assert "2 cases" in said
    (tmp_path / "pred" / "sub-02_mask.nii.gz").unlink()
    assert main(["score", *folders, "--json"]) == 3
    captured = capsys.readouterr()
    assert "sub-02" in captured.err
    content = json.loads(captured.out)
    assert [case["case"] for case in content["cases"]] == ["sub-01"]
    assert content["summary"]["metrics"]["dice"]["mean"] == 1

"""The engine's process: progress, result, crash, cancel of the whole tree, and orphans."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import pytest
from StrokeLesionSegLib.slicerbridge.engine import process as process_module
from StrokeLesionSegLib.slicerbridge.engine.polled_thread import PolledThread
from StrokeLesionSegLib.slicerbridge.engine.process import (
    EngineProcess,
    Progress,
    engine_environment,
    python_executable,
)
from StrokeLesionSegLib.slicerbridge.engine.run import SegmentationRun

psutil = pytest.importorskip("psutil")

posix = pytest.mark.skipif(os.name == "nt", reason="no process groups")


def script(text: str) -> EngineProcess:
    return EngineProcess([sys.executable, "-c", textwrap.dedent(text)], whole=True)


def test_progress_result_and_log_are_told_apart() -> None:
    process = script("""
        import json, sys
        print("a stray line")
        print("{not json}")
        for done in range(3):
            print(json.dumps({"stage": "network", "done": done, "total": 3}))
        print(json.dumps({"stage": "result", "lesions": 2, "name": "Caf\\u00e9"}))
        print("a warning", file=sys.stderr)
    """)
    process.start()
    assert process.wait(20) == 0
    assert process.poll() == [Progress("network", d, 3) for d in range(3)]
    assert process.result == {"stage": "result", "lesions": 2, "name": "Café"}
    assert set(process.log) == {"a stray line", "{not json}", "a warning"}
    assert process.failure() is None
    assert process.scratch.is_dir()
    process.close()
    assert not process.scratch.exists()


def test_an_unending_line_and_a_flood_stay_bounded() -> None:
    process = script("""
        import sys
        sys.stdout.write("x" * 3_000_000)
        sys.stdout.write("\\n")
        for n in range(5000):
            print("line", n)
    """)
    process.start()
    assert process.wait(30) == 0
    assert len(process.log) == 200
    assert process.log[-1] == "line 4999"
    assert max(map(len, process.log)) <= 500
    process.close()


def test_a_crash_shows_its_last_lines_and_a_remedy() -> None:
    process = script("raise RuntimeError('the reactor is cold')")
    process.start()
    assert process.wait(20) == 1
    failure = process.failure()
    assert failure is not None
    assert "exit code 1" in failure.cause
    assert failure.lines[-1] == "RuntimeError: the reactor is cold"
    assert "System check" in failure.remedy
    process.close()


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import no_such_torch", "unexpectedly"),
        ("raise ModuleNotFoundError(\"No module named 'torch'\")", "PyTorch is not installed"),
        ("raise MemoryError", "out of memory"),
        ("raise OSError(28, 'No space left on device')", "disk"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "The system killed the engine"),
    ],
)
def test_known_failures_are_named(code: str, word: str) -> None:
    process = script(code)
    process.start()
    process.wait(20)
    failure = process.failure()
    assert failure is not None
    assert word in failure.cause
    assert failure.remedy
    assert "Fast" not in failure.remedy  # the model that ships has no views
    process.close()


def test_unusable_input_is_reported_in_the_engines_words_with_the_users_name() -> None:
    process = script("""
        import sys
        text = "/tmp/x/input.nii: the image is empty. Load it again."
        print("stroke-lesion-seg:", text, file=sys.stderr)
        sys.exit(2)
    """)
    process.start()
    process.wait(20)
    failure = process.failure({"/tmp/x/input.nii": "Patient T1"})
    assert failure is not None
    assert failure.cause == "Patient T1: the image is empty. Load it again."
    process.close()


def test_cancel_ends_the_whole_tree_within_a_second_and_leaves_nothing() -> None:
    process = script("""
        import subprocess, sys, time, pathlib
        pathlib.Path("half-written.nii").write_bytes(b"0" * 1000)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print('{"stage": "pid", "done": %d, "total": 0}' % child.pid)
        sys.stdout.flush()
        time.sleep(600)
    """)
    process.start()
    grandchild = 0
    end = time.monotonic() + 20
    while not grandchild and time.monotonic() < end:
        for event in process.poll():
            grandchild = event.done
        time.sleep(0.02)
    assert psutil.pid_exists(grandchild)
    child = process.pid
    assert child is not None
    began = time.monotonic()
    process.cancel()
    blocked = time.monotonic() - began
    while process.running or _runs(grandchild) or _runs(child):
        process.poll()
        assert time.monotonic() - began < 1.0, "the tree outlived cancel by a second"
        time.sleep(0.01)
    assert blocked < 0.2, f"cancel kept its caller waiting {blocked:.3f} s"
    process.poll()
    assert not process.scratch.exists()
    assert process.cancelled
    assert process.failure() is None
    process.cancel()


def test_cancel_tidies_up_though_nobody_polls_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The panel lets go of a cancelled run at once; a process may take its time to die."""
    process = script("import time; time.sleep(600)")
    process.start()
    kill, pid = process._kill_tree, process.pid
    monkeypatch.setattr(process, "_kill_tree", lambda: None)
    process.cancel()
    assert process.scratch.exists()
    kill()
    end = time.monotonic() + 10
    while process.scratch.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert pid is not None
    assert not _runs(pid)


def test_two_runs_have_their_own_folders() -> None:
    one, two = script("import os; print(os.getcwd())"), script("import os; print(os.getcwd())")
    one.start()
    two.start()
    one.wait(20)
    two.wait(20)
    assert {Path(one.log[0]).name, Path(two.log[0]).name} == {one.scratch.name, two.scratch.name}
    assert one.scratch != two.scratch
    one.close()
    two.close()


def test_in_slicer_the_engine_runs_in_pythonslicer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = types.SimpleNamespace(slicerHome=str(tmp_path))
    monkeypatch.setitem(sys.modules, "slicer", types.SimpleNamespace(app=application))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(process_module, "_system_interpreter", lambda: "")
    with pytest.raises(FileNotFoundError, match="PythonSlicer"):
        python_executable()
    process = EngineProcess(["info"])
    with pytest.raises(FileNotFoundError):
        process.start()
    assert not process.scratch.exists()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / ("PythonSlicer" + (".exe" if os.name == "nt" else ""))
    program.write_text("")
    assert python_executable() == str(program)
    monkeypatch.delitem(sys.modules, "slicer")
    assert python_executable() == sys.executable


def test_a_slicer_built_with_the_systems_python_runs_the_engine_in_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No PythonSlicer anywhere, and an executable that is Slicer itself."""
    home = tmp_path / "Slicer-build"
    packages = tmp_path / "packages of this Slicer"
    packages.mkdir()
    (packages / "only_here.py").write_text("")
    application = types.SimpleNamespace(slicerHome=str(home), temporaryPath=str(tmp_path))
    monkeypatch.setitem(sys.modules, "slicer", types.SimpleNamespace(app=application))
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.setattr(sys, "executable", str(home / "bin" / "SlicerApp-real"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    found = python_executable()
    assert Path(found).name.startswith("python")
    code = "import sys, only_here, StrokeLesionSegLib; print(*sys.version_info[:2])"
    ran = subprocess.run(
        [found, "-c", code],
        env=engine_environment(python=found),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == [str(n) for n in sys.version_info[:2]], ran.stderr
    paths = engine_environment(python=str(home / "bin" / "PythonSlicer"))["PYTHONPATH"]
    assert str(packages) not in paths.split(os.pathsep), "PythonSlicer knows its own paths"


@pytest.mark.skipif(os.name == "nt", reason="holds the lock by a function of the C library")
def test_threads_get_their_turns_in_an_event_loop_that_keeps_pythons_lock() -> None:
    """Slicer's event loop is no Python and holds the GIL, as ``PyDLL`` does while it sleeps."""
    hold = ctypes.PyDLL(None).usleep
    run = SegmentationRun(types.SimpleNamespace(GetID=lambda: "x", GetName=lambda: "x"))

    def work() -> None:
        for _ in range(600):
            time.sleep(0)  # gives the lock away and wants it back, as each step of numpy does

    run._thread = PolledThread(work)
    polls = 0
    while not run._thread_done():
        polls += 1
        hold(20_000)
        assert polls < 30, "the thread starves"


def test_files_of_a_run_lie_in_the_folder_of_slicers_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Temporäre Dateien"
    folder.mkdir()
    application = types.SimpleNamespace(temporaryPath=str(folder))
    monkeypatch.setitem(sys.modules, "slicer", types.SimpleNamespace(app=application))
    process = script("import os; print(os.getcwd())")
    assert process.scratch.parent == folder
    process.start()
    assert process.wait(20) == 0
    assert process.log == (str(process.scratch),)
    process.close()
    application.temporaryPath = str(tmp_path / "gone")
    process = script("pass")
    assert process.scratch.parent != tmp_path / "gone"
    process.close()


def test_what_a_killed_slicer_left_is_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its engine started: the image lies there until the next process of ours."""
    monkeypatch.setattr(process_module, "temporary_folder", lambda: str(tmp_path))
    code = (
        "from StrokeLesionSegLib.slicerbridge.engine.process import EngineProcess; import time; "
        "p = EngineProcess(); (p.scratch / 'input.nii').write_text('a patient'); "
        "print(p.scratch, flush=True); time.sleep(600)"
    )
    environment = {**engine_environment(), "TMPDIR": str(tmp_path)}
    killed = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    left = Path(killed.stdout.readline().strip())
    assert (left / "input.nii").exists()
    other = tmp_path / "StrokeLesionSeg-another0-1-abc"  # of another computer
    other.mkdir()
    script("pass").close()
    assert left.exists(), "it lives"
    killed.kill()
    killed.wait()
    killed.stdout.close()
    script("pass").close()
    assert not left.exists()
    assert other.exists()


def test_a_program_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    process = EngineProcess([str(tmp_path / "nothing")], whole=True)
    with pytest.raises(OSError, match="nothing"):
        process.start()
    assert not process.scratch.exists()


@pytest.mark.parametrize("launcher", [False, pytest.param(True, marks=posix)])
def test_the_child_ends_itself_when_its_parent_is_gone(tmp_path: Path, launcher: bool) -> None:
    """Slicer killed by force: the engine notices, removes its folder and goes, with all that it
    started; also where PythonSlicer, a launcher above it, leads the session."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    environment = engine_environment(
        {"STROKE_LESION_SEG_PARENT": str(parent.pid), "STROKE_LESION_SEG_SCRATCH": str(folder)}
    )
    code = (
        "import threading, time; from StrokeLesionSegLib.slicerbridge.engine import child; "
        "import os; threading.Thread(target=child.watch, args=(int(os.environ[child.PARENT]), "
        "os.environ[child.SCRATCH], 0.1), daemon=True).start(); time.sleep(600)"
    )
    command = [sys.executable, "-c", code]
    if launcher:
        command = ["sh", "-c", '"$0" "$@"; sleep 600', *command]
    child = subprocess.Popen(command, env=environment, start_new_session=os.name != "nt")
    time.sleep(1.0)
    assert child.poll() is None
    parent.kill()
    parent.wait()
    assert child.wait(10) != 0
    assert not folder.exists()


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""What Windows and macOS do otherwise, told apart by what their calls answer."""

from __future__ import annotations

import ast
import io
import os
import re
import sys
from pathlib import Path

import pytest
from StrokeLesionSegLib import outputs
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.cohort import lock
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.outputs import OutputSet, os_input_error

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = [
    *(REPOSITORY / "StrokeLesionSeg").rglob("*.py"),
    *(REPOSITORY / "training").rglob("*.py"),
]
# Modules and functions that Windows lacks; who uses them has to ask first.
POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
POSIX_CALLS = {
    *("fork", "killpg", "setsid", "getuid", "geteuid", "getpgid", "getsid", "nice", "mkfifo"),
    *("sched_getaffinity", "setpriority", "chown", "wait3", "wait4"),
}
ASKED = re.compile(r"os\.name|sys\.platform|hasattr\(os|suppress\(|except \(?(Import|Attribute|OS)")


class WindowsError32(PermissionError):
    """As ``os.replace`` raises it over a file that is open in Excel."""

    winerror = 32


def windows_error(number: int) -> OSError:
    error = FileNotFoundError(2, "The system cannot find the path specified")
    error.winerror = number  # type: ignore[attr-defined]
    return error


def test_nothing_of_posix_unasked() -> None:
    """A function that uses what Windows lacks also asks for the system, or catches the lack."""
    for path in SOURCES:
        _asks_before_posix(path)


def _asks_before_posix(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = text.splitlines()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            continue
        used = []
        for node in function.body if isinstance(function, ast.Module) else [function]:
            if isinstance(function, ast.Module) and not isinstance(node, ast.Import | ast.Expr):
                continue
            for part in ast.walk(node):
                if isinstance(part, ast.Import):
                    used += [a.name for a in part.names if a.name in POSIX_MODULES]
                if (
                    isinstance(part, ast.Attribute)
                    and isinstance(part.value, ast.Name)
                    and part.value.id == "os"
                    and part.attr in POSIX_CALLS
                ):
                    used.append(part.attr)
        if used:
            assert isinstance(function, ast.FunctionDef), f"{path}: {used} at the top"
            body = "\n".join(lines[function.lineno - 1 : function.end_lineno])
            assert ASKED.search(body), f"{path}:{function.lineno}: {used}"


def test_text_files_name_their_encoding() -> None:
    """Else Windows takes its code page."""
    assert len(SOURCES) > 300
    calls = [
        (path, node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    for path, call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name in ("read_text", "write_text"):
            keywords = {k.arg for k in call.keywords}
            positional = 1 if name == "read_text" else 2
            assert "encoding" in keywords or len(call.args) >= positional, (path, call.lineno)


def test_processes_are_spawned() -> None:
    """Windows and macOS cannot fork; what is handed to a process has to be importable."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if "import multiprocessing" in text:
            assert 'get_context("spawn")' in text, path
            assert "multiprocessing.Pool" not in text, path
    for main_file in (
        REPOSITORY / "StrokeLesionSeg" / "StrokeLesionSegLib" / "__main__.py",
        REPOSITORY / "training" / "stroketrain" / "cli.py",
    ):
        assert 'if __name__ == "__main__":' in main_file.read_text(encoding="utf-8")


def test_a_table_that_is_open_in_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told as such, and everything else is as it was."""
    mask, table = tmp_path / "a.nii", tmp_path / "a.tsv"
    mask.write_bytes(b"old mask")
    table.write_bytes(b"old table")
    with OutputSet([mask], [(table, ".tsv")], overwrite=True) as out:
        out.staged(mask).write_bytes(b"new mask")
        out.staged(table).write_bytes(b"new table")
        real = os.replace

        def replace(source: Path, target: Path) -> None:
            if Path(target) == table and Path(source).parent == out.staged(table).parent:
                raise WindowsError32(13, "The process cannot access the file")
            real(source, target)

        monkeypatch.setattr(outputs.os, "replace", replace)
        with pytest.raises(InputError, match=r"is open in another program\. Close it there"):
            out.commit()
        monkeypatch.setattr(outputs.os, "replace", real)
    assert (mask.read_bytes(), table.read_bytes()) == (b"old mask", b"old table")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii", "a.tsv"]


def test_paths_that_windows_finds_too_long() -> None:
    long = "C:/" + "x" * 300 + "/mask.nii.gz"
    assert "the path is too long for Windows (" in str(os_input_error(windows_error(3), long))
    assert "docs/windows.md" in str(os_input_error(windows_error(206), "mask.nii.gz"))
    assert (REPOSITORY / "docs" / "windows.md").is_file()
    # A short one that is not there is not long.
    assert "too long" not in str(os_input_error(windows_error(3), "C:/a/mask.nii.gz"))


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT sticks and some network shares have none: files get to their places all the same."""

    def refuse(*paths: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(outputs.os, "link", refuse)
    for overwrite in (False, True):
        with OutputSet([tmp_path / "a.nii"], overwrite=overwrite) as out:
            out.staged(tmp_path / "a.nii").write_bytes(b"mask")
            out.commit()
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]
    with OutputSet([tmp_path / "b.nii"]) as out:
        out.staged(tmp_path / "b.nii").write_bytes(b"ours")
        (tmp_path / "b.nii").write_bytes(b"theirs")
        with pytest.raises(InputError, match="appeared during the run"):
            out.commit()
    assert (tmp_path / "b.nii").read_bytes() == b"theirs"


def test_a_file_that_fails_to_get_to_its_place_leaves_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*paths: object) -> None:
        raise OSError(1, "Operation not permitted")

    def broken(source: Path, target: Path) -> None:
        if target.name == "b.tsv":
            raise OSError(5, "Input/output error")
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(outputs.os, "link", no_links)
    monkeypatch.setattr(outputs.os, "replace", broken)
    tables = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    with OutputSet([], [(table, ".tsv") for table in tables]) as out:
        for table in tables:
            out.staged(table).write_bytes(b"table")
        with pytest.raises(InputError, match=r"b\.tsv: cannot be written"):
            out.commit()
    assert not list(tmp_path.iterdir())


def test_no_process_is_asked_by_a_signal_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """There ``os.kill(pid, 0)`` is a Ctrl-C to the whole console."""

    def kill(*arguments: object) -> None:
        raise AssertionError("a signal was sent")

    monkeypatch.setattr(lock.os, "kill", kill)
    monkeypatch.setattr(lock.os, "name", "nt")
    alive = lock._alive({"host": lock.platform.node(), "pid": os.getpid()})
    monkeypatch.undo()
    assert alive is False


def test_a_console_that_knows_few_characters(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    from StrokeLesionSegLib.commands import cite

    monkeypatch.setattr(cite, "methods_text", lambda facts: "Müller −3 mL, 太郎")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    assert main(["cite"]) == 0
    assert b"M\xfcller \\u22123 mL, \\u592a\\u90ce" in written.getvalue()


def test_names_that_windows_refuses_are_never_made() -> None:
    """No output of ours has a colon in its name, or a word that is a device."""
    from StrokeLesionSegLib.cohort.naming import entities_of

    for source in (
        "a:b?.nii.gz",
        'x<y>"z|.nii',
        "sub-01:2/anat/t1*.nii.gz",
        "con.nii.gz",
        "AUX.nii",
    ):
        stem = entities_of(source).stem
        assert re.fullmatch(r"[A-Za-z0-9_-]+", stem), stem
        assert stem.startswith("sub-")

"""The Containerfile, step by step, without a builder of images."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

REPOSITORY = Path(__file__).resolve().parents[2]


def steps() -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined, comments left out."""
    text = (REPOSITORY / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], " ".join(line.split()[1:])) for line in joined.splitlines()]


def copied() -> list[tuple[list[str], str]]:
    """(sources, target) of what comes from the checkout."""
    found = []
    for instruction, arguments in steps():
        if instruction == "COPY" and not arguments.startswith("--from="):
            *sources, target = arguments.split()
            found.append((sources, target))
    return found


def let_through(name: str) -> bool:
    """Whether .dockerignore leaves a path in the context: the last rule that fits counts."""
    text = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8")
    kept = True
    for rule in text.splitlines():
        pattern = rule.lstrip("!")
        if not rule or rule.startswith("#"):
            continue
        fits = fnmatch(name, pattern) or name.startswith(f"{pattern}/")
        if fits:
            kept = rule.startswith("!")
    return kept


def test_every_path_that_is_copied_is_there() -> None:
    names = [name for sources, _ in copied() for name in sources]
    assert {"pyproject.toml", "constraints.txt", "StrokeLesionSeg", "NOTICE"} <= set(names)
    for name in names:
        assert (REPOSITORY / name).exists(), name
        assert let_through(name), name
    for name in ("training/cache", "Testing/x", ".git/config", "demo/t1.nii.gz", ".venv/bin"):
        assert not let_through(name), name


def test_pinned_and_without_root_or_downloads_at_run_time() -> None:
    done = steps()
    images = [arguments.split()[0] for word, arguments in done if word == "FROM"]
    # One base, with all three parts of its version.
    assert len(set(images)) == 1
    assert re.search(r":3\.\d+\.\d+-\w", images[0])
    installs = [a for word, a in done if word == "RUN" and "pip install" in a]
    assert installs
    assert all("-c constraints.txt" in install for install in installs)
    last_image = max(n for n, (word, _) in enumerate(done) if word == "FROM")
    final = done[last_image:]
    assert not any("pip" in arguments for word, arguments in final if word == "RUN")
    users = [arguments for word, arguments in final if word == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    # What comes after runs as that user.
    assert [word for word, _ in final][-4:] == ["USER", "WORKDIR", "ENTRYPOINT", "CMD"]
    (created,) = (a for word, a in final if word == "RUN")
    assert f"--create-home {users[-1]}" in created


def test_the_entry_point_is_a_script_of_ours() -> None:
    (entry,) = (json.loads(a) for word, a in steps() if word == "ENTRYPOINT")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert entry[0] in project["project"]["scripts"]
    assert entry[1:] == ["batch"]
    extras = re.findall(r'"\.\[(\w+)\]"', " ".join(a for _, a in steps()))
    assert extras
    assert set(extras) <= set(project["project"]["optional-dependencies"])


@pytest.mark.slow
def test_a_package_of_the_copied_files_answers(tmp_path: Path) -> None:
    """What RUN installs, but for the packages of others, which are those of this environment."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for names, target in copied():
        if target.startswith("/"):
            continue
        for name in names:
            to = source / target.removeprefix("./")
            if (REPOSITORY / name).is_dir():
                shutil.copytree(REPOSITORY / name, to, ignore=skip)
            else:
                shutil.copy(REPOSITORY / name, to / name)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    install += ["--no-build-isolation", "--no-index", "--target", str(site), "."]
    built = subprocess.run(install, cwd=source, capture_output=True, text=True, check=False)
    if "Cannot import 'setuptools" in built.stderr or "BackendUnavailable" in built.stderr:
        pytest.skip("setuptools is not installed here")
    assert built.returncode == 0, built.stderr[-2000:]
    environment = {**os.environ, "PYTHONPATH": str(site), "STROKE_LESION_SEG_HOME": str(tmp_path)}
    code = (
        "import StrokeLesionSegLib, sys; from StrokeLesionSegLib.cli import main;"
        "from StrokeLesionSegLib.resources import resource_path;"
        "print(StrokeLesionSegLib.__file__);"
        "[resource_path(*p) for p in (('Report', 'niivue.umd.js'), ('Atlases',), ('Models',))];"
        "sys.exit(main(sys.argv[1:]))"
    )
    for call in (["batch", "--help"], ["models", "list"]):
        command = [sys.executable, "-c", code, *call]
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr[-2000:]
        assert str(site) in run.stdout.splitlines()[0]
    assert "stroke-t1" in run.stdout


def test_the_recipe_for_apptainer_does_the_same() -> None:
    text = (REPOSITORY / "Apptainer.def").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", text, re.MULTILINE | re.DOTALL))
    files = [line.split() for line in parts["files"].splitlines() if line.strip()]
    into_build = {name for sources, target in copied() for name in sources if target != "/venv/"}
    assert {source for source, _ in files} == into_build
    assert all(target == f"/source/{source}" for source, target in files)
    (base,) = {arguments.split()[0] for word, arguments in steps() if word == "FROM"}
    assert f"From: {base}" in text
    flat = " ".join(parts["post"].replace("\\\n", " ").split())
    for word, arguments in steps():
        if word == "RUN" and "pip install" in arguments:
            assert " ".join(arguments.split()) in flat
    assert 'exec stroke-lesion-seg batch "$@"' in parts["runscript"]

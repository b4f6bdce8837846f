"""What must not get into the repository, and what must be there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

REPOSITORY = Path(__file__).resolve().parents[2]
LIB = REPOSITORY / "StrokeLesionSeg" / "StrokeLesionSegLib"
MAX_BYTES = 20 * 1000 * 1000
THIS = Path(__file__).resolve()

# Written in two parts so that this file is not its own finding.
MACHINE_PATHS = re.compile(r"(?<![\w.$}/])/(?:work|root|home/\w+|Users/\w+)/")
OTHER_PATHS = re.compile(r"(?<![\w.$}/])/(?:tmp|var/tmp|opt)/\w")
REGISTRY_HOSTS = re.compile(r"(?:files\.)?pythonhosted" r"\.org|pypi\.(?:org|python)|\+cpu\b")
TOKENS = re.compile(r"\b(?:ghp|github_pat|glpat|xox[bp])_\w{10,}")
# The one place that reads a pickle: torch's restricted reader, in a process that writes nothing but
# its output.
READS_CHECKPOINTS = "models/foreign/checkpoint_child.py"
UNSAFE = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
NETWORK = {"urllib", "http", "requests", "socket", "ftplib", "aiohttp", "httpx", "urllib3"}


def tracked_files() -> list[Path]:
    """What git tracks; outside a checkout, everything but what is ignored by its nature."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached"], cwd=REPOSITORY, capture_output=True, check=True
        ).stdout
        files = [REPOSITORY / name.decode() for name in listed.split(b"\0") if name]
    except (OSError, subprocess.CalledProcessError):
        hidden = {".venv", ".git", "__pycache__", "demo", "runs", "cache"}
        files = [p for p in REPOSITORY.rglob("*") if not hidden & {*p.parts}]
    return [path for path in files if path.is_file() and not path.is_symlink()]


# What a reader meets first. A file that a trial has left there is found by this.
TOP_LEVEL = {
    ".ci", ".dockerignore", ".gitignore", ".pre-commit-config.yaml", "Apptainer.def",
    "CHANGELOG.md", "CITATION.cff", "CMakeLists.txt", "CONTRIBUTING.md", "Containerfile",
    "LICENSE.txt", "Makefile", "NOTICE", "README.md", "Resources", "StrokeLesionSeg",
    "StrokeLesionSeg.json", "Testing", "constraints.txt", "docs", "pyproject.toml", "setup.py",
    "training",
}  # fmt: skip


def text_files() -> list[tuple[Path, str]]:
    found = []
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            found.append((path, data.decode("utf-8", errors="replace")))
    return found


def findings(pattern: re.Pattern[str], *, skip: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:100]}"
        for path, text in text_files()
        if path.resolve() != THIS and not path.name.endswith(skip or ("\0",))
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_there_is_something_to_look_at() -> None:
    names = {path.relative_to(REPOSITORY).as_posix() for path in tracked_files()}
    assert {"README.md", "LICENSE.txt", "Makefile", ".ci/run", "constraints.txt"} <= names
    assert MACHINE_PATHS.search("open('/" + "root/x')")
    assert not MACHINE_PATHS.search("https://example.org/work/x")
    assert OTHER_PATHS.search("cp x /" + "tmp/y")
    assert REGISTRY_HOSTS.search("pypi." + "org")


def test_no_paths_of_one_machine() -> None:
    assert findings(MACHINE_PATHS) == []
    # A test may name a path that is never opened.
    assert [x for x in findings(OTHER_PATHS) if not x.startswith("Testing/")] == []


def test_no_registry_hosts_and_no_secrets() -> None:
    assert findings(REGISTRY_HOSTS) == []
    assert findings(TOKENS) == []


def test_no_large_files() -> None:
    large = [p for p in tracked_files() if p.stat().st_size > MAX_BYTES]
    assert large == []


def test_no_build_products() -> None:
    suffixes = {".pyc", ".ckpt", ".pt", ".pth", ".pkl", ".whl", ".so", ".onnx"}
    assert [p for p in tracked_files() if p.suffix in suffixes] == []


def test_no_output_of_examples_at_the_top() -> None:
    """An example of a docstring that is run in the checkout writes there."""
    top = {path.name for path in tracked_files() if path.parent == REPOSITORY}
    assert {n for n in top if n.endswith((".tsv", ".csv", ".json"))} == {"StrokeLesionSeg.json"}


def unsafe_parts(text: str) -> list[tuple[int, str]]:
    """What in a file unpickles or goes online: line and what it does."""
    found = []
    for node in ast.walk(ast.parse(text)):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        for module in modules:
            # urllib.parse quotes text and opens nothing.
            if module.split(".")[0] in UNSAFE | NETWORK and module != "urllib.parse":
                found.append((node.lineno, f"imports {module}"))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            pickled = [k for k in node.keywords if k.arg == "allow_pickle"]
            allowed = [k for k in pickled if ast.unparse(k.value) != "False"]
            if name == "torch.load" or (name in ("np.load", "numpy.load") and allowed):
                found.append((node.lineno, f"calls {name}"))
    return sorted(found)


def test_the_engine_neither_unpickles_nor_goes_online() -> None:
    files = sorted(LIB.rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(LIB)}:{line} {what}"
        for path in files
        for line, what in unsafe_parts(path.read_text(encoding="utf-8"))
    ]
    assert [line.split(":")[0] for line in wrong] == [READS_CHECKPOINTS]
    assert "weights_only=True" in (LIB / READS_CHECKPOINTS).read_text(encoding="utf-8")
    importers = [
        path
        for path in files
        if "checkpoint_child" in path.read_text(encoding="utf-8")
        and path.relative_to(LIB).as_posix() != READS_CHECKPOINTS
    ]
    # Nobody imports it: it is started.
    assert all("import checkpoint_child" not in p.read_text(encoding="utf-8") for p in importers)


def test_the_search_for_unsafe_parts_finds_them() -> None:
    lines = "import pickle\nimport urllib.parse\nfrom http import client\ntorch.load(x)\n"
    lines += "np.load(x, allow_pickle=True)\nnp.load(x, allow_pickle=False)\nnp.load(x)\n"
    assert [n for n, _ in unsafe_parts(lines)] == [1, 3, 4, 5]


def test_top_level_holds_what_belongs_there() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a checkout: built and installed things lie beside")
    assert {path.relative_to(REPOSITORY).parts[0] for path in tracked_files()} == TOP_LEVEL


def test_changelog_keeps_its_form() -> None:
    lines = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Changelog"
    versions = [line for line in lines if line.startswith("## ")]
    assert versions[0] == "## [Unreleased]"
    form = re.compile(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}")
    for line in versions[1:]:
        assert form.fullmatch(line), line
    kinds = {line[4:] for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for kind in (n for n, line in enumerate(lines) if line.startswith("### ")):
        # A long one is divided by area.
        below = (line for line in lines[kind + 1 :] if line and line[:5] != "#### ")
        assert next(below, "").startswith("- "), lines[kind]


def test_every_folder_with_code_is_a_package() -> None:
    """setup.py finds packages by their __init__.py; without one a folder misses in the wheel."""
    for root in (LIB, REPOSITORY / "training" / "stroketrain"):
        folders = {file.parent for file in root.rglob("*.py")}
        assert folders
        assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_version_is_said_once() -> None:
    from StrokeLesionSegLib import __version__

    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation


def test_constraints_pin_every_requirement() -> None:
    """Whatever ``make`` installs has to be pinned, for every Python that is supported."""
    packaging = pytest.importorskip("packaging.requirements")
    canonical = pytest.importorskip("packaging.utils").canonicalize_name

    pins: dict[str, list] = {}
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = packaging.Requirement(line)
            assert str(pin.specifier).startswith("=="), line
            pins.setdefault(canonical(pin.name), []).append(pin)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    for text in wanted:
        requirement = packaging.Requirement(text)
        name = canonical(requirement.name)
        if name == "stroke-lesion-seg":
            continue
        assert name in pins, f"{name} is not pinned"
        for version in ("3.10", "3.11", "3.12", "3.13"):
            environment = {"python_version": version, "python_full_version": f"{version}.1"}
            valid = [p for p in pins[name] if p.marker is None or p.marker.evaluate(environment)]
            assert len(valid) == 1, f"{name} has {len(valid)} pins on Python {version}"
            pinned = next(iter(valid[0].specifier)).version
            assert requirement.specifier.contains(pinned), f"{text} excludes {pinned}"


def test_every_row_of_the_papers_that_is_cited_is_there() -> None:
    rows = set(re.findall(r"^\| ([AB]\d+) \|", _text("training/PAPERS.md"), re.MULTILINE))
    cited: dict[str, str] = {}
    for folder in ("StrokeLesionSeg", "training", "Testing"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            for rest in re.findall(r"PAPERS\.md((?:,? (?:rows |to )?[AB]\d+)+)", _text(file)):
                cited |= dict.fromkeys(re.findall(r"[AB]\d+", rest), file.name)
    assert {"A7", "B13"} <= cited.keys()
    assert {row: file for row, file in cited.items() if row not in rows} == {}


def test_the_papers_rows_name_modules_that_are_there() -> None:
    named = re.findall(
        r"`((?:stroketrain|StrokeLesionSegLib)\.[\w.]+)`", _text("training/PAPERS.md")
    )
    assert len(named) > 10
    roots = {"stroketrain": REPOSITORY / "training", "StrokeLesionSegLib": LIB.parent}
    files = [roots[name.split(".")[0]] / f"{name.replace('.', '/')}.py" for name in named]
    assert [file for file in files if not file.is_file()] == []


def test_files_of_slow_tests_exist() -> None:
    listed = re.search(r"^SLOW_FILES = \{(.*?)^\}", _text("Testing/conftest.py"), re.DOTALL | re.M)
    assert listed is not None
    names = set(re.findall(r'"(test_\w+\.py)"', listed[1]))
    assert names
    assert names - {file.name for file in (REPOSITORY / "Testing").rglob("test_*.py")} == set()


def test_the_map_names_every_room_and_only_what_is_there() -> None:
    """Of the tables at the beginning of CONTRIBUTING.md."""
    page = _text("CONTRIBUTING.md")
    tables = page[: page.index("## Glossary")]
    rows = [line for line in tables.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    tops = [
        LIB,
        REPOSITORY / "training" / "stroketrain",
        REPOSITORY / "StrokeLesionSeg",
        REPOSITORY,
    ]
    places = [top / name for name in named for top in tops if (top / name).exists()]
    found = {path.resolve() for path in places}
    for name in named:
        last = Path(name).name
        assert any(path.name == last for path in found) or any(
            (path / name).exists() for path in (*found, *(p.parent for p in found))
        ), f"{name} is not there"
    rooms = [p for top in tops[:2] for p in top.iterdir() if any(p.glob("*.py"))]
    missing = [p.name for p in rooms if p.resolve() not in found and p.name != "__pycache__"]
    assert not missing


def classes() -> list[tuple[str, ast.ClassDef]]:
    """All classes of engine and training with their files."""
    found = []
    for top in (LIB, REPOSITORY / "training" / "stroketrain"):
        for path in sorted(top.rglob("*.py")):
            name = path.relative_to(REPOSITORY).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [(name, n) for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    return found


def test_no_class_name_stands_twice() -> None:
    where: dict[str, list[str]] = {}
    for path, node in classes():
        if not node.name.startswith("_"):
            where.setdefault(node.name, []).append(path)
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def test_dataclasses_with_arrays_compare_by_identity_and_print_briefly() -> None:
    """A comparison of arrays has no truth value, and their values fill a screen."""
    wrong, seen = [], 0
    for path, node in classes():
        kinds = [ast.unparse(d) for d in node.decorator_list]
        held = [ast.unparse(x.annotation) for x in node.body if isinstance(x, ast.AnnAssign)]
        if not any(kind.startswith("dataclass") for kind in kinds) or "slicerbridge" in path:
            continue
        if any(re.search(r"NDArray|np\.ndarray|\bTensor\b", text) for text in held):
            seen += 1
            body = "".join(ast.unparse(x) for x in node.body)
            if not any("eq=False" in kind for kind in kinds) or "__repr__" not in body:
                wrong.append(f"{path}: {node.name}")
    assert seen > 20
    assert not wrong


def _text(path: str | Path) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")

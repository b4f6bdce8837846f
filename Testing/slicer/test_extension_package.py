"""What the Extensions Index and Slicer's build look at: lists, CMake, entry, icon, form."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import packaged_files
import pytest

# The stand-in for Slicer's CMake package: the commands that the extension calls, with the checks
# that Slicer's own make (files exist, known arguments), and a record of what was asked for.
SLICER_CONFIG = """
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Cpack.cmake")
"""
USE_SLICER = """
set(BUILD_TESTING ON)
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(M "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(M_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown arguments ${M_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT M_WITH_GENERIC_TESTS)
    message(FATAL_ERROR "the generic tests are not registered")
  endif()
  foreach(file IN LISTS M_SCRIPTS M_RESOURCES)
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "missing file ${file}")
    endif()
    file(APPEND "${CMAKE_BINARY_DIR}/packaged.txt" "${file}\\n")
  endforeach()
endfunction()
function(slicer_add_python_unittest)
  cmake_parse_arguments(T "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${T_SCRIPT}")
    message(FATAL_ERROR "missing test ${T_SCRIPT}")
  endif()
  file(APPEND "${CMAKE_BINARY_DIR}/tests.txt" "${T_SCRIPT}\\n")
endfunction()
"""
GENERATE = """
foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${name}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${name} is not set")
  endif()
  file(APPEND "${CMAKE_BINARY_DIR}/extension.txt" "${name}=${EXTENSION_${name}}\\n")
endforeach()
"""
# The entry's schema, version 1.0.2, in short: required and allowed keys with their types.
REQUIRED = {"$schema", "category", "scm_url"}
ALLOWED = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "dicom_support_rule": str,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
BUNDLED = {"numpy", "slicer", "qt", "ctk", "vtk"}


def configure(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    package = folder / "slicer"
    package.mkdir()
    (package / "SlicerConfig.cmake").write_text(SLICER_CONFIG)
    (package / "UseSlicer.cmake").write_text(USE_SLICER)
    (package / "GenerateConfig.cmake").write_text(GENERATE)
    (package / "Cpack.cmake").write_text("")
    return subprocess.run(
        ["cmake", "-S", str(source), "-B", str(folder / "build"), f"-DSlicer_DIR={package}"],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def cmake() -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is missing (Debian package: cmake)")
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("CMake asks for a C compiler (Debian package: gcc)")


def test_every_file_is_listed_for_packaging() -> None:
    listed = packaged_files.LIST.read_text(encoding="utf-8")
    names = set(re.findall(r"^  (\S+)$", listed, re.MULTILINE)) - {")"}
    scripts, resources = packaged_files.in_tree()
    missing = sorted({*scripts, *resources} - names)
    gone = sorted(names - {*scripts, *resources})
    assert not missing, f"not packaged, run 'make package-list': {missing}"
    assert not gone, f"listed but gone, run 'make package-list': {gone}"
    assert listed == packaged_files.text()


def test_what_has_to_be_there_is_found_by_the_list() -> None:
    scripts, resources = packaged_files.in_tree()
    assert "StrokeLesionSegLib/slicerbridge/engine/run.py" in scripts
    assert "StrokeLesionSegLib/images/formats/nifti.py" in scripts
    for name in (
        "Resources/UI/StrokeLesionSeg.ui",
        "Resources/Icons/StrokeLesionSeg.png",
        "Resources/Terminologies/StrokeLesionSeg.term.json",
        "Resources/Template/mni152_2009a_2mm.npz",
    ):
        assert name in resources


def test_cmake_configures_the_extension(repository: Path, tmp_path: Path, cmake: None) -> None:
    done = configure(repository, tmp_path)
    assert done.returncode == 0, done.stderr
    packaged = (tmp_path / "build" / "packaged.txt").read_text().split()
    scripts, resources = packaged_files.in_tree()
    assert packaged == [*scripts, *resources]
    assert (tmp_path / "build" / "tests.txt").read_text().split() == ["StrokeLesionSegSelfTest.py"]
    assert "DEPENDS=PyTorch" in (tmp_path / "build" / "extension.txt").read_text()


def test_cmake_stops_at_a_missing_file(repository: Path, tmp_path: Path, cmake: None) -> None:
    """The stand-in itself has to notice what Slicer would."""
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(repository / "CMakeLists.txt", source)
    shutil.copytree(
        repository / "StrokeLesionSeg",
        source / "StrokeLesionSeg",
        ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "run.py"),
    )
    done = configure(source, tmp_path)
    assert done.returncode != 0
    assert "missing file" in done.stderr


def test_the_index_entry_follows_the_schema(repository: Path) -> None:
    entry = json.loads((repository / "StrokeLesionSeg.json").read_text(encoding="utf-8"))
    assert not REQUIRED - entry.keys()
    for key, value in entry.items():
        assert key in ALLOWED, f"{key} is not known to the schema"
        assert type(value) is ALLOWED[key], key
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert entry["scm_type"] in ("git", "local")
    assert 1 <= entry["tier"] <= 5
    assert entry["scm_url"].startswith("https://")
    assert all(isinstance(name, str) for name in entry["build_dependencies"])
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    depends = re.search(r'EXTENSION_DEPENDS "([^"]*)"', text)
    assert depends is not None
    assert depends[1].split() == entry["build_dependencies"]
    # One place in both files: it is a stand-in that the owner replaces (see CONTRIBUTING.md).
    places = set(re.findall(r"https://[\w.]+/([\w-]+/[\w-]+?)(?:\.git|/|\")", text))
    assert places == {entry["scm_url"].removeprefix("https://github.com/").removesuffix(".git")}
    # The name of the extension is that of the entry's file and of the project.
    assert "project(StrokeLesionSeg)" in text


def test_icon_and_screenshots_are_there(repository: Path) -> None:
    from PIL import Image

    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    links = re.findall(r"SlicerStrokeLesionSeg/main/(\S+?\.png)", text)
    assert len(links) >= 2
    for link in links:
        assert (repository / link).is_file(), f"{link} is linked but missing"
    icon = Image.open(repository / "Resources" / "StrokeLesionSeg.png")
    assert icon.size == (128, 128)
    assert icon.format == "PNG"
    assert icon.mode == "RGBA"
    small = np.asarray(icon.resize((24, 24), Image.Resampling.LANCZOS))
    red = (small[..., 3] > 200) & (small[..., 0] > 180) & (small[..., 1] < 110)
    assert red.sum() >= 12, "the lesion is not seen at 24 pixels"


def test_the_form_is_what_the_code_expects(repository: Path) -> None:
    form = repository / "StrokeLesionSeg" / "Resources" / "UI" / "StrokeLesionSeg.ui"
    tree = ElementTree.parse(form)
    top = tree.find("widget")
    assert top is not None
    assert top.get("class") == "qMRMLWidget"
    names = {w.get("name") for w in tree.iter("widget")}
    bridge = repository / "StrokeLesionSeg" / "StrokeLesionSegLib" / "slicerbridge" / "module"
    files = [bridge / "controller.py", *(bridge / "panel").glob("*.py")]
    code = "".join(file.read_text("utf-8") for file in files)
    used = re.findall(r"\bui\.(\w+)", code)
    assert used
    assert not set(used) - names
    for widget in tree.iter("widget"):
        kind = widget.get("class")
        if kind in ("QPushButton", "QComboBox", "ctkSliderWidget", "qMRMLNodeComboBox"):
            tip = widget.find("property[@name='toolTip']/string")
            assert tip is not None, f"{widget.get('name')} has no tooltip"
            assert tip.text
    custom = {c.findtext("class") for c in tree.iter("customwidget")}
    own = {w.get("class") for w in tree.iter("widget") if not str(w.get("class")).startswith("Q")}
    assert own == custom
    bound = [
        p.findtext("string")
        for p in tree.iter("property")
        if p.get("name") == "SlicerParameterName"
    ]
    source = (repository / "StrokeLesionSeg" / "StrokeLesionSeg.py").read_text(encoding="utf-8")
    for name in bound:
        assert re.search(rf"^    {name}: ", source, re.MULTILINE), f"{name} is no parameter"
    scene = tree.find("connections/connection")
    assert scene is not None
    assert scene.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"


def test_nothing_foreign_is_imported_at_file_scope(repository: Path) -> None:
    """Reviewers of the index look for this in the module and what it imports at once."""
    module = repository / "StrokeLesionSeg"
    files = [module / "StrokeLesionSeg.py"]
    files += sorted((module / "StrokeLesionSegLib" / "slicerbridge").rglob("*.py"))
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                known = top in sys.stdlib_module_names or top in BUNDLED
                assert known or top.startswith("StrokeLesionSeg"), f"{file.name} imports {name}"


def test_no_pip_of_our_own(repository: Path) -> None:
    pattern = re.compile(r"pip_install|pip_ensure|[\"']pip[\"']")
    module = repository / "StrokeLesionSeg"
    for file in [module / "StrokeLesionSeg.py", *(module / "StrokeLesionSegLib").rglob("*.py")]:
        assert not pattern.search(file.read_text(encoding="utf-8")), file


def test_nobody_is_asked_to_cite_data_that_the_weights_have_not_seen(repository: Path) -> None:
    text = (repository / "StrokeLesionSeg" / "StrokeLesionSeg.py").read_text(encoding="utf-8")
    assert "CITATION.cff" in text
    assert "ATLAS" not in text  # as the README says

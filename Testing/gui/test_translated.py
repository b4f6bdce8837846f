"""Every text that Slicer shows goes through ``_()``, so that it can be translated."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "StrokeLesionSeg"
FILES = [
    MODULE / "StrokeLesionSeg.py",
    *sorted((MODULE / "StrokeLesionSegEffects").glob("*.py")),
    *sorted((MODULE / "StrokeLesionSegLib" / "slicerbridge").rglob("*.py")),
]
#: Calls whose texts are shown, of Qt, of Slicer and of the effects' small widgets.
SHOWING = {
    *("setText", "setToolTip", "setWindowTitle", "setTitle", "setPlaceholderText", "setStatusTip"),
    *("setHorizontalHeaderLabels", "setFormat", "addItem", "addRow", "addLabeledOptionsWidget"),
    *("QLabel", "QPushButton", "QCheckBox", "QRadioButton", "QTableWidgetItem", "QAction"),
    *("label", "button", "radio", "check", "slider", "choice", "table", "section"),
    *(
        "errorDisplay",
        "warningDisplay",
        "infoDisplay",
        "confirmYesNoDisplay",
        "confirmOkCancelDisplay",
    ),
    *("showStatusMessage", "showStatus", "CannotEdit", "Readiness", "tell", "links_html"),
    # What is raised is shown as a sentence.
    *("InputError", "RunError", "ValueError", "RuntimeError", "TorchDeclined"),
}
PROPERTIES = {
    "text",
    "toolTip",
    "windowTitle",
    "title",
    "placeholderText",
    "format",
    "said",
    "problem",
}
#: Signs and units, the same in all languages; kinds that are compared, not shown.
KEPT = {" mm", "mL", "ready", "session", "torch", "source", "segment"}


def texts(node: ast.AST) -> Iterator[str]:
    """Texts in an expression that no call of its own has been given."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and any(c.isalpha() for c in node.value):
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            if isinstance(part, ast.Constant):
                yield from texts(part)
    elif isinstance(node, (ast.List, ast.Tuple)):
        for part in node.elts:
            yield from texts(part)
    elif isinstance(node, ast.BinOp):
        yield from texts(node.left)
        yield from texts(node.right)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


def bare(tree: ast.AST) -> list[str]:
    """Texts that are shown as they stand in the code, with their lines."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        shown: list[ast.expr] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            shown = list(node.args) if name in SHOWING else []
        elif isinstance(node, ast.Assign):
            names = {getattr(target, "attr", "") for target in node.targets}
            shown = [node.value] if names & PROPERTIES else []
        bare_texts = [text for part in shown for text in texts(part) if text not in KEPT]
        found += [(node.lineno, text) for text in bare_texts]
    return [f"{line}: {text}" for line, text in sorted(found)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_text_can_be_translated(file: Path) -> None:
    assert bare(ast.parse(file.read_text(encoding="utf-8"))) == []


def test_a_bare_text_is_found() -> None:
    code = """
box.setText("Go on")
box.toolTip = "One click" if ready else _("No click")
box.setText(_("Go on"))
widgets.table([_("mL"), "State"], _("Largest first."))
box.text = f"{count} lesions"
"""
    assert bare(ast.parse(code)) == ["2: Go on", "3: One click", "5: State", "6:  lesions"]

"""Small widgets with texts and tips; written for PythonQt: no keywords, setters for all."""

import html

import ctk
import qt


def label(text):
    made = qt.QLabel(text)
    made.setWordWrap(True)
    return made


def button(text, tip):
    made = qt.QPushButton(text)
    made.setToolTip(tip)
    return made


def narrow(button):
    """Make a button little wider than its text, where several stand in a row: Slicer makes its
    panel as wide as what is in it would like to be."""
    button.setFixedWidth(qt.QLabel(button.text).sizeHint.width() + 16)
    return button


def radio(text, tip):
    """One of several that exclude each other; the chosen one is seen in the dark style, too."""
    made = qt.QRadioButton(text)
    made.setToolTip(tip)
    return made


def check(text, tip):
    made = qt.QCheckBox(text)
    made.setToolTip(tip)
    return made


def slider(low, high, step, decimals, tip, suffix=""):
    made = ctk.ctkSliderWidget()
    made.decimals = decimals
    made.minimum = low
    made.maximum = high
    made.singleStep = step
    made.suffix = suffix
    made.setToolTip(tip)
    return made


def choice(entries, tip):
    made = qt.QComboBox()
    for text, value in entries:
        made.addItem(text, value)
    made.setToolTip(tip)
    return made


def row(items):
    """Widgets side by side in one row."""
    made = qt.QHBoxLayout()
    for item in items:
        made.addWidget(item)
    return made


def table(headers, tip):
    """A table whose rows are chosen as a whole."""
    made = qt.QTableWidget()
    made.setColumnCount(len(headers))
    made.setHorizontalHeaderLabels(headers)
    made.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    made.setSelectionMode(qt.QAbstractItemView.SingleSelection)
    made.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    made.setMinimumHeight(94)
    made.setMaximumHeight(200)
    made.verticalHeader().setDefaultSectionSize(22)
    made.setToolTip(tip)
    made.verticalHeader().setVisible(False)
    made.horizontalHeader().setStretchLastSection(True)
    return made


def fill(tableWidget, rows):
    """Replace the content by rows of texts."""
    tableWidget.setRowCount(len(rows))
    for number, texts in enumerate(rows):
        for column, text in enumerate(texts):
            tableWidget.setItem(number, column, qt.QTableWidgetItem(text))
    tableWidget.resizeColumnsToContents()


def setQuietly(widget, setter, value):
    """Set a value without its signal."""
    blocked = widget.blockSignals(True)
    setter(value)
    widget.blockSignals(blocked)


def asHtml(text, strong=False):
    """A text for a label, with nothing in it taken as markup."""
    if not text:
        return ""
    escaped = html.escape(text, False)
    return f"<b>{escaped}</b>" if strong else f"<span>{escaped}</span>"


def section(title, opened=False):
    """A section that folds; rows go into its layout by ``addRow``."""
    made = ctk.ctkCollapsibleButton()
    made.text = title
    made.collapsed = not opened
    layout = qt.QFormLayout(made)
    layout.setContentsMargins(4, 4, 4, 4)
    return made, layout

"""What the panel says and allows in each state. Plain data, no Qt: the widget only shows it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engine_words import said, side_name
from ...i18n import tr as _
from ...scene.input_check import InputCheck

if TYPE_CHECKING:
    from ....models import Manifest
    from ..measure import LesionRow


@dataclass(frozen=True)
class PanelState:
    """Everything the panel's texts depend on."""

    input_check: InputCheck
    torch_installed: bool = True
    has_model: bool = True
    running: bool = False
    installing: bool = False
    has_result: bool = False
    kept_apart: bool = False
    corrected: bool = False
    other_image: bool = False
    of_batch: bool = False
    lesions: int | None = None
    cancelled: bool = False
    shown_instead: str = ""
    seconds: float | None = None
    problem: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PanelView:
    """``next_step``: what to do now. A disabled button's tooltip says why it is disabled."""

    next_step: str
    segment_text: str
    segment_enabled: bool
    segment_tooltip: str
    result_enabled: bool
    result_tooltip: str


def model_text(manifest: Manifest) -> str:
    """A model in the chooser: of one of others its space and what a scan takes here, too."""
    from ....inference import expected_run

    text = f"{manifest.title} ({manifest.name} {manifest.version})"
    if manifest.windows is None:
        return text
    expected = expected_run(manifest)
    facts = [manifest.windows.space.in_words, *([expected.in_words] if expected else [])]
    facts = [said(fact) for fact in facts]
    return f"{text}: {'; '.join(facts)}"


def view(state: PanelState) -> PanelView:
    """The texts for a state."""
    enabled, tooltip = True, _("Find lesions in this image. Nothing that exists is overwritten.")
    if state.running:
        step = _("Keep working in Slicer meanwhile. Cancel stops at once, with no partial result.")
        tooltip = _("Stop the run. The scene stays as it is.")
    elif state.installing:
        enabled = False
        step = tooltip = _("Installing PyTorch, this takes minutes...")
    elif not state.input_check.usable:
        enabled, tooltip = False, state.input_check.text
        # What went wrong elsewhere, such as an installation, has to be told without an image, too.
        step = "\n".join(filter(None, (state.problem, state.input_check.text)))
    elif not state.has_model:
        enabled = False
        tooltip = _("No model is installed.")
        step = _("No model is installed: open Advanced and press 'Install model from file...'.")
        step = "\n".join(filter(None, (state.problem, step)))
    elif state.problem:
        step = state.problem
    elif not state.torch_installed:
        tooltip = _("You will be asked before PyTorch is installed.")
        step = _("Press Segment. PyTorch is not installed yet: you will be asked first.")
    elif not state.has_result:
        step = _("Press Segment.")
        if state.seconds is not None:
            step += " " + _("It takes about {seconds:.0f} s here.").format(seconds=state.seconds)
        if state.cancelled:
            step = _("Cancelled; the scene is as it was. Press Segment to start again.")
        if state.input_check.doubts:
            step = _(
                "Read the note on the image first. If it is a T1-weighted scan, press Segment."
            )
    elif state.other_image:
        step = _(
            "The image is not that in which this was found: it was warped, resampled or filtered, "
            "or another frame is shown. Press Segment to use sliders and probability again."
        )
    elif state.kept_apart:
        step = _(
            "The segment you worked on is kept, hidden; the sliders now change a new one. "
            "'Sliders change' brings it back."
        )
    elif state.corrected:
        step = (
            _("You have corrected this segment. Press Save correction under Batch.")
            if state.of_batch
            else _("You have corrected this segment. Press Report... or save the scene.")
        )
        step += " " + _("Sliders and ticks would begin a new one.")
    elif state.lesions == 0:
        step = _(
            "No lesion at these settings. Move the threshold to the left to see what was doubtful, "
            "or press Edit to draw one by hand."
        )
    else:
        step = _(
            "Click a lesion to go there. Move the threshold until the outline fits, untick what "
            "is no lesion, then press Edit to correct by hand."
        )
    if state.shown_instead and not (state.running or state.installing or state.problem):
        said = _("The views show {name}: choose it as Image to work on it.")
        step = said.format(name=state.shown_instead) + " " + step
    if state.warnings and state.has_result and not state.running:
        step += " " + _("Note:") + " " + as_sentences(state.warnings)
    return PanelView(
        step,
        _("Cancel") if state.running else _("Segment"),
        enabled,
        tooltip,
        state.has_result and not state.running,
        _("Wait for the run to end, or cancel it.")
        if state.running
        else ("" if state.has_result else _("Segment an image first.")),
    )


def as_sentences(parts: Iterable[str]) -> str:
    """``parts`` one after the other, each with a full stop."""
    texts = (part.strip() for part in parts)
    return " ".join(t if t[-1] in ".!?:" else f"{t}." for t in texts if t)


def as_html(text: str, strong: bool = False) -> str:
    """``text`` for a label, with nothing in it taken as markup."""
    if not text:
        return ""
    escaped = html.escape(text, quote=False).replace("\n", "<br>")
    # The tag makes Qt read it as rich text; without one it would show "&amp;".
    return f"<b>{escaped}</b>" if strong else f"<span>{escaped}</span>"


def links_html(text: str, file: str | Path) -> str:
    """``text``, the path of a file, and links that open it and its folder."""
    path = Path(file).absolute()
    folder = path if path.is_dir() else path.parent
    links = [(_("open the folder"), folder)]
    if folder != path:
        links.insert(0, (_("open it"), path))
    shown = " · ".join(f'<a href="{target.as_uri()}">{said}</a>' for said, target in links)
    return f"<span>{html.escape(text)} {html.escape(str(path))}<br>{shown}</span>"


#: (where, [(mouse or key, what it does)]); the effects' own keys are in their helps, too.
KEYS = (
    (
        _("Lesion table"),
        (
            (_("Up, Down"), _("go to the lesion")),
            (_("Space"), _("leave it out, or take it back")),
        ),
    ),
    (
        _("Stroke Lesion"),
        (
            (_("Left click, drag"), _("this is lesion")),
            (_("Right or Ctrl + left"), _("this is not")),
            ("m", _("from click to brush, outline and back")),
            (_("Shift + wheel, +, -"), _("size of the brush")),
        ),
    ),
    (
        _("Lesion Review"),
        (
            ("n, p", _("next undecided piece, piece before")),
            ("k, x", _("keep, drop")),
            ("s, u", _("split, take back")),
        ),
    ),
    (_("Segment Editor"), ((_("Ctrl + Z, Ctrl + Y"), _("undo, redo")),)),
)


def keys_html() -> str:
    """``KEYS`` as a table for a label."""
    rows = []
    for where, entries in KEYS:
        rows.append(f'<tr><td colspan="2"><b>{html.escape(where)}</b></td></tr>')
        for key, what in entries:
            cells = f"<td>{html.escape(key)}&nbsp;&nbsp;</td><td>{html.escape(what)}</td>"
            rows.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


#: Columns of the lesion table in the panel and how a ``measure.LesionRow`` fills them.
TABLE_HEADERS = (_("Keep"), _("mL"), _("Side"), _("R, A, S (mm)"), _("Mean p"))


def table_cells(row: LesionRow, world: Sequence[float] | None = None) -> tuple[str, ...]:
    """The texts of one line of the panel's table, without the tick of the first column.

    ``world``: the centre in the scene, where the views show it; by default that in the image.
    """
    r, a, s = row.centroid_ras_mm if world is None else world
    return (
        f"{row.number}",
        f"{row.volume_ml:.2f}",
        side_name(row.side),
        f"{r:.0f}, {a:.0f}, {s:.0f}",
        f"{row.mean_probability:.2f}",
    )


#: Columns of the table of regions in the panel.
REGION_HEADERS = (_("Region"), _("Side"), _("mL"), _("% of\nregion"), _("% of\nlesions"))


def region_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of one line of it; ``row`` as ``RegionTable.table_rows`` gives it."""
    return (
        said(str(row["region"])),
        side_name(str(row["side"] or "")),
        f"{row['volume_ml']:.2f}",
        _percent(row["share_of_region"]),
        _percent(row["share_of_lesion"]),
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"

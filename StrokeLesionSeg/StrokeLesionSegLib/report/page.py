"""HTML that cannot be broken by what it shows: elements that escape, and the document around them.

A page is one file. Its Content-Security-Policy allows no address but ``data:`` pictures, and only
the very style sheet and script that we put in, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
from collections.abc import Iterable, Sequence

from ..lesions.tables import write_text
from ..resources import resource_path

# Paths as operating systems write them: POSIX, Windows drive, Windows share.
_PATH = re.compile(
    # Greedy up to the last separator: folders have blanks, commas and quotes in their names.
    r"(?<![\w.<])(?:file://)?(?:[A-Za-z]:[\\/]|\\\\|~?/(?=[^\s/]))[^\n<>|:]*[\\/]"
)
_CHECKSUM = re.compile(r"[0-9a-f]{32,}\Z")


class Markup(str):
    """Text that is HTML already; everything else is escaped where it is put into a page."""

    __slots__ = ()


def text(value: object) -> Markup:
    """``value`` as HTML text: escaped, without control characters and those that reorder text."""
    if isinstance(value, Markup):
        return value
    clean = str(value)
    if not clean.isprintable():
        clean = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in clean)
    return Markup(html.escape(clean, quote=True))


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """``<name attributes>children</name>``; both are escaped unless they are ``Markup``.

    ``None`` leaves an attribute or child out, ``True`` writes an attribute without a value. A
    trailing underscore in an attribute's name is dropped (``class_``), others become hyphens.
    """
    head = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        head.append(key if value is True else f'{key}="{text(value)}"')
    opening = " ".join(head)
    if name in ("meta", "br", "img"):
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{joined(children)}</{name}>")


def joined(children: Iterable[object]) -> Markup:
    """Children one after the other, escaped unless ``Markup``; None is left out."""
    return Markup("".join(text(child) for child in children if child is not None))


def section(title: str, *children: object, class_: str | None = None) -> Markup:
    """A part of the page with its heading."""
    return element("section", element("h2", title), *children, class_=class_)


def paragraph(*children: object, class_: str | None = None) -> Markup:
    return element("p", *children, class_=class_)


def figure(picture: Markup, caption: object, class_: str | None = None) -> Markup:
    return element("figure", picture, element("figcaption", caption), class_=class_)


def facts(pairs: Sequence[tuple[str, str]]) -> Markup:
    """A list of titles and texts; long texts, such as checksums, get a line of their own."""
    items = [
        element(
            "div",
            element("dt", title),
            element(
                "dd", element("code", value) if _CHECKSUM.match(value) else value or "not known"
            ),
            class_="wide" if len(value) > 34 else None,
        )
        for title, value in pairs
    ]
    return element("dl", *items, class_="facts")


def table(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[object]],
    caption: str,
    **attributes: object,
) -> Markup:
    """A table. ``columns`` are (heading, "text" or "number"); the first cell of a row heads it."""
    kinds = ["num" if kind == "number" else None for _, kind in columns]
    head = [
        element("th", title, scope="col", class_=kind)
        for (title, _), kind in zip(columns, kinds, strict=True)
    ]
    body = []
    for row in rows:
        cells = [
            cell
            if isinstance(cell, Markup) and cell.startswith(("<td", "<th"))
            else element("td" if n else "th", cell, class_=kinds[n], scope=None if n else "row")
            for n, cell in enumerate(row)
        ]
        body.append(element("tr", *cells))
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", *head)),
            element("tbody", *body),
            **attributes,
        ),
        class_="scroll",
    )


def without_paths(value: str) -> str:
    """``value`` with the folders cut off the absolute paths in it.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import without_paths
    >>> without_paths("/data/scans/t1.nii.gz is damaged")
    't1.nii.gz is damaged'
    """
    return _PATH.sub("", value)


def document(title: str, body: Sequence[object], *, script: str | None = None) -> str:
    """The whole page. ``script`` names a file of the shipped ``Report`` resources."""
    style = _resource("report.css")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; base-uri 'none'"
    scripts: list[Markup] = []
    if script is not None:
        code = _resource(script)
        policy += f"; script-src {_hash(code)}"
        scripts.append(element("script", Markup(code)))
    policy += "; form-action 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="robots", content="noindex"),
        element("title", title),
        element("style", Markup(style)),
    )
    main = element("body", *body, *scripts)
    return f"<!DOCTYPE html>\n{element('html', head, main, lang='en')}\n"


def write_page(path: str | os.PathLike[str], page: str, *, overwrite: bool) -> None:
    """Write complete or not at all; raises ``InputError`` as ``lesions.write_table`` does."""
    write_text(path, page, overwrite=overwrite)


def _resource(name: str) -> str:
    return resource_path("Report", name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"

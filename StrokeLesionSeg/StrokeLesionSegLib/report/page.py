"""HTML that cannot be broken by what it shows: elements that escape, and the document around them.

A page is one file. Its Content-Security-Policy allows no address but ``data:`` pictures, and only
the very style sheet and scripts that we put in, by their hashes. The pages of a study share two
scripts that lie beside them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..lesions.tables import write_text
from ..resources import resource_path

# Paths as operating systems write them: POSIX, Windows drive, Windows share.
_PATH = re.compile(
    # Greedy up to the last separator: folders have blanks, commas and quotes in their names.
    r"(?<![\w.<])(?:file://)?(?:[A-Za-z]:[\\/]|\\\\|~?/(?=[^\s/]))[^\n<>|:]*[\\/]"
)
_FILES = re.compile(r'<ul class="files">.*?</ul>', re.DOTALL)
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
    if name in ("meta", "br", "img", "input"):
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
    """A picture with its caption; where it is too wide for a phone it is moved sideways."""
    pan = element("div", picture, class_="pan")
    return element("figure", pan, element("figcaption", caption), class_=class_)


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


def sortable(
    columns: Sequence[tuple[str, str]], rows: Sequence[Markup], caption: str, *, class_: str | None
) -> Markup:
    """The table of a page that is sorted by pressing a heading (``group.js``).

    ``rows`` are whole elements.
    """
    head = [
        element(
            "th",
            element("button", title, type="button"),
            scope="col",
            aria_sort="none",
            class_="num" if kind == "number" else None,
        )
        for title, kind in columns
    ]
    whole = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *rows),
        id="scans",
        class_=class_,
    )
    return element("div", whole, class_="scroll")


def number_cell(value: float | None, shown: str) -> Markup:
    """A cell of a ``sortable`` table, sorted by ``value``; None is not known, and comes last."""
    if value is None:
        return element("td", "n/a", class_="num", data_key="")
    return element("td", shown, class_="num", data_key=f"{value:.6g}")


def without_paths(value: str) -> str:
    """``value`` with the folders cut off the absolute paths in it.

    Examples
    --------
    >>> from StrokeLesionSegLib.report import without_paths
    >>> without_paths("/data/scans/t1.nii.gz is damaged")
    't1.nii.gz is damaged'
    """
    return _PATH.sub("", value)


@dataclass(frozen=True)
class Inline:
    """A script within the page; one with a ``kind`` is data, which no browser runs.

    ``code`` must not hold the end of a script element.
    """

    name: str | None
    code: str
    kind: str | None = None

    def __post_init__(self) -> None:
        if "</script" in self.code.lower() or "<!--" in self.code:
            raise ValueError("the text would end its own element")


@dataclass(frozen=True)
class Shared:
    """A script beside the page, at a relative address."""

    address: str


def document(
    title: str,
    body: Sequence[object],
    *,
    scripts: Sequence[Inline | Shared] = (),
    allowed: Sequence[str] = (),
) -> str:
    """The whole page. ``allowed``: code of scripts that those in ``scripts`` put in themselves."""
    style = resource_text("report.css")
    sources = ["'self'"] if any(isinstance(script, Shared) for script in scripts) else []
    code = [s.code for s in scripts if isinstance(s, Inline) and s.kind is None]
    sources += [_hash(text) for text in (*code, *allowed)]
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; base-uri 'none'"
    if sources:
        policy += f"; script-src {' '.join(sources)}"
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
    main = element("body", *body, *map(_script, scripts))
    return f"<!DOCTYPE html>\n{element('html', head, main, lang='en')}\n"


def _script(script: Inline | Shared) -> Markup:
    if isinstance(script, Shared):
        return element("script", src=script.address)
    return element("script", Markup(script.code), id=script.name, type=script.kind)


def safe_address(page: str | None, *, above: int = 0) -> str | None:
    """A relative path as an address that leads nowhere else; None if it leads out, or is none.

    ``above``: how many folders up it may begin.
    """
    parts = (page or "").replace("\\", "/").split("/")
    up = 0
    while up < above and parts[0] == "..":
        up, parts = up + 1, parts[1:]
    if not parts or not parts[0] or ".." in parts:
        return None
    # With "./" before it and ":" quoted, no name can act as an address of another kind.
    return "./" + up * "../" + _quoted("/".join(parts))


def links_to_files(files: Mapping[str, str]) -> Markup | None:
    """Links to what lies beside the page: relative paths with what each is; None if there are
    none."""
    items = []
    for name, told in files.items():
        address = safe_address(name)
        if address is not None:
            link = element("a", name, href=address)
            items.append(element("li", link, element("br"), element("span", told)))
    return element("ul", *items, class_="files") if items else None


def tables_section(files: Mapping[str, str], title: str = "Tables") -> Markup | None:
    """``links_to_files`` under a heading; None if there are none."""
    links = links_to_files(files)
    return None if links is None else section(title, links, class_="keep")


def timestamp() -> str:
    """The time now, as pages say when they were made."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M (UTC%z)")


def with_files(page: str, files: Mapping[str, str]) -> str:
    """A page's text with another list of ``links_to_files``, if it has one.

    Examples
    --------
    >>> from StrokeLesionSegLib.report.page import with_files
    >>> with_files('<ul class="files"></ul>', {"a.tsv": "A table"})
    '<ul class="files"><li><a href="./a.tsv">a.tsv</a><br><span>A table</span></li></ul>'
    """
    links = links_to_files(files)
    return page if links is None else _FILES.sub(lambda _: links, page, count=1)


def _quoted(address: str) -> str:
    """A relative path as an address: everything but plain characters as %XX of its UTF-8."""
    safe = string.ascii_letters + string.digits + "-._~/"
    return "".join(
        c if c in safe else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))
        for c in address
    )


def write_page(path: str | os.PathLike[str], page: str, *, overwrite: bool) -> None:
    """Write complete or not at all; raises ``InputError`` as ``lesions.write_table`` does."""
    write_text(path, page, overwrite=overwrite)


@functools.lru_cache(maxsize=16)
def resource_text(name: str) -> str:
    """A file of the shipped ``Report`` resources."""
    # Not read as text: line ends have to stay, for the hash's sake.
    return resource_path("Report", name).read_bytes().decode("utf-8")


@functools.lru_cache(maxsize=16)
def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"

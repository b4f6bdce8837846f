"""Content for reports, and a reader of their pages that knows no more than HTML."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import numpy as np
from StrokeLesionSegLib.lesions import find_lesions
from StrokeLesionSegLib.operating_point import OperatingPoint
from StrokeLesionSegLib.report import AlignmentFacts, ReportContent

# A coarse grid over MNI space, axes along R, A, S.
SHAPE = (63, 78, 66)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
AFFINE[:3, 3] = (-97.5, -133.5, -72.0)

_VOID = {"meta", "br", "img", "link", "input", "hr"}


def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, z in mm of every voxel, each (K, J, I)."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    return tuple(AFFINE[a, a] * v + AFFINE[a, 3] for a, v in enumerate((i, j, k)))


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    x, y, z = world()
    distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    return distance <= radius**2


def brain() -> np.ndarray:
    x, y, z = world()
    return (x / 68) ** 2 + ((y + 18) / 86) ** 2 + ((z - 8) / 70) ** 2 < 1


def make_content(
    centres: tuple[tuple[float, float, float], ...] = ((-36.0, -12.0, 24.0),),
    *,
    radius: float = 13.0,
    probability: float = 0.9,
    to_mni: np.ndarray | None = None,
    aligned: bool = True,
    **changes: Any,
) -> ReportContent:
    """A brain with ball-shaped lesions at ``centres`` (RAS mm), which are its brightest voxels."""
    inside = brain()
    mask = np.zeros(SHAPE, dtype=bool)
    for centre in centres:
        mask |= ball(centre, radius)
    t1 = np.where(inside, 120, 0).astype(np.uint8)
    t1[mask] = 252
    found = find_lesions(
        mask * np.float32(probability),
        AFFINE,
        OperatingPoint(0.5),
        to_mni=np.eye(4) if aligned else None,
    )
    values = dict(
        name="sub-01_T1w",
        created="2026-01-02 03:04",
        t1=t1,
        labels=found.labels,
        uncertainty=np.where(mask, np.float32(0.3), np.float32(0)),
        affine=AFFINE,
        space="MNI152" if aligned else "scan",
        midline_x_mm=0.0,
        brain=inside if aligned else None,
        lesions=found.lesions,
        summary=found.summary,
        centres_mm={lesion.label: lesion.centroid_ras_mm for lesion in found.lesions},
        passes=("axial",),
        alignment=AlignmentFacts(True, "", 0.953, 0.78) if aligned else None,
        intended_use="Trained on simulated strokes.",
        source=(("Format", "NIfTI"),),
        model=(("Name", "tiny"), ("SHA-256 of the weights", "0123abcd" * 8)),
        parameters=(("Threshold", "0.5"),),
        versions=(("Python", "3.11"),),
    )
    return ReportContent(**{**values, **changes})


@dataclass
class Node:
    """An element: its attributes, the text directly in it, and its children."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Node] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def all(self, tag: str, class_: str | None = None) -> list[Node]:
        found = []
        for child in self.children:
            classes = (child.attributes.get("class") or "").split()
            if child.tag == tag and (class_ is None or class_ in classes):
                found.append(child)
            found += child.all(tag, class_)
        return found

    def one(self, tag: str, class_: str | None = None) -> Node:
        (found,) = self.all(tag, class_)
        return found

    @property
    def text(self) -> str:
        """All text within, in the order of the elements, blanks joined."""
        return " ".join(" ".join(self.words).split())


class _Reader(HTMLParser):
    """Builds the tree and complains about what is not closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]
        self.doctype = ""

    def handle_decl(self, declaration: str) -> None:
        self.doctype = declaration

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        node = Node(tag, dict(attributes))
        self.open[-1].children.append(node)
        if tag not in _VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for node in self.open:
            node.words.append(data)


def parse(page: str) -> Node:
    """The page as a tree; an ``AssertionError`` if elements are not nested properly."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.doctype == "DOCTYPE html"
    assert [node.tag for node in reader.open] == [""], "elements are left open"
    return reader.root.one("html")


def section(page: Node, title: str) -> Node:
    """The section with this heading."""
    (found,) = [s for s in page.all("section") if s.all("h2")[0].text == title]
    return found


def titles(page: Node) -> list[str]:
    return [s.all("h2")[0].text for s in page.all("section")]


def picture(svg: Node, layer: int = 0) -> np.ndarray:
    """The pixels of an SVG's PNG: (rows, columns) grey, or (rows, columns, 4) RGBA."""
    from PIL import Image

    address = svg.all("image")[layer].attributes["href"]
    kind, _, data = address.partition(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    return np.array(image if image.mode == "L" else image.convert("RGBA"))


@dataclass
class Drawn:
    """One cell of a sheet: where it starts, its outlines by class, and its texts with x."""

    x: float
    y: float
    outlines: dict[str, list[np.ndarray]]
    texts: dict[str, float]


def cells(svg: Node) -> list[Drawn]:
    """The cells of a sheet; outlines are (n, 2) arrays of x, y within the whole picture."""
    found = []
    # Sides that all cells share stand beside the rows: left first.
    beside = [t.text for t in svg.all("text", "row")][:2]
    lefts = sorted({float(re.findall(r"[\d.]+", str(g.attributes["transform"]))[0])
                    for g in svg.all("g")})  # fmt: skip
    for group in svg.all("g"):
        x, y = (
            float(v)
            for v in re.fullmatch(
                r"translate\(([\d.]+) ([\d.]+)\)", group.attributes["transform"]
            ).groups()
        )
        outlines: dict[str, list[np.ndarray]] = {}
        for path in group.all("path"):
            if "Z" not in path.attributes["d"]:
                continue
            for loop in path.attributes["d"].split("Z")[:-1]:
                numbers = np.array([float(v) for v in re.findall(r"[\d.]+", loop)])
                points = numbers.reshape(-1, 2) + np.array([x, y])
                outlines.setdefault(path.attributes["class"], []).append(points)
        texts = {t.text: x + float(t.attributes["x"]) for t in group.all("text")}
        if beside:
            texts |= {beside[0]: x, beside[1]: x + (lefts[1] - lefts[0])}
        found.append(Drawn(x, y, outlines, texts))
    return found

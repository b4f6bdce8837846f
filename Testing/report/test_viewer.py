"""What the viewer of a page is given: the brain and no face, on its place, small, by NiiVue."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from dataclasses import replace
from typing import Any

import nibabel
import numpy as np
import pytest
from report_support import AFFINE, SHAPE, Node, brain, make_content, parse, world
from scipy import ndimage
from StrokeLesionSegLib.report import ReportContent, StudyPlace, scan_report
from StrokeLesionSegLib.report.page import Inline, document
from StrokeLesionSegLib.report.viewer import (
    AROUND_BRAIN_MM,
    LICENSES,
    MOST_BYTES,
    NIIVUE,
    viewer_images,
)
from StrokeLesionSegLib.resources import resource_path
from test_report_scan import policy_of

# As npm gives it for @niivue/niivue 0.69.0, dist/niivue.umd.js.
PUBLISHED = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"


def with_viewer(**changes: Any) -> ReportContent:
    """Content with what the viewer shows of it."""
    content = make_content(**changes)
    shown = viewer_images(content.t1, content.labels, content.brain, content.affine)
    return replace(content, viewer=shown)


def image(packed: bytes) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(packed))


def script(tree: Node, name: str) -> str:
    (found,) = [s for s in tree.all("script") if s.attributes.get("id") == name]
    return found.words[0]


def test_only_the_brain_and_five_millimetres() -> None:
    """A head that is bright all over, face included: nothing of it is kept but the brain."""
    inside = brain()
    shown = viewer_images(np.full(SHAPE, 200, np.uint8), np.zeros(SHAPE, np.int32), inside, AFFINE)
    t1 = image(shown.t1)
    kept = np.argwhere(np.asarray(t1.dataobj) > 0)
    places = nibabel.affines.apply_affine(t1.affine, kept)
    away = ndimage.distance_transform_edt(~inside, sampling=3.0)
    indices = np.rint(nibabel.affines.apply_affine(np.linalg.inv(AFFINE), places)).astype(int)
    distances = away[indices[:, 2], indices[:, 1], indices[:, 0]]
    assert distances.max() <= AROUND_BRAIN_MM
    # All of the brain, and the edge around it, is there.
    assert len(kept) == (away <= AROUND_BRAIN_MM).sum() > inside.sum()


def test_no_viewer_where_the_brain_is_not_known() -> None:
    content = make_content(aligned=False)
    assert viewer_images(content.t1, content.labels, None, AFFINE) is None
    nothing = np.zeros(SHAPE, bool)
    assert viewer_images(content.t1, content.labels, nothing, AFFINE) is None


@pytest.mark.parametrize("noisy", [False, True])
def test_small_and_on_its_place(noisy: bool) -> None:
    """Noise cannot be packed: the page stays small all the same, and the lesion where it is."""
    fine = np.diag([1.0, 1.0, 1.0, 1.0])
    fine[:3, 3] = (-70.0, -100.0, -60.0)
    shape = (156, 190, 166)
    k, j, i = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside = ((k - 78) / 72) ** 2 + ((j - 95) / 89) ** 2 + ((i - 83) / 77) ** 2 < 1
    t1 = np.full(shape, 90, np.uint8)
    if noisy:
        t1[:] = np.random.default_rng(0).integers(0, 150, shape)
    labels = np.zeros(shape, np.int32)
    labels[70:80, 90:100, 100:110] = 3
    t1[labels == 3] = 255
    shown = viewer_images(t1, labels, inside, fine)
    assert 4 * (len(shown.t1) + len(shown.lesions)) / 3 <= MOST_BYTES
    sizes = image(shown.t1).header.get_zooms()
    assert (sizes[0] > 1.1) == noisy
    for file in (shown.t1, shown.lesions):
        found = image(file)
        data = np.asarray(found.dataobj)
        assert data.dtype == np.uint8
        # Noise is below 150, and the lesion is a cube.
        even = ndimage.uniform_filter(data.astype(float), 3)
        centre = np.argwhere(even > 0.8 * data.max()).mean(axis=0)
        where = nibabel.affines.apply_affine(found.affine, centre)
        assert np.abs(where - (34.5, -5.5, 14.5)).max() < 1.0
    assert set(np.unique(image(shown.lesions).dataobj)) == {0, 3}


def test_the_page_claims_no_more_for_the_brain_than_for_the_viewer() -> None:
    """The pictures below it show the head as the scan has it."""
    page = scan_report(with_viewer())
    assert "The viewer holds the brain and 5 mm around it only." in page
    assert "in this page" not in page


def test_many_lesions_keep_their_numbers() -> None:
    content = make_content()
    labels = np.where(content.labels > 0, 300, 0)
    shown = viewer_images(content.t1, labels, content.brain, AFFINE)
    assert np.asarray(image(shown.lesions).dataobj).max() == 300


def test_niivue_is_as_published_and_named() -> None:
    code = resource_path("Report", NIIVUE).read_bytes()
    assert hashlib.sha256(code).hexdigest() == PUBLISHED
    notices = resource_path("Report", LICENSES).read_text(encoding="utf-8")
    assert "Copyright (c) 2021, Niivue" in notices
    assert "Redistributions in binary form" in notices


def test_a_page_of_its_own_holds_niivue_and_names_it_in_its_policy() -> None:
    tree = parse(scan_report(with_viewer()))
    code = gzip.decompress(base64.b64decode(script(tree, "niivue")))
    assert hashlib.sha256(code).hexdigest() == PUBLISHED
    digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
    policy = policy_of(tree)["script-src"]
    assert f"'sha256-{digest}'" in policy
    assert all(source.startswith("'sha256-") for source in policy)
    assert "Niivue" in script(tree, "niivue-licenses")
    data = json.loads(script(tree, "viewer-data"))
    packed = io.BytesIO(base64.b64decode(data["t1"])).getvalue()
    assert np.asarray(image(packed).dataobj).max() > 200
    assert data["centres"]["1"] == pytest.approx([-36, -12, 24], abs=2)


def test_a_page_of_a_study_shares_niivue() -> None:
    content = replace(with_viewer(), study=StudyPlace("0f3a", "sub-01", "../../"))
    page = scan_report(content)
    tree = parse(page)
    shared = [s.attributes["src"] for s in tree.all("script") if "src" in s.attributes]
    assert shared == ["../../pages/niivue.umd.js", "../../pages/study.js"]
    assert policy_of(tree)["script-src"][0] == "'self'"
    assert len(page) < 1_000_000


def test_no_viewer_no_script() -> None:
    tree = parse(scan_report(make_content()))
    assert not tree.all("script")
    assert not tree.all("canvas")


@pytest.mark.parametrize("code", ["x</script>", "x</SCRIPT >", "a <!-- b"])
def test_data_cannot_end_its_element(code: str) -> None:
    with pytest.raises(ValueError, match="end its own element"):
        document("t", [], scripts=[Inline("x", code, "text/plain")])


def test_the_world_of_the_support_is_that_of_the_page() -> None:
    """The distances above are measured where the page says the voxels are."""
    x, y, z = world()
    assert (x[0, 0, 0], y[0, 0, 0], z[0, 0, 0]) == tuple(AFFINE[:3, 3])

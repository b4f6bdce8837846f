"""Whole batches over damaged and hostile input: nothing outside OUT, no defect, no hang."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import random
import re
from pathlib import Path

import cli_support
import cohort_support as support
import nibabel
import numpy as np
import pytest
from fuzz_support import CASES, write_originals
from StrokeLesionSegLib.lesions import read_table
from StrokeLesionSegLib.report.page import resource_text

pytestmark = pytest.mark.usefixtures("home")


def everything(folder: Path, *, but: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file and link below ``folder`` with size, date and contents, ``but`` left out."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_relative_to(but) or path.is_dir():
            continue
        facts = path.lstat()
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        found[str(path)] = (facts.st_size, facts.st_mtime_ns, content)
    return found


def damage(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, most of them near the beginning; sometimes cut off."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        reach = min(len(changed), chance.choice([352, 1100, len(changed)]))
        changed[chance.randrange(reach)] = chance.choice(
            [0, 1, 127, 128, 255, chance.randrange(256)]
        )
    if chance.random() < 0.2:
        del changed[chance.randrange(len(changed)) :]
    return bytes(changed)


def test_a_batch_of_damaged_files(tmp_path: Path) -> None:
    chance = random.Random(11)
    source, out = tmp_path / "in", tmp_path / "out"
    support.write_cohort(source, 2)
    small = tmp_path / "small"
    small.mkdir()
    originals = write_originals(small)
    plain = cli_support.write_head(tmp_path / "plain.nii").read_bytes()
    for number in range(CASES):
        name = chance.choice(["a.nii", "b.nii", "a.nii.gz", "a.nrrd", "a.mha", "plain.nii", "dcm"])
        if name == "dcm":
            folder = source / f"dicom{number}"
            folder.mkdir()
            broken = chance.randrange(12)
            for k in range(12):
                data = originals[f"{k}.dcm"]
                (folder / f"{k}.dcm").write_bytes(damage(data, chance) if k == broken else data)
        else:
            data = plain if name == "plain.nii" else originals[name]
            (source / f"x{number}_{name}").write_bytes(damage(data, chance))
    before = everything(tmp_path, but=out)
    assert support.batch(source, out) in (0, 3)
    assert everything(tmp_path, but=out) == before
    records = {r["stem"]: r for r in support.records(out)}
    assert len(records) >= 2
    assert {records[f"sub-Case{n}"]["state"] for n in range(2)} == {"done"}
    for record in records.values():
        assert "traceback" not in record, record
        if record["state"] == "failed":
            assert record["error"].endswith(".")
    assert len(read_table(out / "group_scans.tsv")) == len(records)
    assert support.leftovers(out) == []
    for path in out.rglob("*_probseg.nii.gz"):
        values = np.asarray(nibabel.load(path).dataobj)
        assert np.isfinite(values).all()
        assert 0 <= values.min() <= values.max() <= 1


RESOURCES = ("ratings.js", "group.js", "review.js", "viewer.js")
SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(2)>'


def dicom_of_somebody(folder: Path) -> Path:
    """A series whose every text could carry a name or markup."""
    import pydicom

    cli_support.write_dicom_series(folder, uid="1.2.826.0.1.3680043.10.511.9.7")
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.PatientName = f"Secretperson^{SCRIPT}"
        data.PatientID = f"ID-4711{IMAGE}"
        data.PatientBirthDate = "19500417"
        data.InstitutionName = "Hospital of Nowhere"
        data.ReferringPhysicianName = "Secretdoctor^House"
        data.AccessionNumber = "ACC987654"
        data.StudyDescription = f"study{IMAGE}"
        data.SeriesDescription = f"t1{SCRIPT}{IMAGE}"[:60]
        data.save_as(path)
    return folder


def scripts_of(page: str) -> list[str]:
    """Where each script of a page comes from: its address, or the resource that it is word for
    word; what holds data, which no browser runs, by its type. The policy allows these alone."""
    found = []
    for attributes, code in re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL):
        if address := re.search(r'src="([^"]*)"', attributes):
            found.append(address[1].rsplit("/", 1)[-1])
        elif kind := re.search(r'type="([^"]*)"', attributes):
            found.append(kind[1])
        else:
            found.append(next(n for n in RESOURCES if code == resource_text(n)))
            digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in html.unescape(page)
    assert page.count("<script") == page.count("</script>") == len(found)
    return found


def test_hostile_strings_are_text_and_nobody_is_named(tmp_path: Path) -> None:
    """File and folder names, DICOM's patient and study: in no page as markup, nobody's name, no
    path of the host; with the options that ask for it, the path and still no name."""
    secret = tmp_path / "home of Doctor Who"
    source, out = secret / "in", tmp_path / "out"
    support.write_cohort(source, 1)
    dicom_of_somebody(source / f"{SCRIPT.replace('/', '')}series")
    cli_support.write_head(source / "x.nii.gz").rename(source / f"{IMAGE}.nii.gz")
    (source / f"bad{SCRIPT.replace('/', '')}.nii").write_text("no scan")
    for asked in (False, True):
        options = ["--reports", "--retry-failed", *(["--report-paths"] if asked else [])]
        assert support.batch(source, out, *options) == 3
        pages = sorted(out.rglob("*.html"))
        assert len(pages) == 4
        for page in pages:
            text = page.read_text(encoding="utf-8")
            # The pages' own scripts are the only ones, and no element has a handler.
            viewer = ["niivue.umd.js", "application/json", "viewer.js"]
            own = ["study.js", "ratings.js", "group.js"]
            if page.name != "index.html":
                own = [*viewer * ("viewer-data" in text), "study.js", "ratings.js", "review.js"]
            assert scripts_of(text) == own
            assert "<img src=x" not in text
            assert "onerror=alert(2)>" not in text
            for word in ("Secretperson", "ID-4711", "1950", "Hospital of Nowhere", "Secretdoctor",
                         "ACC987654"):  # fmt: skip
                assert word not in text, (page.name, word)
            scan = page.name != "index.html"
            assert ("Doctor Who" in text) == (asked and scan), page.name
        for path in [*out.rglob("*.json"), *out.rglob("*.tsv")]:
            text = path.read_text(encoding="utf-8")
            assert "Secretperson" not in text
            assert "Doctor Who" not in text or path.name == "dataset_description.json"


@pytest.mark.parametrize(
    "name", ["../secret.raw", "../../etc/passwd", "/dev/zero", "{absolute}", "a/../../secret.raw"]
)
@pytest.mark.parametrize("form", ["nrrd", "nrrd list", "mha", "mha list"])
def test_a_header_opens_no_file_elsewhere(tmp_path: Path, form: str, name: str) -> None:
    """And one that names such a file fails with a reason, however often it is tried."""
    source, out = support.write_cohort(tmp_path / "in", 1), tmp_path / "out"
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(range(1, 201)) * 1000)
    name = name.replace("{absolute}", str(secret))
    nrrd = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 40 46 32\nspacings: 1 1 1\nencoding: raw\n"
        "endian: little\ndata file: "
    )
    meta = (
        "ObjectType = Image\nNDims = 3\nDimSize = 40 46 32\nElementSpacing = 1 1 1\n"
        "ElementType = MET_SHORT\nElementDataFile = "
    )
    path = source / ("bad.nhdr" if form.startswith("nrrd") else "bad.mhd")
    between = "LIST\n" if form.endswith("list") else ""
    path.write_text((nrrd if form.startswith("nrrd") else meta) + between + name + "\n")
    assert support.batch(source, out) == 3
    (record,) = [r for r in support.records(out) if r["state"] == "failed"]
    assert "outside the folder of the header" in record["error"]
    assert str(tmp_path) not in record["error"].replace(name, "")


def test_links_in_the_output_are_not_followed_out_of_it(tmp_path: Path) -> None:
    """Each place that a batch writes to, as a link to somebody's file or folder."""
    source, out = support.write_cohort(tmp_path / "in", 2), tmp_path / "out"
    assert support.batch(source, out) == 0
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    precious = treasure / "precious.txt"
    names = ["group_scans.tsv", "group_lesions.tsv", "index.html", "dataset_description.json"]
    names += ["sub-Case0/anat/sub-Case0_label-lesion_mask.nii.gz", "group_scans.json"]
    for name in names:
        precious.write_text("mine")
        (out / name).unlink()
        (out / name).symlink_to(precious)
        assert support.batch(source, out) in (0, 3), name
        assert precious.read_text() == "mine", name
        if not (out / name).is_symlink():
            assert (out / name).stat().st_size > 10
        else:
            (out / name).unlink()
            assert support.batch(source, out) == 0
    assert sorted(p.name for p in treasure.iterdir()) == ["precious.txt"]


def test_a_list_may_lead_anywhere_but_names_stay_inside(tmp_path: Path) -> None:
    elsewhere = support.write_cohort(tmp_path / "elsewhere" / "deep", 1)
    folder = tmp_path / "lists"
    folder.mkdir()
    out = tmp_path / "out"
    where = "../elsewhere/deep/case0.nii.gz"
    (folder / "a.tsv").write_text(f"{where}\t../../../escape\t..\n")
    assert support.batch(folder / "a.tsv", out) == 0
    (stem,) = support.states(out)
    assert stem.replace("_", "").replace("-", "").isalnum()
    for path in out.rglob("*"):
        assert path.resolve().is_relative_to(out)
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    assert elsewhere.is_dir()

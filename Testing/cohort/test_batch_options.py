"""Parts and previews of a batch, and the call of BIDS Apps."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import cli_support
import pytest
from cohort_support import QUICK, batch, records, states
from StrokeLesionSegLib.cli import main
from StrokeLesionSegLib.commands import progress
from StrokeLesionSegLib.lesions import read_table

pytestmark = pytest.mark.usefixtures("home")


def app(source: Path, out: Path, level: str, *arguments: str) -> int:
    """As BIDS Apps are called: input, output, level, and then the options."""
    return main(["batch", str(source), str(out), level, *arguments, *QUICK])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two participants with two sessions each."""
    for subject in ("01", "02"):
        for session in ("1", "2"):
            folder = tmp_path / "in" / f"sub-{subject}" / f"ses-{session}" / "anat"
            folder.mkdir(parents=True)
            array = cli_support.head_array(int(subject) * 2 + int(session))
            cli_support.write_head(folder / f"sub-{subject}_ses-{session}_T1w.nii.gz", array)
    return tmp_path / "in"


def test_participants_and_sessions(
    study: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(study, out, "--participant-label", "02", "--session-label", "ses-1") == 0
    assert states(out) == {"sub-02_ses-1": "done"}
    assert app(study, out, "participant", "--participant_label", "sub-02") == 0
    assert states(out) == {"sub-02_ses-1": "done", "sub-02_ses-2": "done"}
    assert "1 done, 1 done before" in capsys.readouterr().out
    # What was done before stays in the group's tables.
    assert batch(study, out, "--participant-label", "01", "--session-label", "1") == 0
    assert len(read_table(out / "group_scans.tsv")) == 3
    assert batch(study, out, "--participant-label", "03") == 2
    assert "has no sub-03. There are: 01, 02." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "cause"),
    [
        (["--report-paths"], "--report-paths: is for the scans' pages, but none are asked for"),
        (["--no-viewer"], "--no-viewer: is for the scans' pages, but none are asked for"),
        (["--worker-timeout", "5"], "--worker-timeout: is for the workers of a scheduler"),
        (["--workers", "2", "--worker-timeout", "30"], "--worker-timeout: is for the workers"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(
    study: Path, out: Path, option: list[str], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(study, out, *option) == 2
    assert cause in capsys.readouterr().err
    assert not out.exists()


def test_a_dry_run_writes_nothing(
    study: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study / "sub-01" / "sub-01_FLAIR.nii.gz").write_bytes(b"x")
    before = sorted(study.parent.rglob("*"))
    assert batch(study, out, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "would do: sub-01_ses-2" in said
    assert "left out: sub-01/sub-01_FLAIR.nii.gz: another kind of image (_FLAIR)" in said
    assert "4 to do, 0 done before" in said
    assert sorted(study.parent.rglob("*")) == before
    assert batch(study, out, "--participant-label", "01") == 0
    capsys.readouterr()
    assert batch(study, out, "--dry-run", "--progress", "json") == 0
    planned = json.loads(capsys.readouterr().out.splitlines()[-1])["planned"]
    assert [scan["stem"] for scan in planned] == ["sub-02_ses-1", "sub-02_ses-2"]


def test_without_probability(study: Path, out: Path) -> None:
    only = ("--participant-label", "01", "--session-label", "1")
    assert batch(study, out, *only) == 0
    assert len(list(out.rglob("*_probseg.*"))) == 2
    assert batch(study, out, *only, "--no-probability") == 0
    assert not list(out.rglob("*_probseg.*"))
    assert list(out.rglob("*_label-lesion_mask.nii.gz"))


def test_pages_that_are_not_asked_for_again_do_not_stay_with_other_lesions(
    study: Path, out: Path
) -> None:
    only = ("--participant-label", "01", "--session-label", "1")
    assert batch(study, out, *only, "--reports") == 0
    (page,) = out.rglob("*_desc-lesions_report.html")
    automatic = page.with_name("sub-01_ses-1_desc-automatic_report.html")
    automatic.write_text("of a mask that somebody had corrected")
    assert batch(study, out, *only, "--reports", "--threshold", "0.35") == 0
    assert page.is_file()
    assert not automatic.exists()
    assert batch(study, out, *only, "--threshold", "0.4") == 0
    assert not page.exists()
    assert batch(study, out, *only, "--threshold", "0.4") == 0
    assert len(read_table(out / "group_scans.tsv")) == 1


def test_another_title_is_heeded_though_all_is_done(study: Path, out: Path) -> None:
    only = ("--participant-label", "01")
    assert batch(study, out, *only) == 0
    assert batch(study, out, *only, "--title", "Site A") == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "Site A" in page
    # It stays if nothing is asked for, and nothing is written for nothing.
    for again in ((), ("--title", "Site A")):
        assert batch(study, out, *only, *again) == 0
        assert (out / "index.html").read_text(encoding="utf-8") == page


def test_the_group_alone_leaves_title_and_convention_of_its_page(study: Path, out: Path) -> None:
    chosen = ("--title", "Site A", "--report-convention", "neurological")
    assert batch(study, out, "--participant-label", "01", *chosen) == 0
    assert app(study, out, "group") == 0
    assert records(out, "page")[-1]["convention"] == "neurological"
    assert "Site A" in (out / "index.html").read_text(encoding="utf-8")
    assert app(study, out, "group", "--report-convention", "radiological") == 0
    assert records(out, "page")[-1]["convention"] == "radiological"
    # Nor does one more scan take the title away.
    assert batch(study, out) == 0
    assert "Site A" in (out / "index.html").read_text(encoding="utf-8")


def test_what_is_new_of_the_participants_is_on_the_page(study: Path, out: Path) -> None:
    only = ("--participant-label", "01")
    for site in ("Genf", "Ulm"):
        table = f"participant_id\tsite\nsub-01\t{site}\nsub-02\tx\n"
        (study / "participants.tsv").write_text(table)
        assert batch(study, out, *only) == 0
        assert site in (out / "index.html").read_text(encoding="utf-8")


def test_the_group_alone(study: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch(study, out, "--participant-label", "01") == 0
    assert (out / "index.html").as_uri() in capsys.readouterr().out
    for name in ("index.html", "group_scans.tsv"):
        (out / name).unlink()
    assert app(study, out, "group") == 0
    assert len(read_table(out / "group_scans.tsv")) == 2
    columns = json.loads((out / "group_scans.json").read_text())
    units = {name: told["Units"] for name, told in columns.items() if "Units" in told}
    assert units == {
        **dict.fromkeys(("volume_ml", "left_ml", "right_ml", "largest_ml"), "mL"),
        "seconds": "s",
    }
    assert (out / "index.html").is_file()
    assert set(states(out)) == {"sub-01_ses-1", "sub-01_ses-2"}


def test_the_group_of_nothing_is_refused(
    study: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app(study, out, "group") == 2
    assert "out: has no results of batch." in capsys.readouterr().err
    assert not out.exists()


def test_the_group_alone_tells_what_made_its_results(
    study: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> list[str]:
        (made,) = json.loads((out / "dataset_description.json").read_text())["GeneratedBy"]
        page = (out / "index.html").read_text(encoding="utf-8")
        return [
            made["Parameters"]["model"]["name"],
            *re.findall("<dt>Threshold</dt><dd>(.*?)<", page),
        ]

    assert batch(study, out, "--participant-label", "01") == 0
    (out / "index.html").unlink()
    # Without the options of before.
    assert main(["batch", str(study), str(out), "group"]) == 0
    assert told() == ["tiny", "0.3"]
    assert "4 scans: 0 done, 2 done before, 0 failed" in capsys.readouterr().out


def test_scans_of_other_settings_are_counted(study: Path, out: Path) -> None:
    def told() -> tuple[str, list[str]]:
        (made,) = json.loads((out / "dataset_description.json").read_text())["GeneratedBy"]
        page = (out / "index.html").read_text(encoding="utf-8")
        return made["Description"], re.findall("<dt>Other settings</dt><dd>(.*?)<", page)

    assert batch(study, out) == 0
    assert told() == ("For research. Not a medical device.", [])
    assert batch(study, out, "--participant-label", "02", "--threshold", "0.6") == 0
    other = "2 of 4 scans were made with other settings; the sidecar of each mask tells its own"
    for _ in range(2):
        assert told() == (f"For research. Not a medical device. {other}.", [other])
        assert app(study, out, "group") == 0
    assert batch(study, out, "--threshold", "0.6") == 0
    assert told() == ("For research. Not a medical device.", [])


def test_the_bar_counts_and_says_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with progress.PlainBar(stream) as bar:
        bar("scans", 2, 10)  # two were done before
        now[0] += 30
        bar("scans", 4, 10)
        assert stream.getvalue().endswith("4/10, 1 min 30 s left")
        now[0] += 30
        bar("network", 1, 3)
        assert "left" not in stream.getvalue().split("\r")[-1]

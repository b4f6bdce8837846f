"""The pages of scans whose mask a reader has corrected: they show the corrected one.

The page that the batch made of the automatic mask is kept beside it, and comes back to its place
when the correction is taken away. The ledger says of each scan which mask its page shows.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..lesions import read_sidecar
from ..outputs import atomic_file, os_input_error
from ..pipeline import alignment_of, software_versions
from ..pipeline.source import read_repaired
from .corrections import drawn_lesions
from .fingerprint import unchanged
from .index_page import deformation_of, mask_of
from .inputs import FoundScan
from .ledger import DONE, Ledger
from .scan_files import AUTOMATIC_PAGE, page_options
from .settings import ReportChoice, Settings

if TYPE_CHECKING:
    from ..images import Deformation, Scan, Volume
    from ..lesions import RegionTable
    from ..models import Manifest

_Record = Mapping[str, Any]


class _Impossible(Exception):
    """Why a page cannot be made."""


@dataclass(frozen=True)
class PagesOfScans:
    """Brings the scans' own pages up to date with what readers have corrected.

    Attributes
    ----------
    settings, manifest: of the batch. ledger: open, its lock held.
    found: the scans of the input, by stem.
    """

    settings: Settings
    manifest: Manifest
    ledger: Ledger
    found: Mapping[str, FoundScan]

    def update(self, records: Iterable[_Record]) -> tuple[str, ...]:
        """Have every page show the mask that the tables take; what could not be, a line each.

        ``records``: as ``with_corrections`` gives them. Pages that show it already are left
        alone; what is changed is in the ledger.

        Raises ``InputError`` if a page cannot be written.
        """
        notes = []
        for record in records:
            if record["state"] != DONE or not record.get("report"):
                continue
            known = self.ledger.scans.get(record["stem"]) or {}
            wanted, shown = record.get("drawn", ""), known.get("page_of", "")
            if wanted == shown:
                continue
            page = self.settings.out / record["folder"] / record["report"]
            try:
                if wanted:
                    self._show(page, record, first=not shown)
                else:
                    _restore(page, record)
            except _Impossible as error:
                mask = "corrected" if shown else "automatic"
                notes.append(f"{page.name} still shows the {mask} mask: {error}.")
                continue
            name = page.relative_to(self.settings.out).as_posix()
            outputs = {**known.get("outputs", {}), name: page.stat().st_size}
            self.ledger.append({**known, "outputs": outputs, "page_of": wanted})
        return tuple(notes)

    def _show(self, page: Path, record: _Record, *, first: bool) -> None:
        """Write the page of a corrected mask; the one that was there ``first`` is kept."""
        from ..report import report_content, write_scan_report
        from ..report.gather import CorrectionFacts, RunFacts

        out, correction = self.settings.out, record["correction"]
        scan = self._scan(record)
        drawn, before = mask_of(out, record), mask_of(out, {**record, "corrected": None})
        if drawn is None or before is None or not before[0].grid.same_as(scan.volume.grid, 0.01):
            raise _Impossible("its masks cannot be read")
        mask, to_mni = drawn
        sidecar = read_sidecar(out / record["folder"] / f"{record['stem']}_label-lesion_mask.json")
        automatic = page.with_name(f"{record['stem']}{AUTOMATIC_PAGE}")
        when = correction.when.replace("T", " ")[:16]
        facts = RunFacts(
            self.manifest if _model(sidecar) == self.manifest.sha256 else None,
            settings=sidecar.get("options") or {},
            details=sidecar.get("inference") or {},
            versions=software_versions(),
            warnings=record.get("warnings") or (),
            sha256=(sidecar.get("source") or {}).get("sha256"),
            correction=CorrectionFacts(before[0], correction.who, when, automatic.name),
        )
        try:
            alignment = alignment_of(sidecar)
        except ValueError:
            raise _Impossible("its sidecar cannot be read") from None
        content = report_content(
            scan,
            drawn_lesions(mask, to_mni),
            alignment=alignment,
            run=facts,
            regions=self._regions(mask, to_mni, sidecar, deformation_of(out, record)),
            options=page_options(
                self._choice(record), self.settings.study, record["stem"], record["folder"]
            ),
        )
        if first:
            try:
                with atomic_file(automatic) as temporary:
                    shutil.copyfile(page, temporary)
            except OSError as error:
                raise os_input_error(error, automatic) from error
        write_scan_report(page, content)

    def _scan(self, record: _Record) -> Scan:
        """The T1 that was segmented."""
        here = self.found.get(record["stem"])
        path = here.path if here else record["correction"].scan
        if path is None or not path.exists():
            raise _Impossible("its T1 is not found")
        if not unchanged(path, record.get("input") or {}):
            raise _Impossible("its T1 has changed")
        try:
            return read_repaired(path, record.get("series"))
        except (InputError, OSError):
            raise _Impossible("its T1 cannot be read") from None

    def _choice(self, record: _Record) -> ReportChoice:
        """What went into the page that the batch made."""
        parameters = self.ledger.runs.get(str(record.get("run")), {}).get("parameters") or {}
        known = parameters.get("report") or {}
        names = {field.name for field in fields(ReportChoice)}
        return ReportChoice(**{name: known[name] for name in names & set(known)})

    def _regions(
        self,
        mask: Volume,
        to_mni: np.ndarray | None,
        sidecar: _Record,
        deformation: Deformation | None,
    ) -> RegionTable | None:
        """By the atlas that the scan was measured by; None if this batch has another one."""
        from ..atlases import region_table

        if to_mni is None:
            return None
        table = region_table(mask, to_mni, self.settings.atlas.read(), deformation)
        return table if sidecar.get("atlas") in (None, table.title) else None


def _restore(page: Path, record: _Record) -> None:
    """The page of the automatic mask in its place again."""
    automatic = page.with_name(f"{record['stem']}{AUTOMATIC_PAGE}")
    try:
        os.replace(automatic, page)
    except FileNotFoundError:
        raise _Impossible(f"{automatic.name} is gone; --no-resume makes it again") from None
    except OSError as error:
        raise os_input_error(error, page) from error


def _model(sidecar: _Record) -> str | None:
    return (sidecar.get("model") or {}).get("sha256")

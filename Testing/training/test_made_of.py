"""What a folder was made of: kept, compared, and refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from StrokeLesionSegLib.errors import InputError
from stroketrain.made_of import RECORD, keep_made_of


def test_what_is_there_is_not_taken_for_what_is_asked_for(tmp_path: Path) -> None:
    record = tmp_path / "new" / RECORD

    def keep(there: bool, **asked: object) -> None:
        keep_made_of(record, asked, holds="a run of another kind", there=there)

    keep(False, seed=1, kinds=("a", "b"))
    keep(True, seed=1, kinds=["a", "b"])
    with pytest.raises(InputError, match=r"new: holds a run of another kind \(seed, kinds\)"):
        keep(True, seed=2, kinds=None)
    # What an earlier version has not written down may be anything, and is known from then on.
    keep(True, layout="r1.1")
    with pytest.raises(InputError, match=r"\(layout\)"):
        keep(True, layout="r2.0")
    assert json.loads(record.read_text()) == {"seed": 1, "kinds": ["a", "b"], "layout": "r1.1"}
    # Nothing was made yet.
    keep(False, seed=2)
    assert json.loads(record.read_text()) == {"seed": 2}

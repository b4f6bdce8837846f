"""How a run of ``adapt`` and its model are called."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from ... import __version__
from ...errors import InputError
from ...models import user_models_directory
from ...models.manifest import check_name_option
from ...models.store import namesakes

if TYPE_CHECKING:
    from ...models import Manifest
    from .options import AdaptOptions
    from .pairs import FoundPairs


def run_identity(parent: Manifest, found: FoundPairs, options: AdaptOptions) -> str:
    """The same parent, seed and files are the same run, of one version: what another has prepared
    and measured is not what this one would."""
    # The checksum of a DICOM folder is that of all its series.
    pairs = [[p.subject, p.scan_sha256, p.series, p.mask_sha256] for p in found.pairs]
    facts = [parent.weights["sha256"], options.seed, options.name, pairs, __version__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def free_name(parent: str, wanted: str | None) -> str:
    """The name of the new model; raises ``InputError`` for one that is taken or none at all."""

    def taken(name: str) -> bool:
        return (user_models_directory() / name).exists() or any(namesakes(name))

    if wanted is not None:
        check_name_option(wanted)
        if taken(wanted):
            raise InputError(
                wanted,
                "a model of this name is installed",
                "Give another --name, or remove that model",
            )
        return wanted
    base = parent.split("-adapted")[0][:48]
    name, n = f"{base}-adapted", 1
    while taken(name):
        n += 1
        name = f"{base}-adapted{n}"
    return name


def about(manifest: Manifest) -> dict[str, str]:
    """What a card says of a model that another came from."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": manifest.weights["sha256"],
    }

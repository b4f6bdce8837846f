"""The model that answers clicks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..models import LoadedModel


def load_click_model(name: str = "") -> LoadedModel:
    """The model ``name`` if it answers clicks, else the default one, else any that does.

    So a mask that a model without clicks or a hand has made is corrected by one that has them.

    Parameters
    ----------
    name : of the model that made the mask; empty if none did.

    Returns
    -------
    The model, loaded.

    Raises
    ------
    InputError : no installed model answers clicks.

    Examples
    --------
    >>> from StrokeLesionSegLib.correction import load_click_model
    >>> load_click_model("").manifest.kind
    'volumetric'
    """
    from ..inference.volumetric import takes_clicks
    from ..models import load_model

    for directory in _candidates(name):
        model = load_model(directory)
        if takes_clicks(model.network):
            return model
    raise InputError(
        "correction",
        "no installed model answers clicks",
        "Install one that does, or paint and erase by hand",
    )


def _candidates(name: str) -> Iterator[Path]:
    """Directories of volumetric models, each once, the best choice first."""
    from ..models import Manifest, find_model, list_models

    wanted = [name] if name else []
    seen = set()
    for choice in [*wanted, None, *(m.name for m in list_models([]))]:
        try:
            directory = find_model(choice)
            kind = Manifest.from_file(directory).kind
        except InputError:  # the model that made the mask is not on this computer
            continue
        if kind == "volumetric" and directory not in seen:
            seen.add(directory)
            yield directory

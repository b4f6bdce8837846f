"""``stroke-lesion-seg cite``: methods text ready to paste, with the versions that are installed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..atlases.shipped import SHIPPED_TITLE
from ..errors import InputError
from .options import path
from .progress import print_json

if TYPE_CHECKING:
    from ..models import Manifest

_ATLAS = (
    "Ding S-L, Royall JJ, Sunkin SM, et al. Comprehensive cellular-resolution atlas of the adult "
    "human brain. Journal of Comparative Neurology 524 (2016) 3127-3481."
)
_TEMPLATE = (
    "Fonov VS, Evans AC, Botteron K, et al. Unbiased average age-appropriate atlases for pediatric "
    "studies. NeuroImage 54 (2011) 313-327."
)
_DEMONS = (
    "Vercauteren T, Pennec X, Perchant A, Ayache N. Diffeomorphic demons: efficient non-parametric "
    "image registration. NeuroImage 45 (2009) S61-S72."
)
_MASKING = (
    "Brett M, Leff AP, Rorden C, Ashburner J. Spatial normalization of brain images with focal "
    "lesions using cost function masking. NeuroImage 14 (2001) 486-500."
)
_DEFORMED = (
    "Results in MNI space were refined by demons with composed steps (Vercauteren et al. 2009), "
    "lesions left out of the cost function (Brett et al. 2001)."
)

# By how the scans came into the template's space.
_ALIGNED = {
    "affine": "Scans were aligned to MNI152NLin2009aSym by an affine transform (Fonov et al. "
    "2011); masks lie on each scan's own grid.",
    "there": "Scans lay on the grid of MNI152NLin2009aSym already (Fonov et al. 2011).",
    "failed": "An alignment to MNI152NLin2009aSym failed, and the scan was segmented as it lay.",
    "none": "Scans were not aligned to a template.",
}


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "cite",
        help="methods text ready to paste, and what to cite",
        description="Print a paragraph for the methods of a paper: versions, model, operating "
        "point, how the model was measured, and what to cite.",
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model", metavar="NAME", help="default: the model that ships with the program"
    )
    which.add_argument(
        "--sidecar",
        type=path,
        metavar="FILE",
        help="the JSON beside a mask: the versions, model and operating point that made it",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..models import Manifest, find_model

    if arguments.sidecar is not None:
        facts = _of_sidecar(arguments.sidecar)
    else:
        facts = _of_model(Manifest.from_file(find_model(arguments.model)))
    text = methods_text(facts)
    references = [
        *([_TEMPLATE] if facts["alignment"] in ("affine", "there") else []),
        *([_ATLAS] if facts["atlas"] == SHIPPED_TITLE else []),
        *((_DEMONS, _MASKING) if facts["deformed"] else ()),
    ]
    if arguments.json:
        print_json({"methods": text, "references": references, **facts})
        return
    print(text)
    print("\nReferences")
    for reference in references:
        print(f"- {reference}")


def methods_text(facts: dict[str, Any]) -> str:
    """One paragraph; ``facts`` as ``_of_model`` gives them."""
    point = facts["operating_point"]
    lesion = f"voxels of a probability of at least {point['threshold']:g}"
    if point["second_threshold"]:
        lesion += f", in components with a voxel of at least {point['second_threshold']:g}"
    if point["min_volume_ml"]:
        lesion += f" and of at least {point['min_volume_ml']:g} mL"
    if point.get("min_mean_probability"):
        lesion += f", with a mean probability of at least {point['min_mean_probability']:g}"
    sentences = [
        f"Chronic stroke lesions were segmented in T1-weighted images with StrokeLesionSeg "
        f"{facts['version']}, model {facts['model']} {facts['model_version']} (SHA-256 of the "
        f"weights {facts['sha256'][:12]}).",
        _ALIGNED[facts["alignment"]],
        *([_DEFORMED] if facts["deformed"] else []),
        f"Lesions are {lesion}.",
    ]
    if facts["atlas"] == SHIPPED_TITLE:
        sentences.append(
            "Volumes by region follow the Allen Human Reference Atlas (Ding et al. 2016)."
        )
    elif facts["atlas"]:
        sentences.append(f"Volumes by region follow the atlas {facts['atlas']} [cite it here].")
    if facts["simulated"]:
        sentences.append("The model was trained on simulated strokes.")
    for name, figures in facts["metrics"].items():
        told = ", ".join(f"{key} {value:g}" for key, value in figures.items())
        sentences.append(f"Measured on {name}: {told}.")
    sentences.append("[Say here how many masks were looked at, and how many were corrected.]")
    return " ".join(sentences)


def _of_model(manifest: Manifest) -> dict[str, Any]:
    return {
        "version": __version__,
        "model": manifest.name,
        "model_version": manifest.version,
        "sha256": str(manifest.weights["sha256"]),
        "operating_point": manifest.operating_point().as_dict(),
        "alignment": "affine",
        "atlas": SHIPPED_TITLE,
        "deformed": False,
        "simulated": bool(manifest.training.get("simulated")),
        "metrics": _figures(manifest.metrics),
    }


def _figures(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of a manifest that are numbers, by what they were measured on."""
    found = {}
    for name, values in metrics.items():
        pairs = values.items() if isinstance(values, dict) else ()
        numbers = {key: float(v) for key, v in pairs if isinstance(v, (int, float))}
        if numbers:
            found[name] = numbers
    return found


def _alignment_of(content: dict[str, Any]) -> str:
    """What a sidecar says of the alignment, one of ``_ALIGNED``; older ones that do not: affine."""
    alignment = content.get("alignment", {"ok": True})
    if alignment is not None:
        return "affine" if alignment.get("ok") else "failed"
    import numpy as np

    from ..images import Grid, lies_on_mni_grid

    source = content.get("source") or {}
    affine = np.array(source.get("affine_ijk_to_ras_mm", np.zeros((4, 4))), np.float64)
    i, j, k = source.get("shape_ijk", (0, 0, 0))
    return "there" if lies_on_mni_grid(Grid((k, j, i), affine)) else "none"


def _of_sidecar(file: Path) -> dict[str, Any]:
    """The facts of a run; figures only if the very model is installed still."""
    from ..lesions import read_sidecar
    from ..models import Manifest, find_model

    content = read_sidecar(file)
    try:
        model = content["model"]
        facts: dict[str, Any] = {
            "version": content["software"]["version"],
            "model": model["name"],
            "model_version": model["version"],
            "sha256": str(model["sha256"]),
            "operating_point": content["operating_point"],
            "alignment": _alignment_of(content),
            "atlas": content.get("atlas", SHIPPED_TITLE),
            "deformed": bool((content.get("deformation") or {}).get("used")),
            "simulated": False,
            "metrics": {},
        }
        _ = facts["operating_point"]["threshold"]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            file, "is not the sidecar of a mask", "Give the JSON file beside a mask"
        ) from None
    try:
        manifest = Manifest.from_file(find_model(facts["model"]))
    except InputError:
        return facts
    if manifest.weights["sha256"] == facts["sha256"]:
        known = _of_model(manifest)
        facts |= {"simulated": known["simulated"], "metrics": known["metrics"]}
    return facts

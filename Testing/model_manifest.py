"""The manifest of a model for tests; what a test does not care about is filled in."""

from __future__ import annotations

from typing import Any

#: What every model that can be clicked takes in.
CHANNELS = ("t1", "click_positive", "click_negative", "previous_probability")


def model_manifest(name: str, network: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A manifest as ``write_model`` takes it, of ``network`` (a spec of ``build_network``).

    ``changes`` replace whole entries.
    """
    return {
        "schema": 1,
        "name": name,
        "version": "1.0",
        "title": "For tests",
        "description": "Finds nothing sensible.",
        "license": "Apache-2.0",
        "intended_use": "Tests only.",
        "created": "2026-01-31",
        "network": dict(network),
        "channels": list(CHANNELS),
        "contrast": "T1w",
        "labels": {"1": "stroke lesion"},
        "preprocessing": {
            "grid": "mni152-2009a-1mm",
            "window_percentiles": [0.5, 99.5],
            "pad_multiple": 16,
            "brain_mask_margin_mm": None,
        },
        "inference": {
            "threshold": 0.5,
            "second_threshold": None,
            "min_volume_ml": 0.0,
            "views": "axial",
        },
        "training": {},
        "metrics": {},
        **changes,
    }

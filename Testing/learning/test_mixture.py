"""What an adapting network is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from StrokeLesionSegLib.inference.head_box import HEAD_SHAPE
from StrokeLesionSegLib.learning.adapt.mixing import _STAYS, Mixture, bank_of
from StrokeLesionSegLib.learning.heads import save_head, template_as_head
from StrokeLesionSegLib.learning.strokes.anatomy import Anatomy, Head


def test_a_sample_follows_from_its_number_alone(tmp_path: Path) -> None:
    """A run that goes on is shown what it would have been shown."""
    anatomy = Anatomy.of_template()
    template = template_as_head(anatomy)
    lesion = np.zeros(HEAD_SHAPE, bool)
    lesion[70:84, 90:104, 40:54] = True
    image = np.where(lesion, 40, template.image).astype(np.uint8)
    heads = [tmp_path / "a.npz"]
    save_head(heads[0], Head(image, template.ventricles & ~lesion, False, "a", lesion))

    def mixture() -> Mixture:
        return Mixture(heads, template, bank_of(heads), anatomy, 3)

    whole = mixture()
    kinds = set()
    for step in (0, 1, 2, 3, 4, 12 * _STAYS):
        one, again = whole.sample(step), mixture().sample(step)
        assert torch.equal(one.image, again.image)
        assert torch.equal(one.lesions, again.lesions)
        kinds.add(one.taught)
        if not one.taught:
            assert one.lesions.sum() >= lesion.sum()
    assert kinds == {False, True}
    assert len(whole._at_hand) <= 7

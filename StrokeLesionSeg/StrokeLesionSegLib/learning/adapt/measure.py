"""A model's figures: on the kept subjects, on the regression set, and with a robot that clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import Cancelled
from ...inference.head_box import HEAD_BOX, HEAD_ORIGIN_ZYX
from ...operating_point import OperatingPoint
from .mixing import RegressionScan
from .options import Sizes
from .prepare import ReadyPair, read_pair

if TYPE_CHECKING:
    from torch import nn

    from ...inference import SegmentOptions
    from ...models import LoadedModel

#: The affine of arrays on the head box.
HEAD_AFFINE = np.eye(4)
HEAD_AFFINE[:3, 3] = HEAD_ORIGIN_ZYX[::-1]
HEAD_AFFINE.setflags(write=False)


@dataclass(frozen=True)
class KeptScore:
    """One kept scan. ``clicks``: Dice after 0, 1, ... clicks of the robot, empty if it was not
    there."""

    subject: str
    truth_ml: float
    found_ml: float
    dice: float
    clicks: tuple[float, ...] = ()


@dataclass(frozen=True)
class RegressionScore:
    """One scan of the regression set."""

    kind: str
    truth_ml: float
    found_ml: float
    dice: float


@dataclass(frozen=True)
class Figures:
    """All of a model's figures, JSON-ready through ``as_dict``."""

    kept: tuple[KeptScore, ...]
    regression: tuple[RegressionScore, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Figures:
        """The reverse, of parsed JSON."""
        return cls(
            tuple(KeptScore(**{**k, "clicks": tuple(k["clicks"])}) for k in content["kept"]),
            tuple(RegressionScore(**r) for r in content["regression"]),
        )


@dataclass(frozen=True)
class Watch:
    """Who watches a long calculation: ``tell`` hears how many of its scans are done, ``cancel`` is
    asked before each."""

    tell: Callable[[int], None]
    cancel: Callable[[], bool]

    def check(self, what: str) -> None:
        """Raises ``Cancelled`` if asked to stop while ``what``."""
        if self.cancel():
            raise Cancelled(f"cancelled while {what}")


def figures_of(
    model: LoadedModel,
    kept: Sequence[ReadyPair],
    regression: Iterable[RegressionScan],
    options: SegmentOptions,
    sizes: Sizes,
    *,
    bfloat16: bool,
    watch: Watch,
) -> Figures:
    """Everything that a model is judged by. ``sizes``: how many clicks, and on how many scans.

    Raises ``Cancelled`` if told so.
    """
    done, scores = 0, []
    for n, ready in enumerate(kept):
        watch.check("a model was judged")
        scores.append(_kept(model, ready, options, sizes.clicks if n < sizes.robots else 0))
        done += 1
        watch.tell(done)
    out = []
    point = model.manifest.operating_point()
    searched = searched_box(model.manifest.preprocessing.brain_mask_margin_mm)
    for scan in regression:
        watch.check("a model was judged")
        p = answer(model.network, scan.image, searched, mirrored=True, bfloat16=bfloat16)[0]
        out.append(regression_score(scan, find(p, point)))
        done += 1
        watch.tell(done)
    return Figures(tuple(scores), tuple(out))


def regression_score(scan: RegressionScan, mask: NDArray[np.bool_]) -> RegressionScore:
    """Of a mask on the head box."""
    truth = scan.found_ml(scan.lesions)
    return RegressionScore(scan.kind, truth, scan.found_ml(mask), scan.dice(mask))


def _kept(model: LoadedModel, ready: ReadyPair, options: SegmentOptions, clicks: int) -> KeptScore:
    """On the scan's own grid, as a user gets it."""
    from ...correction import CorrectionSession, Known
    from ...correction.robot import robot_corrections
    from ...inference import segment_volume
    from ...lesions import find_lesions
    from ...lesions.scorers.common import dice

    volume, truth = read_pair(ready.pair)
    prediction = segment_volume(volume, model, options, alignment=ready.alignment)
    p = prediction.probability.array
    mask = find_lesions(p, volume.affine, model.manifest.operating_point()).mask != 0
    marked: tuple[float, ...] = ()
    if clicks:
        session = CorrectionSession.open(
            volume, model, Known(probability=p, alignment=ready.alignment), options=options
        )
        rng = np.random.default_rng(0)
        marked = tuple(robot_corrections(session, truth, clicks, rng=rng))
    ml = volume.grid.voxel_volume_ml
    return KeptScore(
        ready.pair.subject, ready.ml, float(mask.sum()) * ml, dice(mask, truth), marked
    )


def answer(
    network: nn.Module,
    image: NDArray[np.uint8],
    searched: NDArray[np.bool_],
    *,
    mirrored: bool,
    bfloat16: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probability of lesion within ``searched`` and of ventricle, of a head's (160, 192, 160)
    image. ``mirrored``: of two passes."""
    from ...inference.volumetric import answer_head

    shown = image.astype(np.float32) / np.float32(255)
    found = answer_head(network, shown, mirrored_pass=mirrored, bfloat16=bfloat16)
    return found.lesion * searched, found.ventricle


def find(probability: NDArray[np.float32], point: OperatingPoint) -> NDArray[np.bool_]:
    """The lesions of a probability map on the head box at an operating point."""
    from ...lesions import find_lesions

    return find_lesions(probability, HEAD_AFFINE, point).mask != 0


def searched_box(margin_mm: float | None) -> NDArray[np.bool_]:
    """(160, 192, 160) bool: where a model with this margin about the brain looks for lesions."""
    from ...images.space.brainbox import grown_brain_mask
    from ...inference.head_box import HEAD_SHAPE

    return np.ones(HEAD_SHAPE, bool) if margin_mm is None else grown_brain_mask(margin_mm)[HEAD_BOX]


def with_point(
    model: LoadedModel, network: nn.Module, point: OperatingPoint, *, new: bool
) -> LoadedModel:
    """``model`` with another network and operating point, in memory. ``new``: whether its weights
    are others: then nobody knows how its probabilities are calibrated."""
    manifest = model.manifest
    inference = replace(manifest.inference, operating_point=point, of_views={})
    if new:
        inference = replace(inference, calibration=None)
    return replace(model, manifest=replace(manifest, inference=inference), network=network)

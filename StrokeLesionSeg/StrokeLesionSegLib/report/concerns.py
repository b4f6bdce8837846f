"""What a reader should look at before trusting a result; the same rules on every page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

#: Larger than nearly any chronic stroke that its bearer survives to be scanned with.
HUGE_ML = 300.0
#: Mean probability over all lesion voxels below which a finding counts as very uncertain.
UNCERTAIN_BELOW = 0.65
# Of fewer scans than this nothing is shared by most.
_FEW_SCANS = 4
#: So many separate lesions are rather white matter disease, or a scan that is no T1.
MANY_LESIONS = 20


def concerns(
    volumes_ml: Sequence[float],
    probabilities: Sequence[float],
    *,
    aligned: bool | None = None,
    alignment_reason: str = "",
) -> list[str]:
    """One sentence for each thing that makes a finished scan suspicious.

    That no lesion was found is not among them: in many groups it is what most scans are.

    ``volumes_ml`` and ``probabilities`` (mean over its voxels) have one entry for each lesion;
    ``aligned`` is whether the alignment to MNI152 succeeded, None if none was wanted.
    """
    found = []
    if aligned is False:
        why = alignment_reason.rstrip(". ")
        found.append(
            "The alignment to MNI152 failed"
            + (f": {why}" if why else "")
            + ". The scan was segmented as it lies."
        )
    total = sum(volumes_ml)
    if total > HUGE_ML:
        found.append(f"Very large: {total:.0f} mL in all (above {HUGE_ML:.0f} mL).")
    if total > 0:
        mean = mean_probability(volumes_ml, probabilities)
        if mean is not None and mean < UNCERTAIN_BELOW:
            found.append(
                f"Very uncertain: mean probability {mean:.2f} (below {UNCERTAIN_BELOW:.2f})."
            )
    if len(volumes_ml) > MANY_LESIONS:
        found.append(f"Many lesions: {len(volumes_ml)} (above {MANY_LESIONS}).")
    return found


def mean_probability(volumes_ml: Sequence[float], probabilities: Sequence[float]) -> float | None:
    """The mean over all lesion voxels of a scan; None without lesions."""
    total = sum(volumes_ml)
    if total <= 0:
        return None
    pairs = zip(volumes_ml, probabilities, strict=True)
    return sum(volume * probability for volume, probability in pairs) / total


def shared_by_most(warnings: Sequence[Sequence[str]]) -> dict[str, int]:
    """Warnings that most of a group's scans have, with the number of those that do.

    They say something about the study, not about a scan. Numbers in them do not count.
    """
    least = max(_FEW_SCANS, len(warnings) // 2 + 1)
    numbers = Counter(kind for own in warnings for kind in {_kind(text) for text in own})
    return {kind: count for kind, count in numbers.items() if count >= least}


def is_shared(warning: str, shared: Mapping[str, int]) -> bool:
    """Whether ``shared_by_most`` has said a warning."""
    return _kind(warning) in shared


def _kind(warning: str) -> str:
    return re.sub(r"-?\d+(\.\d+)?", "…", warning)


def further(warnings: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Those of a run's ``warnings`` that its ``notes`` (of ``concerns``) do not say already."""
    # The engine words the failed alignment too.
    failed = any("alignment to MNI152 failed" in note for note in notes)
    return [w for w in warnings if not (failed and "could not be aligned" in w)]

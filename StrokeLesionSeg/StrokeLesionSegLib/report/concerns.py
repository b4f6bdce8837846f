"""What a reader should look at before trusting a result; the same rules on every page."""

from __future__ import annotations

from collections.abc import Sequence

#: Larger than nearly any chronic stroke that its bearer survives to be scanned with.
HUGE_ML = 300.0
#: Mean probability over all lesion voxels below which a finding counts as very uncertain.
UNCERTAIN_BELOW = 0.65
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
    if not volumes_ml:
        found.append("No lesion was found.")
    if total > HUGE_ML:
        found.append(f"Very large: {total:.0f} mL in all (above {HUGE_ML:.0f} mL).")
    if total > 0:
        pairs = zip(volumes_ml, probabilities, strict=True)
        mean = sum(volume * probability for volume, probability in pairs) / total
        if mean < UNCERTAIN_BELOW:
            found.append(
                f"Very uncertain: mean probability {mean:.2f} (below {UNCERTAIN_BELOW:.2f})."
            )
    if len(volumes_ml) > MANY_LESIONS:
        found.append(f"Many lesions: {len(volumes_ml)} (above {MANY_LESIONS}).")
    return found


def further(warnings: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Those of a run's ``warnings`` that its ``notes`` (of ``concerns``) do not say already."""
    # The engine words the failed alignment too.
    failed = any("alignment to MNI152 failed" in note for note in notes)
    return [w for w in warnings if not (failed and "could not be aligned" in w)]

"""Lesions: from a probability map to components, measurements, tables and scores.

Arrays are (K, J, I), affines map (i, j, k, 1) to RAS mm, volumes are in mL. Importing this
package imports numpy only; scipy is imported where it is used.
"""

from .change import (
    CHANGE_COLUMNS,
    CLASSES,
    GroupChange,
    classify,
    repeat_noise_ml,
    touching_groups,
)
from .expected import ExpectedDice, expected_dice
from .find import LesionMap, find_lesions
from .measure import Lesion, Summary
from .regions import (
    REGION_COLUMNS,
    RegionTable,
    RegionVolume,
    region_summary,
    write_regions,
)
from .scorers import SCORERS, FolderScores, ScoreOptions, metrics_of, score_case, score_folders
from .tables import (
    COLUMN_DESCRIPTIONS,
    COLUMNS,
    lesion_row,
    read_sidecar,
    read_table,
    summary_dict,
    write_rows,
    write_sidecar,
    write_table,
)

__all__ = [
    "CHANGE_COLUMNS",
    "CLASSES",
    "COLUMNS",
    "COLUMN_DESCRIPTIONS",
    "REGION_COLUMNS",
    "SCORERS",
    "ExpectedDice",
    "FolderScores",
    "GroupChange",
    "Lesion",
    "LesionMap",
    "RegionTable",
    "RegionVolume",
    "ScoreOptions",
    "Summary",
    "classify",
    "expected_dice",
    "find_lesions",
    "lesion_row",
    "metrics_of",
    "read_sidecar",
    "read_table",
    "region_summary",
    "repeat_noise_ml",
    "score_case",
    "score_folders",
    "summary_dict",
    "touching_groups",
    "write_regions",
    "write_rows",
    "write_sidecar",
    "write_table",
]

"""Which packages there are and where they lie; everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, find_packages, setup

LIB, API, TRAINING = "StrokeLesionSegLib", "stroke_lesion_seg", "stroketrain"

setup(
    packages=[
        *find_packages("StrokeLesionSeg", include=[LIB, f"{LIB}.*", API]),
        *(
            f"{LIB}.{folder}"
            for folder in find_namespace_packages("StrokeLesionSeg", include=["Resources*"])
        ),
        *find_packages("training", include=[TRAINING, f"{TRAINING}.*"]),
    ],
    package_dir={
        LIB: f"StrokeLesionSeg/{LIB}",
        API: f"StrokeLesionSeg/{API}",
        f"{LIB}.Resources": "StrokeLesionSeg/Resources",
        TRAINING: f"training/{TRAINING}",
    },
)

"""Which packages there are and where they lie; everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, find_packages, setup

LIB, TRAINING = "StrokeLesionSegLib", "stroketrain"

setup(
    packages=[
        *find_packages("StrokeLesionSeg", include=[LIB, f"{LIB}.*"]),
        *(
            f"{LIB}.{folder}"
            for folder in find_namespace_packages("StrokeLesionSeg", include=["Resources*"])
        ),
        *find_packages("training", include=[TRAINING, f"{TRAINING}.*"]),
    ],
    package_dir={
        LIB: f"StrokeLesionSeg/{LIB}",
        f"{LIB}.Resources": "StrokeLesionSeg/Resources",
        TRAINING: f"training/{TRAINING}",
    },
)

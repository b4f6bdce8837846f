"""``python -m StrokeLesionSegLib`` is the command ``stroke-lesion-seg``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

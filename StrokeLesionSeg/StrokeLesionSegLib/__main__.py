"""``python -m StrokeLesionSegLib`` is the command ``stroke-lesion-seg``."""

from .cli import command

if __name__ == "__main__":
    command()

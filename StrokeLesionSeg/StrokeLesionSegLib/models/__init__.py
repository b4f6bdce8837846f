"""Models on disk: a manifest and safetensors weights, found, verified, installed and loaded.

A model is a directory ``<name>/`` with ``manifest.json`` (see ``Manifest``) and safetensors
files. Models ship in ``Resources/Models``; a user's own lie in the user cache (``user_home``).
Nothing here uses the network, and nothing reads or writes pickles but
``foreign.checkpoint_child``, once, in a process of its own. Importing this package does not import
torch.
"""

from .export import pack_model, write_model
from .foreign.choices import SPACES, ChoiceNeeded, ImportChoices
from .install import install_model, remove_model
from .load import LoadedModel, load_model, verify_model
from .manifest import SCHEMA_VERSION, Manifest
from .settings import Inference, Preprocessing
from .store import find_model, list_models, user_home, user_models_directory

__all__ = [
    "SCHEMA_VERSION",
    "SPACES",
    "ChoiceNeeded",
    "ImportChoices",
    "Inference",
    "LoadedModel",
    "Manifest",
    "Preprocessing",
    "find_model",
    "install_model",
    "list_models",
    "load_model",
    "pack_model",
    "remove_model",
    "user_home",
    "user_models_directory",
    "verify_model",
    "write_model",
]

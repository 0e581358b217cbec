"""Reading configs: file, names, overrides, and a check of every key and value before anything is built."""

from .build import build_model, build_mutator, register_quietly
from .load import load_config, require_config

__all__ = ["build_model", "build_mutator", "load_config", "register_quietly", "require_config"]

"""Files of weights: the one way in and out, whether they are whole, and under which names a model finds its own."""

from .checkpoint_file import (
    checkpoint_hash,
    fitting_weights,
    load_weights,
    log_taken,
    put_weights,
    read_checkpoint,
    save_checkpoint,
    state_dict_of,
)
from .fitting import Fit, MisfitError, fit

__all__ = [
    "Fit",
    "MisfitError",
    "checkpoint_hash",
    "fit",
    "fitting_weights",
    "load_weights",
    "log_taken",
    "put_weights",
    "read_checkpoint",
    "save_checkpoint",
    "state_dict_of",
]

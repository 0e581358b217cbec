"""A network delivered into runtimes: written, proven in each of them, measured, with a card beside the files."""

from .delivering import deliver
from .model_card import Delivery
from .network import Network, Normalisation
from .proof import Proof
from .runtime import Runtime, Written
from .runtimes import RUNTIMES
from .turns import Taken

__all__ = ["RUNTIMES", "Delivery", "Network", "Normalisation", "Proof", "Runtime", "Taken", "Written", "deliver"]

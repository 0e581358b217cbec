"""Plain networks of any origin as classifiers that the training, search and test code can run."""

from .linear_head import bias_free_linear_head
from .nets import build_net, explicit, offline, source_of
from .outputs import main_logits
from .plain import PlainClassifier, as_classifier, plain_module
from .size_check import check_sizes
from .with_loss import WithLoss

__all__ = [
    "PlainClassifier",
    "WithLoss",
    "as_classifier",
    "bias_free_linear_head",
    "build_net",
    "check_sizes",
    "explicit",
    "main_logits",
    "offline",
    "plain_module",
    "source_of",
]

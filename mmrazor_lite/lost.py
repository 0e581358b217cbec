"""Which errors tell of another process that is gone: they are consequences, never the cause."""

from __future__ import annotations

import re
import sys

# What errors of gloo say, which have no class of their own: the place in its code, and the one that comes without.
_GLOO = ("/gloo/", "Application timeout caused pair closure")


def lost_process(error: BaseException) -> str | None:
    """Return the line for the user where ``error`` says that another process is gone; ``None`` for other errors."""
    torch = sys.modules.get("torch")  # not imported, nothing was joined
    text = " ".join(str(error).split())
    if torch is None or not isinstance(error, RuntimeError):
        return None
    if not isinstance(error, torch.distributed.DistError) and not any(words in text for words in _GLOO):
        return None
    reason = re.sub(r"^\[[^\]]*\] *", "", text).split(". ")[0]
    return (
        f"another process of this run has ended or does not answer ({reason}); what it said last tells why. Start all "
        "of them again: train and search go on with --resume"
    )


def lost_worker(error: RuntimeError) -> str | None:
    """Return the line for the user where ``error`` says that a worker process of a data loader is gone; else None."""
    text = " ".join(str(error).split())
    if not re.match(r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) ", text):
        return None
    return (
        f"a process that reads images has ended ({text.split('. ')[0].rstrip('.')}): out of memory, or of shared "
        "memory (/dev/shm)? Give fewer num_workers or a smaller batch_size to the data loader, then --resume"
    )

"""The one kind of error a user can cause, and the hint that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Bad input, told in one line: what is wrong, where, what is allowed, how to fix it.

    The command line prints it without a traceback and exits with status 2.
    """


@contextmanager
def building(section: str) -> Iterator[None]:
    """Tell what goes wrong while a section of the config is built as a :class:`UserError` that names the section."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, AttributeError, LookupError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise UserError(
            f"{section} cannot be built: {type(error).__name__}: {text[:500]} (MMRAZOR_LITE_TRACEBACK=1 shows where)"
        ) from error


def nearest(word: str, options: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest option, or an empty string when none is close."""
    close = difflib.get_close_matches(str(word), [str(option) for option in options], n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""

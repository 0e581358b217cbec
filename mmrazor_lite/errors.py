"""The one kind of error a user can cause, and the hint that goes with it."""

from __future__ import annotations

import difflib
import math
import re
import reprlib
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from mmrazor_lite.lost import lost_process, lost_worker

_LONGEST = 120  # characters of a value shown in an error
_LONGEST_WORD, _LONGEST_LINE = 240, 1200  # characters of what the command line prints
_LONGEST_REASON = 300  # of what a class of somebody else's says

_PLACE = re.compile(r"^[\w.\[\]]+\.(?=\w)")  # of a key, in front of its last name
_LAST_LINE = re.compile(r"^Caught \w+ in .*?\nOriginal Traceback .*\n(mmrazor_lite\.[\w.]*)?UserError: ", re.DOTALL)


class UserError(ValueError):
    """Bad input, told in one line: what is wrong, where, what is allowed, how to fix it.

    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, *args: object) -> None:
        # torch raises what a worker process of a loader raised anew, with the whole traceback as its text.
        super().__init__(*(_LAST_LINE.sub("", arg).rstrip("\n") if isinstance(arg, str) else arg for arg in args))


class SubnetError(UserError):
    """The content of a subnet that does not fit the network: the one who has it knows where it comes from."""


class DivergedError(UserError):
    """A training whose loss or weights are not finite any more."""


def raise_all(source: str, problems: Sequence[str]) -> None:
    """Raise one :class:`UserError` that tells all ``problems`` of a file, in one line; nothing where there are none.

    What is said alike of a key in several places, such as a value that they share, is said of the first one.
    """
    alike: dict[str, list[str]] = {}
    for problem in dict.fromkeys(problems):
        alike.setdefault(_PLACE.sub("", problem), []).append(problem)
    told = [first + (f" (the same in {len(more)} more)" if more else "") for first, *more in alike.values()]
    if told:
        raise UserError(f"{source}: {'; '.join(told)}")


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Tell what somebody else's code raises as a :class:`UserError` that says ``what`` failed.

    Errors that tell of a process that is gone stay as they are: what it said last is the cause.
    """
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and (lost_process(error) or lost_worker(error)):
            raise
        if isinstance(error, KeyError) and error.args == ("inputs",):
            raise UserError(f"{what}: the images have no 'inputs': their pipeline must end in PackInputs") from error
        raise UserError(f"{what}: {reason(error)} (MMRAZOR_LITE_TRACEBACK=1 shows where)") from error


def building(section: str) -> AbstractContextManager[None]:
    """Tell what goes wrong while a section of the config is built as a :class:`UserError` that names the section."""
    return failing(f"{section} cannot be built")


def nearest(word: str, options: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest option, or an empty string when none is close."""
    close = difflib.get_close_matches(str(word), [str(option) for option in options], n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def reason(error: BaseException) -> str:
    """What an error of somebody else's code says, in one short line."""
    text = " ".join(str(error).split())
    if not text:  # a bare assertion says nothing but its line
        frames = traceback.extract_tb(error.__traceback__)
        text = (frames[-1].line or "") if frames else ""
    return f"{type(error).__name__}: {text[:_LONGEST_REASON]}{'...' * (len(text) > _LONGEST_REASON)}"


def one_line(error: BaseException) -> str:
    """What the command line prints for an error: one line, however long a path or a value in it is."""
    words = (_shortened(word, _LONGEST_WORD) for word in str(error).split())
    return _shortened(" ".join(words), _LONGEST_LINE)


def _shortened(text: str, longest: int) -> str:
    """The text with its middle left out where it is too long: both ends say what it is."""
    half = longest // 2 - 2
    return text if len(text) <= longest else f"{text[:half]}....{text[-half:]}"


def short(value: Any) -> str:
    """The representation of a value for a message: one line, and short whatever the value is."""
    limited = reprlib.Repr()
    limited.maxlevel, limited.maxstring, limited.maxother = 3, 60, 60
    try:
        text = " ".join(limited.repr(value).split())
    except ValueError:  # Python writes out integers of up to 4,300 digits only
        text = f"{type(value).__name__} of thousands of digits"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def check_number(
    where: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    whole: bool = False,
    above: bool = False,
    optional: bool = False,
) -> None:
    """Raise :class:`UserError` unless ``value`` is a finite number in range.

    Args:
        where: The key, for the message.
        value: What the config gives.
        low, high: The smallest and the largest value that is allowed.
        whole: Only integers; ``True`` is none.
        above: ``low`` itself is not allowed.
        optional: ``None`` is allowed.
    """
    if value is None and optional:
        return
    kinds = (int,) if whole else (int, float)
    if isinstance(value, kinds) and not isinstance(value, bool) and _within(value, low, high, above):
        return
    what = f"a {'whole ' if whole else ''}number{_range(low, high, above)}"
    raise UserError(f"{where}={short(value)}: give {what}{', or None' if optional else ''}")


def _range(low: float, high: float, above: bool) -> str:
    if low == -math.inf:
        return ""
    if high == math.inf:
        return f" above {low:g}" if above else f" of {low:g} or more"
    return f" above {low:g} and at most {high:.10g}" if above else f" from {low:g} to {high:.10g}"


def _within(value: float, low: float, high: float, above: bool) -> bool:
    try:
        return math.isfinite(value) and (low < value if above else low <= value) and value <= high
    except OverflowError:  # an integer beyond any float
        return False


def check_flag(where: str, value: Any) -> None:
    """Raise :class:`UserError` unless ``value`` is ``True`` or ``False``; 1 and 0 mean the same."""
    if not isinstance(value, bool) and not (type(value) is int and value in (0, 1)):
        raise UserError(f"{where}={short(value)}: give True or False")


def check_one_of(where: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise :class:`UserError` unless ``value`` is one of ``allowed``."""
    allowed = tuple(allowed)
    if not any(type(value) is type(option) and value == option for option in allowed):
        names = ", ".join(map(repr, allowed))
        raise UserError(f"{where}={short(value)}: allowed are {names}{nearest(short(value), allowed)}")

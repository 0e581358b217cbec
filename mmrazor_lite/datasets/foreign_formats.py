"""The readers of files that mmengine and mmpretrain use, for configs and lists of images: ours, which run nothing.

mmengine's own build whatever object a YAML file or a pickle names, so that a config in YAML could run any command, and
end in a traceback where JSON is nested too deep.
"""

from __future__ import annotations

from typing import IO, Any

import yaml
from mmengine.fileio.handlers.json_handler import JsonHandler
from mmengine.fileio.handlers.pickle_handler import PickleHandler
from mmengine.fileio.handlers.registry_utils import file_handlers
from mmengine.fileio.handlers.yaml_handler import YamlHandler

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError


class PlainJson(JsonHandler):
    """Within the limits of :mod:`mmrazor_lite.jsonio`; writes as mmengine does."""

    def load_from_fileobj(self, file: IO[str]) -> Any:
        """Return the data.

        Raises:
            UserError: The text is no JSON, or nested too deep.
        """
        try:
            return jsonio.parse(file.read().encode(), numbers=False)
        except jsonio.BadJSON as error:
            raise UserError(str(error)) from None


class PlainYaml(YamlHandler):
    """Plain data only; writes as mmengine does."""

    def load_from_fileobj(self, file: IO[str], **kwargs: Any) -> Any:
        """Return the data.

        Raises:
            UserError: A tag asks for an object.
        """
        try:
            return yaml.load(file, Loader=yaml.SafeLoader)
        except yaml.constructor.ConstructorError as error:
            mark = error.problem_mark or error.context_mark
            line = f"line {mark.line + 1}: " if mark else ""
            raise UserError(f"{line}{' '.join(str(error.problem).split())[:160]}; only plain values are read") from None


class NoPickle(PickleHandler):
    """Writes as mmengine does, and reads nothing."""

    def load_from_fileobj(self, file: IO[bytes], **kwargs: Any) -> Any:
        """Refuse the file.

        Raises:
            UserError: Always.
        """
        raise UserError("a pickle (.pkl, .pickle) may run code while it is read, so none is: write its data as JSON")


def read_plainly() -> None:
    """Put the readers of this module in the place of mmengine's."""
    file_handlers.update(json=PlainJson(), yaml=PlainYaml(), yml=PlainYaml(), pickle=NoPickle(), pkl=NoPickle())

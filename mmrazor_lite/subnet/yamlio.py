"""Read YAML that people edit: safe data only, and errors of one line with the line number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mmrazor_lite.errors import UserError
from mmrazor_lite.subnet.choice import short


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that is given twice (plain YAML keeps the last one silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = (key_node.tag, key_node.value) if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {short(key_node.value)} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """Return the plain data of a YAML file.

    Raises:
        UserError: The file cannot be read, is not UTF-8, or is not valid YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file (UTF-8)") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the subnet file: {error.strerror}") from None
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{path}: {line}not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:120]}") from None
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested too deep") from None

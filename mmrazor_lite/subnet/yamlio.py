"""Read YAML that people edit: plain data within limits, and errors of one line with the line number.

Numbers are decimal, as people mean them: what YAML 1.1 would also take for one (``010``, ``0x10``, ``1_000``, ``1:30``)
stays text, and so do dates, ``yes`` and ``no``. Tags and merged mappings are refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.jsonio import read_bytes

MOST_BYTES = 4 << 20
MOST_NODES = 50_000  # values, keys and containers
MOST_DEPTH = 64
_Base: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class _Loader(_Base):
    """YAML's safe loader, which also refuses a key that is given twice (plain YAML keeps the last one silently)."""

    yaml_implicit_resolvers: dict = {}  # not those of the safe loader: numbers of every form, dates, merge keys

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


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:[tT]rue|TRUE|[fF]alse|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+|(?:0|[1-9][0-9]*)\.)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def load_yaml(path: Path, what: str = "the subnet file") -> Any:
    """Return the plain data of a YAML file.

    Args:
        path: UTF-8, with or without a byte-order mark.
        what: What it should be, for errors.

    Raises:
        UserError: The file cannot be read, is not UTF-8, is not valid YAML, or holds more than such a file may.
    """
    data = read_bytes(path, MOST_BYTES, what)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file (UTF-8)") from None
    try:
        _check_limits(text)
        return yaml.load(text, Loader=_Loader)  # a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(str(error.problem or error.context).split())[:200]
        raise UserError(f"{path}: {line}not valid YAML: {problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:120]}") from None
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested too deep") from None


def _check_limits(text: str) -> None:
    """Walk the file once before anything of it is built; what an alias stands for counts each time.

    Raises:
        YAMLError: It is too deep or too large, or has a tag, a merge key, or an alias inside of what it stands for.
    """
    count = 0
    sizes: dict[str, int] = {}  # of what has an anchor and is complete
    open_ones: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=_Base):
        problem = None
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionEndEvent):
            name, before = open_ones.pop()
            sizes.update({name: count - before} if name else {})
        elif isinstance(event, yaml.AliasEvent):
            count += sizes.get(anchor, 1)
            if anchor in (name for name, _ in open_ones):
                problem = f"'*{anchor[:60]}' stands inside of what it stands for"
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_ones.append((anchor, count - 1))
            elif anchor:
                sizes[anchor] = 1
            if event.tag is not None:
                problem = f"the tag {short(event.tag)} is not read, only plain values are"
            elif isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                problem = "merge keys (<<) are not read, write the entries out"
        if len(open_ones) > MOST_DEPTH:
            problem = "nested too deep"
        if count > MOST_NODES:
            problem = f"more than {MOST_NODES:,} entries"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)

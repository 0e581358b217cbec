"""The table of ``mmrazor_configs.py``, as docs/migration.md has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

COLUMNS = ("load", "build", "count", "work", "next")
HEADS = ("loads", "builds", "counted: params / flops", "trains or searches", "next step")


def line_of(record: Mapping) -> str:
    """A record, for the eye."""
    verdict = "ok" if record["passed"] else "FAILED"
    text = f": {record['text']}" if record["text"] else ""
    return f"{record['config']} {record['step']} {verdict} ({record['seconds']} s){text}"


def table(configs: Iterable[str], carried: set[str], records: Mapping[tuple[str, str], Mapping]) -> str:
    """Return the configs that are carried, a row each, and how many of the others are refused in one line."""
    configs = list(configs)
    tried = [config for config in configs if config in carried]
    rows = [_row(config, records) for config in tried]
    whole = sum(all(records.get((config, step), {}).get("passed") for step in COLUMNS) for config in tried)
    others = [config for config in configs if config not in carried]
    refused = [config for config in others if records.get((config, "refuse"), {}).get("passed")]
    lines = [
        f"| config | {' | '.join(HEADS)} |",
        f"|{'---|' * (len(HEADS) + 1)}",
        *rows,
        "",
        f"{whole} of {len(rows)} configs pass every step; {len(refused)} of {len(others)} others are refused in one "
        "line.",
    ]
    return "\n".join(lines + _unexpected(set(others) - set(refused), records))


def _row(config: str, records: Mapping[tuple[str, str], Mapping]) -> str:
    branch, _, path = config.partition("/")
    cells = [_cell(records.get((config, step)), step) for step in COLUMNS]
    return f"| {branch} `{Path(path).stem}` | {' | '.join(cells)} |"


def _cell(record: Mapping | None, step: str) -> str:
    if record is None:
        return "not tried"
    if not record["passed"]:
        return f"no: {record['text']}".replace("|", "\\|")
    return record["text"] if step == "count" and record["text"] else "yes"


def _unexpected(configs: set[str], records: Mapping[tuple[str, str], Mapping]) -> list[str]:
    tried = {config: records[config, "refuse"] for config in sorted(configs) if (config, "refuse") in records}
    lines = [f"- {config}: {record['text'] or 'is accepted'}" for config, record in tried.items()]
    return ["", *lines] if lines else []

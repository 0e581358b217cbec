"""What the README and docs/ say exists: links, paths, flags, make targets, and every command, as typed."""

from __future__ import annotations

import argparse
import importlib
import itertools
import pkgutil
import re
import shlex
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from test_imports import ROOMS

from mmrazor_lite import shipped
from mmrazor_lite.cli.main import SUBCOMMANDS, build_parser
from mmrazor_lite.recipes import original_autoslim, original_tfnas
from mmrazor_lite.recipes.original import translate

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SITE = sorted(DOCS.rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *SITE]
# Pages whose tables set MMRazor's names beside ours: only the last column is ours.
COMPARING = ("migration.md", "autoslim_cifar10.md", "tfnas.md")
LINK = re.compile(r"\]\(([^)\s]*)\)|(?:src|srcset|href)=\"([^\"]*)\"")
NAME = re.compile(r"\]\[(mmrazor_lite[\w.]*)\]")  # of the reference
PATH = re.compile(r"(?<![\w/.$-])(?:configs|tools|docs|tests|mmrazor_lite|benchmarks|\.ci)/[\w./{},*-]*")
IN_FILE = re.compile(r"(mmrazor_lite/[\w/]+\.py)[`)]*,? [(\[]?`(\w+)`")  # a file, and a name that it defines
FLAG = re.compile(r"(?<![\w-])--[a-zA-Z][\w-]*")
SCRIPTS_OF_OTHERS = [*original_tfnas.SCRIPTS.values(), *original_autoslim.SCRIPTS.values()]
# Of grep, srun, pip, tensorboard.
FOREIGN_FLAGS = {"--logdir", "--include", "--time", "--exclusive", "--gres", "--gpus", "--no-deps"}
PLACEHOLDER = re.compile(r"(?<![A-Z])(CONFIG|NAME|FIELD)(?![A-Z])")


def prose(page: Path) -> str:
    """The page; of the tables of a comparing page only the last column."""
    lines = page.read_text().splitlines()
    if page.name in COMPARING:
        lines = [line.strip("| ").split("|")[-1] if line.startswith("|") else line for line in lines]
    return "\n".join(lines)


def expand(text: str) -> list[str]:
    """Brace expansion, as the shell does it."""
    parts = [part.strip("{}").split(",") if part.startswith("{") else [part] for part in re.split(r"(\{[^}]*\})", text)]
    return ["".join(choice) for choice in itertools.product(*parts)]


@cache
def anchors(page: Path) -> set[str]:
    """Of the headings, where the site and a repository's page give them the same name."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    names = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {name.replace(" ", "-") for name in names} & {re.sub("[- ]+", "-", name) for name in names}


def links(page: Path) -> list[str]:
    """Where its links and pictures lead, other sites left out."""
    found = ["".join(link) for link in LINK.findall(prose(page))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def commands(page: Path) -> list[list[str]]:
    """Every command of the page's code blocks as words; variables set in a block before are replaced."""
    text = page.read_text()
    fenced = re.findall(r"^```(?:shell|bash|sh)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(
        r"(?:^ {4}.*\S.*\n?)+", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.M
    )
    found, variables = [], {}
    for line in itertools.chain.from_iterable(b.replace("\\\n", " ").splitlines() for b in [*fenced, *indented]):
        line = Template(line.strip().partition("  # ")[0]).safe_substitute(variables)
        assignment = re.fullmatch(r"(\w+)=(\S+|\"[^\"]*\")", line)
        if assignment:
            variables[assignment[1]] = assignment[2].strip('"')
            continue
        line = re.sub(r"^(\w+=\S+ )+", "", line)  # what is set for one command
        line = f"bash {line}" if re.match(r"\./tools/\S+\.sh ", line) else line
        if re.match(r"(python \S*tools/|mmrazor-lite |bash \S*tools/)", line):
            found.append(shlex.split(line.partition(" | ")[0]))
    return found


def parsed(words: list[str]) -> argparse.Namespace:
    """What the real parser makes of one command; files of the package by their paths."""
    args = parsed_as_typed(words)
    args.config = shipped.resolved(getattr(args, "config", ""))
    return args


def parsed_as_typed(words: list[str]) -> argparse.Namespace:
    """What the real parser makes of one command."""
    if words[0] == "mmrazor-lite":
        args = build_parser().parse_args(words[1:])
        return build_parser().parse_args(args.words) if args.command == "launch" else args
    script, rest = words[1].removeprefix("./"), words[2:]
    assert (ROOT / script).is_file(), script
    if words[0] == "bash":  # CONFIG [CHECKPOINT] N [FLAGS]
        name = script.rpartition("_")[2].removesuffix(".sh")
        count = rest.pop(1 if name == "train" else 2)
        assert count.isdigit() or count == "N", words
    else:
        name = re.search(r'main\(\["([\w-]+)"', (ROOT / script).read_text())[1]
    if name == "original":  # what it prints and runs
        command = translate(Path(script).stem, [word for word in rest if word != "--dry-run"])
        name, rest = command.name, command.arguments
    return build_parser().parse_args([name, *rest])


# Files that the pages themselves show, which test_examples.py writes.
SHOWN = {name for page in PAGES for name in re.findall(r"^<!-- file: (\S+) -->$", page.read_text(), re.MULTILINE)}
COMMANDS = [pytest.param(words, id=f"{page.name}-{n}") for page in PAGES for n, words in enumerate(commands(page))]


def test_there_is_something_to_test():
    assert len(PAGES) > 5
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"
        assert page not in SITE or DOCS in file.parents, f"{page.name} links to {target}, which is not on the site"


def in_navigation(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [page for item in (entry.values() if isinstance(entry, dict) else entry) for page in in_navigation(item)]


def test_every_page_is_in_the_navigation_once():
    listed = in_navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in SITE)


def test_the_picture_of_the_rooms_is_their_order():
    rows: dict[int, set[str]] = {}
    for y, name in re.findall(r'class="code" [^>]*y="(\d+)"[^>]*>(\w+)<', (DOCS / "pictures/layers.svg").read_text()):
        rows.setdefault(int(y), set()).add(name)
    drawn = [rows[y] for y in sorted(rows, reverse=True)]
    without = {"version", "base"}  # no folders; of the rooms in models, one box
    rooms = [{name.partition(".")[0] for name in line} - without for line in ROOMS]
    assert drawn == [line for line, _ in itertools.groupby(filter(None, rooms))]


def reference() -> list[str]:
    """The modules whose public names the reference shows."""
    return re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in SITE), re.MULTILINE)


def test_every_package_is_in_the_reference_once():
    assert len(reference()) == len(set(reference()))
    folders = [path.parent for path in (ROOT / "mmrazor_lite").rglob("__init__.py") if "__all__" in path.read_text()]
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    # The root has names of other packages, models lists its packages; commands and hooks are no names to import.
    assert packages - {f"mmrazor_lite{name}" for name in ("", ".models", ".cli", ".engine.hooks")} <= set(reference())


@pytest.mark.parametrize("name", sorted({name for page in PAGES for name in NAME.findall(page.read_text())}))
def test_name_of_the_reference_is_public(name):
    package = max((package for package in reference() if name.startswith(f"{package}.")), key=len)
    module = importlib.import_module(package)
    assert name[len(package) + 1 :].partition(".")[0] in getattr(module, "__all__", dir(module))
    assert pkgutil.resolve_name(name).__doc__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page):
    for match in PATH.findall(prose(page)):
        for path in expand(match.rstrip(".,:")):
            if not PLACEHOLDER.search(path):
                assert list(ROOT.glob(path)) or (ROOT / path).exists(), f"{page.name} names {path}"


def test_functions_are_in_the_files_that_are_named_with_them():
    """Such as where a width group is decided, where a budget becomes a limit, and which step trains."""
    found = [match for page in PAGES for match in IN_FILE.findall(page.read_text())]
    assert {"find_width_groups", "read_limits", "train_step"} <= {name for _, name in found}
    for path, name in found:
        assert re.search(rf"^ *(?:def|class) {name}\b|^{name}\b.* = ", (ROOT / path).read_text(), re.MULTILINE), (
            path,
            name,
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_and_make_targets_exist(page):
    known = FOREIGN_FLAGS | {"--dry-run"}
    parsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    for parser in [build_parser(), *parsers.values()]:
        known |= {option for action in parser._actions for option in action.option_strings}
    for make_parser, _ in (*SCRIPTS_OF_OTHERS, original_tfnas.TEST, original_autoslim.TEST):
        known |= {option for a in make_parser(argparse.ArgumentParser())._actions for option in a.option_strings}
    for script in (ROOT / "benchmarks").rglob("*.py"):  # each declares its own
        known |= set(re.findall(r'add_argument\("(--[a-z-]+)"', script.read_text(encoding="utf-8")))
    assert set(FLAG.findall(prose(page))) <= known
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make (\w+)", prose(page), re.MULTILINE)) <= targets


def test_extras_exist():
    extras = set(re.findall(r"^ {8}\"(\w+)\": \[", (ROOT / "setup.py").read_text(), re.MULTILINE))
    assert set(re.findall(r"\.\[(\w+)\]", (DOCS / "get_started.md").read_text())) == extras


@pytest.mark.parametrize("words", COMMANDS)
def test_command_parses(words):
    args = parsed(words)
    assert args.command in SUBCOMMANDS
    config = getattr(args, "config", "")
    if config and config not in SHOWN and not PLACEHOLDER.fullmatch(config):
        assert (ROOT / config).is_file(), config


def test_options_of_the_commands_are_accepted(registered, monkeypatch):
    """Every ``--cfg-options`` names a key of its config."""
    from mmrazor_lite.config.load import load_config

    monkeypatch.chdir(ROOT)  # import paths in configs start there

    done = set()
    for parameter in COMMANDS:
        args = parsed(parameter.values[0])
        key = (getattr(args, "config", "") or "", tuple(getattr(args, "cfg_options", ())), getattr(args, "amp", False))
        if key not in done and key[1] and (ROOT / key[0]).is_file():
            load_config(ROOT / key[0], *key[1:])
            done.add(key)
    assert done

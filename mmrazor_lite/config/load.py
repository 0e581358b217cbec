"""Load a config file: our names, the user's overrides, and a check of every key before anything is built."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mmrazor_lite import counterparts, mm_packages, shipped
from mmrazor_lite.errors import UserError, raise_all
from mmrazor_lite.fileio import require_file
from mmrazor_lite.migration import generation_of, translate
from mmrazor_lite.migration.generation import V0_FURTHER, V0_KEYS
from mmrazor_lite.walk import kind_of, mappings
from mmrazor_lite.walk import values as values_of

from . import elsewhere, files, names, not_carried, overrides, schema
from .build import register_quietly

if TYPE_CHECKING:
    from mmengine.config import Config


AMP_WRAPPER = "mmrazor_lite.SubnetAmpOptimWrapper"
LEFT = "_not_translated"  # in a config that ``mmrazor-lite migrate`` has written with parts missing


def load_config(path: str | os.PathLike, cfg_options: Sequence[str] = (), amp: bool = False) -> Config:
    """Return the config of ``path`` with ``cfg_options`` ("KEY=VALUE") merged, names normalised and every key checked.

    ``data_root`` among them reaches every dataset whose ``data_root`` was copied from it. With ``amp``, they find the
    optimizer wrapper of mixed precision in place, whose ``dtype`` they may set.

    ``path`` may be the name of a config of this package, ``mmrazor_lite::configs/...``.

    A ``model`` that names a network of torchvision, timm or the user's own gets a ``PlainClassifier`` around it.

    Raises:
        UserError: missing or broken file, what cannot be translated, a name that is not registered, a key that nothing
            reads, a value that makes no sense.
    """
    path = shipped.resolved(path)
    cfg = read(path)
    with _told_first(path, unread=False):
        return completed(cfg, path, cfg_options, amp)


def read(path: str | os.PathLike) -> Config:
    """Return the config of ``path`` as its files have it, once all names that a config may use are registered.

    Raises:
        UserError: It is missing, cannot be read, is of what is not carried, or was written with parts missing.
    """
    _require(path)
    mm_packages.require(f"config file '{path}'")
    register_quietly()
    if why := elsewhere.by_name(str(path)):
        raise UserError(f"{path}: {why}")
    with _told_first(path, unread=True):
        cfg = files.read(str(path))
    if cfg.get(LEFT):
        raise UserError(f"{path}: parts of it are not translated, see 'To do' at its top; then remove {LEFT}")
    return cfg


def _is_registered(name: str) -> bool:
    return bool(schema.find(names.renamed(name), imports=False))


def _is_read(name: str) -> bool:
    """Whether a name is registered, or one that something here takes the place of: the translation may know it."""
    _, instead = not_carried.purpose_of(name) or ("", "")
    return bool(instead) or _is_registered(name)


@contextlib.contextmanager
def _told_first(path: str | os.PathLike, unread: bool) -> Iterator[None]:
    """Say that a config is not for this project in place of whatever else is wrong with it."""
    try:
        yield
    except UserError as error:
        if why := elsewhere.reason(str(path), _is_registered, unread):
            raise UserError(f"{path}: {why}") from error
        raise


def require_config(path: str | os.PathLike) -> None:
    """Raise ``UserError`` where there is no config of this path or name, see :func:`load_config`; it is not read."""
    _require(shipped.resolved(path))


def _require(path: str | os.PathLike) -> None:
    """Raise ``UserError`` where the file is not there; with the name of one of this package where the path is that."""
    if not os.path.exists(path):
        if name := shipped.offered(path):
            raise UserError(f"config file '{path}' not found: '{name}' is the one that comes with this package")
        if why := elsewhere.reason(str(path), _is_registered, unread=True):
            raise UserError(f"config file '{path}' not found, and {why}")
    require_file(path, "config file")


def completed(cfg: Config, path: str | os.PathLike, cfg_options: Sequence[str] = (), amp: bool = False) -> Config:
    """Do everything of :func:`load_config` but the reading, on ``cfg``."""
    from . import judge, values  # values are compared with torch's types

    source, plain = str(path), cfg._cfg_dict
    values.check_shape(plain, source)
    not_carried.check(plain, source, _is_read, schema.FREE)
    pass_on_data_root(cfg, source)
    helpers, before = files.helpers(source), plain
    cfg, cfg_options, problems = _translated(cfg, helpers, source, cfg_options)
    plain = cfg._cfg_dict
    unknown = schema.unknown_keys(plain, helpers)
    if problems or unknown:
        names.normalise(plain)
        judged = judge.problems({key: part for key, part in plain.items() if key in schema.TOP_LEVEL}, source)
        raise_all(source, [*problems, *unknown, *_elsewhere(judged, problems)])
    if plain is not before:
        for key in [key for key in plain if key not in schema.TOP_LEVEL]:
            del plain[key]  # what helper variables were copied to is in our form by now, they are not
    wrapper = cfg.get("optim_wrapper") or {}
    if amp and kind_of(wrapper) in ("OptimWrapper", "SubnetOptimWrapper"):
        wrapper["type"] = AMP_WRAPPER
    overrides.apply(cfg, cfg_options)
    values.check_shape(plain, source)
    not_carried.check(plain, source, _is_read, schema.FREE)  # what an option names too
    _find_shipped(plain)
    around = cfg.setdefault("model_wrapper_cfg", {"type": "SubnetDDP"})
    if around is not None and cfg.get("find_unused_parameters") is not None:  # mmengine's way to say it
        around.setdefault("find_unused_parameters", cfg.find_unused_parameters)
    names.normalise(plain)
    if cfg.get("default_scope") in (None, *names.SCOPES):  # names of ours have their prefix by now
        cfg.default_scope = "mmpretrain"
    raise_all(source, judge.problems(plain, source))
    _put_classifier_around(cfg, source)
    return cfg


def _elsewhere(judged: Sequence[str], told: Sequence[str]) -> list[str]:
    """The problems of ``judged`` at keys that ``told``, what a translation said, is silent of."""
    keys = [key for text in told if (key := re.split("[:= ]", text, maxsplit=1)[0])]
    return [text for text in judged if not any(text.startswith(key) or f" in {key}" in text for key in keys)]


def _find_shipped(plain: Mapping) -> None:
    """Replace values that name files of this package, or addresses of subnets that it has copies of, by their paths."""
    for _, node in values_of(plain):
        if isinstance(node, dict | list):
            for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
                found = shipped.resolved(value) if isinstance(value, str | tuple) else value
                found = (isinstance(found, str) and counterparts.published(found)) or found
                if found != value:
                    node[key] = found


def _translated(
    cfg: Config, helpers: Collection[str] | None, source: str, cfg_options: Sequence[str]
) -> tuple[Config, Sequence[str], list[str]]:
    """Return a config in our own form, the options that are still to be merged, and what could not be translated.

    Options are of the generation of the file where it has their first key, else of ours.

    Raises:
        UserError: It is of no generation, or of two.
    """
    from mmengine.config import Config

    if generation_of(cfg._cfg_dict, helpers or ()) == "own":
        return cfg, cfg_options, []
    early, late = overrides.divide(cfg, cfg_options)
    overrides.apply(cfg, early, ours=False)
    found = translate(cfg._cfg_dict, source, helpers or ())
    if found.config is cfg._cfg_dict:  # nothing could be
        known = {*(helpers or ()), *V0_KEYS, *V0_FURTHER}
        raise_all(source, [*found.problems, *(schema.unknown_keys(found.config, known) if helpers is not None else ())])
    return Config(dict(found.config), filename=cfg.filename), late, found.problems


def pass_on_data_root(cfg: Config, source: str) -> None:
    """Give ``data_root`` of a file to the datasets whose own was copied from that of one of its bases.

    Raises:
        UserError: There are datasets and none takes it.
    """
    root = cfg.get("data_root")
    if root is None:
        return
    for old in files.data_roots(source) - {root}:
        overrides.move_data_root(cfg._cfg_dict, old, root)
    loaders = {key: value for key, value in cfg.items() if key.endswith("dataloader") or key == "search_cfg"}
    if any(loaders.values()) and not any(node.get("data_root") == root for _, node in mappings(loaders)):
        raise UserError(
            f"{source}: data_root={root!r} at top level reaches no dataset; set it in the datasets, such as "
            "train_dataloader.dataset.data_root"
        )


def _put_classifier_around(cfg: Config, source: str) -> None:
    """Write out a ``model`` that names a plain network; an algorithm does this to its architecture."""
    from mmrazor_lite.models.classifiers import nets

    model = cfg.get("model")
    if model and nets.source_of(model.get("type")):
        expanded = nets.expand(model, f"{source}: model")
        if nets.is_wrapper(expanded):
            cfg.model = expanded

"""Names in configs: MMRazor's and mmcls's spellings become those registered here."""

from __future__ import annotations

from collections.abc import Mapping

from mmrazor_lite.errors import UserError
from mmrazor_lite.walk import mappings

from . import schema

PREFIXES = {"mmcls.": "mmpretrain.", "mmrazor.": "mmrazor_lite."}
RENAMED = {
    "mmrazor_lite.BigNAS": "mmrazor_lite.OFA",  # whose sandwich it is
    **{f"mmrazor_lite.{old}DDP": "mmrazor_lite.SubnetDDP" for old in ("AutoSlim", "SlimmableNetwork", "BigNAS")},
    # MMRazor 1.0.0rc's mutators of operators and of values
    **{
        f"{scope}{old}": "mmrazor_lite.NasMutator"
        for scope in ("", "mmrazor_lite.")
        for old in ("OneShotModuleMutator", "DynamicValueMutator")
    },
    # in whose place ours is
    "mmpretrain.SwitchRecipeHook": "mmrazor_lite.RecipeHook",
    "SwitchRecipeHook": "mmrazor_lite.RecipeHook",
    **{f"{scope}MMDistributedDataParallel": "mmrazor_lite.SubnetDDP" for scope in ("", "mmengine.", "mmcv.")},
    # read by our own: labels by names, lists as people write them
    **{f"mmpretrain.{name}": f"mmrazor_lite.{name}" for name in ("CustomDataset", "ImageNet")},
    # names of mmcls that mmpretrain gave up
    **{f"{scope}PackClsInputs": "mmpretrain.PackInputs" for scope in ("", "mmpretrain.")},
    **{f"{scope}ClsVisualizer": "mmpretrain.UniversalVisualizer" for scope in ("", "mmpretrain.")},
}
SCOPES = {"mmcls": "mmpretrain", "mmrazor": "mmrazor_lite"}


def normalise(cfg: Mapping) -> None:
    """Rewrite every ``type`` and ``_scope_`` in the sections of ``cfg`` in place; bare names of ours get our prefix.

    That makes a ``_scope_`` of ours superfluous, and it goes: in its reach mmpretrain's names would not be found.
    """
    for _, node in mappings(cfg):
        if isinstance(node.get("type"), str):
            node["type"] = renamed(node["type"])
        if isinstance(node.get("_scope_"), str):
            node["_scope_"] = SCOPES.get(node["_scope_"], node["_scope_"])
            if node["_scope_"] == SCOPES["mmrazor"]:
                del node["_scope_"]


def renamed(name: str) -> str:
    """The name of a class as it is registered.

    Raises:
        UserError: A bare name of ours that a config's imports have put into mmengine's registry: one would be lost.
    """
    from mmrazor_lite.registry import OURS, SCOPE, holder

    for old, new in PREFIXES.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
    held = next((registry for registry in OURS if name in registry.module_dict), None)
    if held is not None:
        if held.parent is not None and name in held.parent.module_dict:
            mine, rival = (holder(registry.module_dict[name]) for registry in (held, held.parent))
            raise UserError(f"'{name}' is taken in the registry '{held.name}' by {mine}: give {rival} another name")
        name = f"{SCOPE}.{name}"
    return _of_parents(RENAMED.get(name, name))


def _of_parents(name: str) -> str:
    """The bare name where a class that is said to be of mmpretrain or of ours is mmengine's or mmcv's: both find it."""
    scope, _, bare = name.rpartition(".")
    if scope not in SCOPES.values():
        return name
    held = schema.scopes_of(bare)
    return bare if scope not in held and held & {"mmengine", "mmcv"} else name

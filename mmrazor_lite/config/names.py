"""Names in configs: MMRazor's and mmcls's spellings become those registered here."""

from __future__ import annotations

from typing import Any

from mmrazor_lite.errors import UserError

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


def normalise(node: Any) -> None:
    """Rewrite every ``type`` and ``_scope_`` below ``node`` in place; bare names of ours get our prefix.

    That makes a ``_scope_`` of ours superfluous, and it goes: in its reach mmpretrain's names would not be found.
    """
    from mmrazor_lite.registry import OURS, SCOPE

    ours = {name: registry for registry in OURS for name in registry.module_dict}

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            name = node.get("type")
            if isinstance(name, str):
                for old, new in PREFIXES.items():
                    if name.startswith(old):
                        name = new + name.removeprefix(old)
                if name in ours:
                    _refuse_rival(name, ours[name])
                    name = f"{SCOPE}.{name}"
                node["type"] = RENAMED.get(name, name)
            if isinstance(node.get("_scope_"), str):
                node["_scope_"] = SCOPES.get(node["_scope_"], node["_scope_"])
                if node["_scope_"] == SCOPE:
                    del node["_scope_"]
            for value in node.values():
                visit(value)
        elif isinstance(node, list | tuple):
            for value in node:
                visit(value)

    visit(node)


def _refuse_rival(name: str, registry: Any) -> None:
    """Refuse a bare name of ours that a config's imports have put into mmengine's registry: one would be lost."""
    from mmrazor_lite.registry import holder

    parent = registry.parent
    if parent is not None and name in parent.module_dict:
        held, rival = (holder(found.module_dict[name]) for found in (registry, parent))
        raise UserError(f"'{name}' is taken in the registry '{registry.name}' by {held}: give {rival} another name")

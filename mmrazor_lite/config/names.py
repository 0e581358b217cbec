"""Names in configs: MMRazor's and mmcls's spellings become those registered here."""

from __future__ import annotations

from typing import Any

PREFIXES = {"mmcls.": "mmpretrain.", "mmrazor.": "mmrazor_lite."}
RENAMED = {
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

    ours = {name for registry in OURS for name in registry.module_dict}

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            name = node.get("type")
            if isinstance(name, str):
                for old, new in PREFIXES.items():
                    if name.startswith(old):
                        name = new + name.removeprefix(old)
                name = f"{SCOPE}.{name}" if name in ours else name
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

"""Blocks of code inside a graph, such as ``with torch.no_grad():``, written out in the place where they run."""

from __future__ import annotations

import operator

from torch import fx

# What torch.export makes of a block: (..., the graph of the block, what it reads). It returns a tuple.
BLOCKS = frozenset(
    "wrap wrap_with_set_grad_enabled wrap_with_autocast wrap_activation_checkpoint tag_activation_checkpoint".split()
)


def inline_blocks(module: fx.GraphModule) -> None:
    """Put the ops of every block, also of blocks inside blocks, into the graph of ``module``, in place."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and getattr(node.target, "__name__", "") in BLOCKS:
            _inline(module, node)


def _inline(module: fx.GraphModule, call: fx.Node) -> None:
    place = next((i for i, arg in enumerate(call.args) if isinstance(arg, fx.Node) and arg.op == "get_attr"), None)
    block = None if place is None else getattr(module, call.args[place].target, None)
    if not isinstance(block, fx.GraphModule):
        return
    inline_blocks(block)
    inputs = [node for node in block.graph.nodes if node.op == "placeholder"]
    places = dict(zip(inputs, call.args[place + 1 :], strict=True))
    results: tuple | list | fx.Node = ()
    with module.graph.inserting_before(call):
        for node in block.graph.nodes:
            if node.op == "output":
                results = fx.map_arg(node.args[0], places.__getitem__)
            elif node.op != "placeholder":
                places[node] = module.graph.node_copy(node, places.__getitem__)
    for user in list(call.users):
        if user.target is operator.getitem and isinstance(results, (tuple, list)):
            user.replace_all_uses_with(results[user.args[1]])
            module.graph.erase_node(user)
    if isinstance(results, fx.Node):
        call.replace_all_uses_with(results)
    if not call.users:
        module.graph.erase_node(call)

"""The pass that lets batch normalisation's derivative add up the gradient that it begins with.

What a residual block puts out is read twice, by the next block's convolution and by its
shortcut; so its gradient is a sum of two. Added up where it is used first, it is not written and
read once more: eight arrays go through the caches where there were eleven.
"""

from __future__ import annotations

from typing import Any

from ..backends import choice
from ..functions.batch_norm import BatchNormBackward, BatchNormBackwardOfSum
from ..functions.binary import Add
from .arrays import stand_in
from .graph import Apply, Graph, Value, is_change

__all__ = ["gradient_sums"]


def gradient_sums(graph: Graph) -> None:
    """Make the addition of two gradients a part of batch normalisation's derivative."""
    uses = graph.uses()
    places = {id(node): i for i, node in enumerate(graph.nodes)}
    gone: set[int] = set()
    for i, node in enumerate(graph.nodes):
        if not isinstance(node, Apply) or node.function is not BatchNormBackward:
            continue
        g = node.inputs[0]
        add = g.node
        if not isinstance(add, Apply) or not _is_plain_sum(add) or uses[g] != 1:
            continue
        between = graph.nodes[places[id(add)] : i]
        if any(is_change(n) for n in between) or len(node.outputs) != node.count:
            continue
        if any(v.memory.written for n in (add, node) for v in (*n.reads(), *n.makes())):
            continue
        inputs = [add.inputs[0], *node.inputs[1:], add.inputs[1]]
        if not _pays(inputs, **node.attributes):
            continue
        node.function = BatchNormBackwardOfSum
        node.inputs, node.needs = inputs, (False,) * len(inputs)
        gone.add(id(add))
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]


def _pays(
    inputs: list[Value | None], eps: Any, activation: Any, training: Any, residual: Any, dtype: Any
) -> bool:
    """Whether the loops do it; other backends add up first."""
    g, x, weight, y, bias, mean, var, more = [v and stand_in(v) for v in inputs]
    arrays, options = (g, x, y, weight, bias, mean, var), (eps, activation, training, residual)
    return choice("batch_norm_backward", *arrays, *options, more) == "fused"


def _is_plain_sum(node: Apply) -> bool:
    """Whether it adds two arrays that lie as the result does."""
    if node.function is not Add or node.attributes or len(node.inputs) != 2:
        return False
    (y,) = node.outputs
    return y is not None and all(
        isinstance(x, Value) and (x.shape, x.strides, x.dtype) == (y.shape, y.strides, y.dtype)
        for x in node.inputs
    )

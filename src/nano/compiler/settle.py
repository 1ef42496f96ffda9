"""What a trace makes of the tensors that it found, once the run is over.

Only then can be told which of them were there before and stay (parameters, say), and which the
function has made itself: nobody but the graph holds these any more.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphBreak
from .arrays import place_of
from .graph import (
    Accumulate,
    Effect,
    Gradient,
    Graph,
    Memory,
    Overwrite,
    SetGradient,
    Value,
    replace_inputs,
    replaced,
)

__all__ = ["settle"]


def settle(graph: Graph, before: dict[Memory, tuple[Value, NDArray]], inner: list[Value]) -> None:
    """Tell captured tensors from those that are made anew at each run.

    Args:
        before: what memory from outside held before it was first written.
        inner: leaves that the function makes over the memory of an argument or a result.
    """
    _prefer_lasting(graph)
    _merge(graph, before, inner)
    for memory, (value, content) in before.items():
        if _is_alone(graph, value):
            value.kind, value.content = "constant", content
            memory.outside = False
        else:
            value.before = content
    _drop_inner_leaves(graph, inner)


def _prefer_lasting(graph: Graph) -> None:
    """Of several Tensors that show the same memory alike, take one that outlives the run."""
    lasting = {}
    for v in graph.values:
        if v.kind == "captured" and not _is_alone(graph, v):
            lasting[v.memory, place_of(v.content._data)] = v.content
    for v in graph.values:
        if v.kind == "captured":
            v.content = lasting.get((v.memory, place_of(v.content._data)), v.content)


def _merge(graph: Graph, before: dict[Memory, tuple[Value, NDArray]], inner: list[Value]) -> None:
    """One value for what several Tensors of this run show alike."""
    first: dict[Any, Value] = {}
    same: dict[Value, Value] = {}
    for v in graph.values:
        if v.kind == "captured" and v not in inner:
            w = first.setdefault((v.memory, place_of(v.content._data)), v)
            alike = w.content is v.content or _is_alone(graph, v) or _is_alone(graph, w)
            if w is not v and alike:
                same[v] = w
    if not same:
        return
    for node in graph.nodes:
        replace_inputs(node, same)
        if isinstance(node, (Accumulate, Gradient, SetGradient)):
            node.leaf = same.get(node.leaf, node.leaf)
        elif isinstance(node, Effect):
            node.tensors = [same.get(v, v) for v in node.tensors]
        elif isinstance(node, Overwrite) and node.counts is not None:
            node.counts = same.get(node.counts, node.counts)
    graph.result = replaced(graph.result, same)
    if graph.derivative is not None:
        graph.derivative.leaves = replaced(graph.derivative.leaves, same)
    graph.tied = replaced(graph.tied, same)
    graph.values = [v for v in graph.values if v not in same]
    for memory, (v, content) in before.items():
        before[memory] = same.get(v, v), content


def _drop_inner_leaves(graph: Graph, inner: list[Value]) -> None:
    """Leaves that the function makes itself: nobody sees the gradients that arrive there."""
    uses = graph.uses()
    read = {
        id(n.leaf.content): n.line
        for n in graph.nodes
        if isinstance(n, Gradient) and any(uses[v] for v in n.makes())
    }
    of_results = {v for v in inner if not v.memory.outside}
    kept = []
    for node in graph.nodes:
        if isinstance(node, Effect) and node.call.kind == "clear":
            node.tensors = [v for v in node.tensors if not _is_alone(graph, v)]
            if not node.tensors:
                continue
        elif isinstance(node, (Accumulate, Gradient, SetGradient)):
            alone = _is_alone(graph, node.leaf)
            if alone or node.leaf in of_results:
                if not alone or id(node.leaf.content) in read:
                    line = read.get(id(node.leaf.content)) or node.line
                    raise GraphBreak(
                        "compile",
                        "the .grad of a leaf is used that the function makes itself.",
                        facts=f"at {line} · shape {node.leaf.shape}",
                        hint="Ask for the gradient with nano.autograd.grad().",
                    )
                continue
        kept.append(node)
    graph.nodes = kept
    used = {node.leaf for node in kept if isinstance(node, (Accumulate, Gradient, SetGradient))}
    used.update(v for node in kept if isinstance(node, Effect) for v in node.tensors)
    if graph.derivative is not None:
        used.update(graph.derivative.leaves)
    unused = [v for v in inner if v not in used and _is_alone(graph, v)]
    graph.values = [v for v in graph.values if v not in unused]


def _is_alone(graph: Graph, value: Value) -> bool:
    """Whether only the graph holds a captured Tensor: it was made in this run."""
    if value.kind != "captured":
        return False
    others = sum(v.content is value.content for v in graph.values) - 1
    return sys.getrefcount(value.content) <= _ALONE + others


def _references_if_alone() -> int:
    """What ``sys.getrefcount(value.content)`` says if only the value holds its Tensor."""
    value = Value(0, "captured", object(), np.empty(0), Memory())
    return sys.getrefcount(value.content)


_ALONE = _references_if_alone()

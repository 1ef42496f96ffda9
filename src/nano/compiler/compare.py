"""Whether two traces of a function show the same program.

The second run of a function has other numbers in its tensors. What still is the same in both
may be taken as fixed: the operators, their attributes, and the arrays that no operator made.
What is not would be wrong in a program, and is an error instead.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphBreak
from .graph import (
    Accumulate,
    Apply,
    Effect,
    Gradient,
    Graph,
    Node,
    Overwrite,
    SetGradient,
    Value,
)

__all__ = ["Reading", "difference", "read_from_outside", "settle_constants"]


@dataclass(frozen=True)
class Reading:
    """The values of a tensor were read that no operator had met.

    Attributes:
        memory: gives the array that owns the memory, as long as anybody holds it.
        error: what to say if that was there before the run.
    """

    memory: weakref.ref[NDArray]
    error: GraphBreak


def read_from_outside(first: list[Reading], second: list[Reading]) -> GraphBreak | None:
    """What is wrong if both runs read the same memory: it was there before, and may be written.

    What each run makes of numbers (``nano.tensor(2.0).item()``) it may read.
    """
    known = [reading.memory() for reading in first]
    for reading in second:
        memory = reading.memory()
        if memory is not None and any(memory is m for m in known):
            return reading.error
    return None


def difference(first: Graph, second: Graph) -> str:
    """The first thing in which two graphs differ, for people; empty if in nothing."""
    for a, b in zip(first.nodes, second.nodes, strict=False):
        reason = _nodes_differ(a, b)
        if reason:
            return f"{reason}{f' · at {b.line}' if b.line else ''}"
    if len(first.nodes) != len(second.nodes):
        longer = max(first.nodes, second.nodes, key=len)
        extra = longer[min(len(first.nodes), len(second.nodes))]
        return f"{extra.name} is there in one run only{f' · at {extra.line}' if extra.line else ''}"
    reason = _inner_leaf(first, second)
    if reason:
        return reason
    if len(first.values) != len(second.values):
        counts = f"{len(first.values)} tensors in one run, {len(second.values)} in the next"
        return f"there come from outside {counts}"
    for v, w in zip(first.values, second.values, strict=True):
        reason = _values_differ(v, w)
        if reason:
            return reason
    if _leaves(first) != _leaves(second):
        return "gradients go to other tensors in the next run"
    if not _same(first.result, second.result):
        return f"it returns {first.result!r} in one run, {second.result!r} in the next"
    return ""


def _inner_leaf(first: Graph, second: Graph) -> str:
    """Where gradients of a leaf are used that each run makes anew; empty if nowhere."""
    lasting = {id(v.content) for v in first.values if v.kind == "captured"}
    for node in second.nodes:
        leaves = node.tensors if isinstance(node, Effect) else [getattr(node, "leaf", None)]
        for v in leaves:
            if v is not None and v.kind != "argument" and id(v.content) not in lasting:
                place = f" · at {node.line}" if node.line else ""
                return f"the .grad of a leaf is used that the function makes itself{place}"
    return ""


def _leaves(graph: Graph) -> list[int]:
    """Where gradients go if the result is differentiated."""
    return [] if graph.derivative is None else [v.number for v in graph.derivative.leaves]


def _nodes_differ(a: Node, b: Node) -> str:
    if type(a) is not type(b) or a.name != b.name:
        return f"{a.name} in one run, {b.name} in the next"
    if isinstance(a, Apply) and isinstance(b, Apply):
        if a.function is not b.function:
            return f"{a.name} is another operator in the next run"
        if a.attributes.keys() != b.attributes.keys():
            return f"{a.name} has other keyword arguments in the next run"
        for key, x in a.attributes.items():
            if not _same(x, b.attributes[key]):
                return f"{a.name} has {key}={x!r} in one run, {b.attributes[key]!r} in the next"
        if a.needs != b.needs or a.hidden != b.hidden:
            return f"{a.name} keeps other things for its derivative in the next run"
    if isinstance(a, Overwrite) and not _same(a.counts, b.counts):  # type: ignore[attr-defined]
        return f"{a.name} writes into another tensor in the next run"
    if isinstance(a, (Accumulate, Gradient, SetGradient)) and not _same(a.leaf, b.leaf):  # type: ignore[attr-defined]
        return "a gradient goes to another tensor in the next run"
    if isinstance(a, Effect) and not _same(a.tensors, b.tensors):  # type: ignore[attr-defined]
        return f"{a.name} works on other tensors in the next run"
    if not _same(a.inputs, b.inputs):
        return f"{a.name} takes {a.inputs} in one run, {b.inputs} in the next"
    if [_form(v) for v in a.outputs] != [_form(v) for v in b.outputs]:
        return f"{a.name} gives other shapes in the next run"
    return ""


def _form(v: Value | None) -> Any:
    return None if v is None else (v.number, v.shape, v.dtype, v.strides)


def _values_differ(v: Value, w: Value) -> str:
    if v.kind != w.kind or _form(v) != _form(w):
        return f"a tensor from outside is {v.describe()} in one run, {w.describe()} in the next"
    if v.kind == "argument" or v.content is w.content:
        return ""
    if not _equal(_array(v), _array(w)):
        return (
            f"a tensor {v.describe()} that no operator made has other values in the next run: "
            "it depends on something that the program would not see"
        )
    return ""


def settle_constants(first: Graph, second: Graph) -> None:
    """Tensors from outside that are others in each run, with the same values, are constants."""
    for v, w in zip(first.values, second.values, strict=True):
        if w.kind != "captured" or v.content is w.content:
            continue
        # Another Tensor over the same memory, such as p.detach(), is no constant.
        if not np.shares_memory(v.content._data, w.content._data):
            w.kind, w.content = "constant", _array(w)
            w.memory.outside = False
    for node in second.nodes:
        counts = node.counts if isinstance(node, Overwrite) else None
        if counts is not None and counts.kind == "constant":
            node.counts = None  # type: ignore[attr-defined]


def _array(v: Value) -> Any:
    if v.kind == "constant":
        return v.content
    return v.content._data if v.before is None else v.before


def _equal(x: Any, y: Any) -> bool:
    """The same numbers, and NaN where the other has NaN."""
    return x.tobytes() == y.tobytes() or bool(np.array_equal(x, y))


def _same(x: Any, y: Any) -> bool:
    """Equal, with values told apart by their number, and of the same type."""
    if isinstance(x, Value):
        return isinstance(y, Value) and x.number == y.number
    if type(x) is not type(y):
        return False
    if isinstance(x, (tuple, list)):
        return len(x) == len(y) and all(map(_same, x, y))
    if isinstance(x, dict):
        return x.keys() == y.keys() and all(_same(v, y[k]) for k, v in x.items())
    if isinstance(x, np.ndarray):
        return _equal(x, y)
    try:
        return bool(x == y) or x is y or (x != x and y != y)
    except (TypeError, ValueError):
        return x is y

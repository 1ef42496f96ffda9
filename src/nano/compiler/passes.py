"""Passes over a graph that make it smaller, each a function with a name.

A pass changes the graph in place and leaves one that computes the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .epilogues import epilogues, fold_batch_norm
from .forget import forget_early
from .fuse import fuse
from .gradient_sums import gradient_sums
from .graph import (
    Accumulate,
    Apply,
    Effect,
    Gradient,
    Graph,
    Memory,
    Node,
    Overwrite,
    SetGradient,
    Value,
    replace_inputs,
    replaced,
)
from .in_place import in_place
from .moments import moments
from .normalisation import layer_norms, softmaxes
from .regions import regions
from .row_blocks import row_blocks
from .views import views

__all__ = [
    "JOINT",
    "LARGE_PASSES",
    "PASSES",
    "common_subexpressions",
    "dead_code",
    "effects_last",
    "fold_constants",
]


def dead_code(graph: Graph) -> None:
    """Take out what nobody uses and what does nothing outside."""
    needed = set(graph.returned())
    kept: list[Node] = []
    # Memory inside of the program that somebody looks at behind this place.
    looked_at: set[Memory] = {v.memory for v in needed}
    for node in reversed(graph.nodes):
        if isinstance(node, Overwrite) and node.counts is None:
            wanted = node.inputs[0].memory in looked_at
        else:
            wanted = node.has_effect or any(v in needed for v in node.makes())
        if not wanted:
            if isinstance(node, Overwrite):
                node.inputs[0].memory.written -= 1
            continue
        if not (isinstance(node, Apply) and node.function.refuses):
            node.outputs = [v if v in needed else None for v in node.outputs]
        for v in node.reads():
            needed.add(v)
            looked_at.add(v.memory)
        kept.append(node)
    graph.nodes = kept[::-1]
    graph.values = [v for v in graph.values if v.kind == "argument" or _is_used(v, needed, graph)]


def _is_used(v: Value, needed: set[Value], graph: Graph) -> bool:
    return v in needed or any(v in _outside_of(node) for node in graph.nodes)


def _outside_of(node: Node) -> list[Value]:
    """The values whose Tensors a node works on by itself."""
    if isinstance(node, (Accumulate, Gradient, SetGradient)):
        return [node.leaf]
    if isinstance(node, Effect):
        return node.tensors
    if isinstance(node, Overwrite) and node.counts is not None:
        return [node.counts]
    return []


def common_subexpressions(graph: Graph) -> None:
    """Compute the same thing once."""
    known: dict[Any, Apply] = {}
    same: dict[Value, Value] = {}
    kept: list[Node] = []
    returned = set(graph.returned())
    for node in graph.nodes:
        replace_inputs(node, same)
        if isinstance(node, Effect):
            known.clear()  # it may write into what was read
        key = _key(node)
        earlier = known.get(key) if key is not None else None
        if earlier is None or not _may_share(node, earlier, returned):
            if key is not None:
                known[key] = node  # type: ignore[assignment]
            kept.append(node)
            continue
        for mine, theirs in zip(node.outputs, earlier.outputs, strict=True):
            if mine is not None:
                same[mine] = theirs  # type: ignore[assignment]
    graph.nodes = kept
    graph.result = replaced(graph.result, same)


def _key(node: Node) -> Any:
    """What two nodes have in common that compute the same; None if that cannot be said."""
    if not isinstance(node, Apply) or node.random:
        return None
    if any(v.memory.written for v in (*node.reads(), *node.makes())):
        return None
    try:
        key = (
            node.function,
            tuple(map(_named, node.inputs)),
            tuple((k, _named(x)) for k, x in node.attributes.items()),
            node.needs,
        )
        hash(key)
    except TypeError:
        return None
    return key


def _named(x: Any) -> Any:
    """``1``, ``1.0`` and ``True`` are equal, and not the same."""
    if isinstance(x, (tuple, list)):
        return type(x), tuple(map(_named, x))
    return x if isinstance(x, Value) else (type(x), x)


def _may_share(node: Node, earlier: Node, returned: set[Value]) -> bool:
    """Whether one result may stand for both: not if the caller gets it, and may write to it."""
    if len(node.outputs) != len(earlier.outputs):
        return False
    for mine, theirs in zip(node.outputs, earlier.outputs, strict=True):
        if mine is not None and (theirs is None or mine in returned or theirs in returned):
            return False
    return True


def fold_constants(graph: Graph) -> None:
    """Compute at once what depends on constants alone."""
    kept: list[Node] = []
    for node in graph.nodes:
        if not _is_constant(node):
            kept.append(node)
            continue
        ctx = node.function()
        ctx._edges = [True if x else None for x in node.needs]
        inputs = [x.content if isinstance(x, Value) else x for x in node.inputs]
        array = node.function.forward(ctx, *inputs, **node.attributes)
        (v,) = node.outputs
        v.kind, v.content, v.node = "constant", np.asarray(array), None
        graph.values.append(v)
    graph.nodes = kept


def _is_constant(node: Node) -> Any:
    return (
        isinstance(node, Apply)
        and not node.random
        and not node.several
        and len(node.outputs) == 1
        and node.outputs[0] is not None
        and not any(isinstance(x, Value) for x in node.attributes.values())
        and all(v.kind == "constant" and not v.memory.written for v in node.reads())
        and not node.outputs[0].memory.written
        and node.outputs[0].nbytes <= _LARGEST_CONSTANT
    )


#: A larger constant is cheaper to make anew than to keep.
_LARGEST_CONSTANT = 1 << 16


def effects_last(graph: Graph) -> None:
    """Do what is seen from outside at the end, so that a fault before leaves all as it was."""
    first: list[Node] = []
    last: list[Node] = []
    changed: set[Memory] = set()
    made_late: set[Value] = set()
    read_late: set[Memory] = set()
    random_late = False
    for node in graph.nodes:
        late = (
            _is_outside(node)
            or any(v in made_late or v.memory in changed for v in node.reads())
            or any(v.memory in read_late for v in node.writes())
            or (random_late and isinstance(node, Apply) and node.random)
        )
        if not late:
            first.append(node)
            continue
        last.append(node)
        changed.update(v.memory for v in node.writes())
        made_late.update(node.makes())
        read_late.update(v.memory for v in node.reads())
        random_late = random_late or (isinstance(node, Apply) and node.random)
    graph.nodes = first + last


def _is_outside(node: Node) -> bool:
    if isinstance(node, Overwrite):
        return node.counts is not None
    return isinstance(node, (Accumulate, Effect, Gradient, SetGradient))


#: Passes by name, in the order in which they run; then a small program becomes a native function.
PASSES: dict[str, Callable[[Graph], None]] = {
    "fold_constants": fold_constants,
    "common_subexpressions": common_subexpressions,
    "views": views,
    "softmaxes": softmaxes,
    "dead_code": dead_code,
    "effects_last": effects_last,
}
#: Those that go over a function and the derivative of its result together, before they are parted.
JOINT = ("fold_constants", "common_subexpressions", "dead_code")

#: Passes over what is too large for one.
LARGE_PASSES: dict[str, Callable[[Graph], None]] = {
    "layer_norms": layer_norms,
    "fold_batch_norm": fold_batch_norm,
    "row_blocks": row_blocks,
    "regions": regions,
    "epilogues": epilogues,
    "moments": moments,
    "gradient_sums": gradient_sums,
    "fuse": fuse,
    "in_place": in_place,
    "forget_early": forget_early,
}

"""The pass that takes out views of views.

A view copies nothing, but is a call. What is returned or written keeps its memory and strides:
a view is only replaced by one of the same memory that lies alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..functions.binary import Binary
from ..functions.matmul import MatMul
from ..functions.movement import Expand, Permute, Reshape, Squeeze, Transpose, Unsqueeze, ViewAs
from .arrays import stand_in
from .graph import Apply, Graph, Node, Value, replace_inputs

__all__ = ["views"]

_RESHAPES = (Reshape, Squeeze, Unsqueeze, ViewAs)
_ORDERS = (Transpose, Permute)
_VIEWS = (*_RESHAPES, *_ORDERS, Expand)


def views(graph: Graph) -> None:
    """Make one view of several, and none where an operator can do without."""
    same: dict[Value, Value] = {}
    known: dict[Any, Value] = {_place(v): v for v in graph.values}
    kept_as_they_are = set(graph.returned())
    for node in graph.nodes:
        if not isinstance(node, Apply):
            kept_as_they_are.update(node.reads())
    for node in graph.nodes:
        replace_inputs(node, same)
        if isinstance(node, Apply):
            _compose(node)
            _into_product(node)
            _into_binary(node)
            v = node.outputs[0] if _is_view(node) else None
            if v is not None and v not in kept_as_they_are and _place(v) in known:
                same[v] = known[_place(v)]
                continue
        for v in node.makes():
            known.setdefault(_place(v), v)
    _drop(graph, same)


def _drop(graph: Graph, same: dict[Value, Value]) -> None:
    """Take out the replaced views, and those that nobody reads any more."""
    graph.nodes = [n for n in graph.nodes if not any(v in same for v in n.makes())]
    uses = graph.uses()
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if _is_view(node) and not uses[node.outputs[0]]:  # type: ignore[index]
            uses.subtract(node.reads())
            continue
        kept.append(node)
    graph.nodes = kept[::-1]


def _place(v: Value) -> Any:
    """What two values have in common that are the same view of the same memory."""
    return v.memory, v.offset, v.shape, v.strides, v.dtype


def _is_view(node: Any) -> bool:
    """Whether all that a node does is to show its operand in another way."""
    if not isinstance(node, Apply) or node.function not in _VIEWS or len(node.outputs) != 1:
        return False
    (x,), (y,) = node.inputs, node.outputs
    return isinstance(x, Value) and y is not None and x.memory is y.memory


# Rules ------------------------------------------------------------------------------------


def _compose(node: Apply) -> None:
    """A view of a view, as one of what that shows."""
    while _is_view(node) and _is_view(node.inputs[0].node):
        inner = node.inputs[0].node
        (x,), (y,) = inner.inputs, node.outputs
        found = _composed(inner, node)
        if found is None:
            return
        function, attributes, show = found
        source = stand_in(x)
        shown = show(source)
        if shown.strides != y.strides or not np.may_share_memory(shown, source):
            return
        node.function, node.attributes, node.inputs = function, attributes, [x]


def _composed(inner: Apply, outer: Apply) -> tuple[Any, dict[str, Any], Callable[..., Any]] | None:
    """An operator that does both, its attributes, and what it does to an array."""
    y: Any = outer.outputs[0]
    if inner.function in _RESHAPES and outer.function in _RESHAPES:
        return Reshape, {"shape": y.shape}, lambda x: x.reshape(y.shape)
    if inner.function in _ORDERS and outer.function in _ORDERS:
        first = _order(inner)
        dims = tuple([first[d] for d in _order(outer)])
        return Permute, {"dims": dims}, lambda x: x.transpose(dims)
    return None


def _order(node: Apply) -> tuple[int, ...]:
    """Which dimension of the operand each dimension of the result is."""
    order = list(range(len(node.inputs[0].shape)))
    if node.function is Permute:
        return tuple([order[d] for d in node.attributes["dims"]])
    a, b = node.attributes["dim0"], node.attributes["dim1"]
    order[a], order[b] = order[b], order[a]
    return tuple(order)


def _into_product(node: Apply) -> None:
    """A product takes matrices that are transposed as they are."""
    if node.function is not MatMul:
        return
    for i, flag in enumerate(("transpose_x", "transpose_y")):
        source = node.inputs[i].node
        if not _is_view(source) or source.function not in _ORDERS:
            continue
        order = _order(source)
        n = len(order)
        if n >= 2 and order == (*range(n - 2), n - 1, n - 2):
            node.inputs[i] = source.inputs[0]
            node.attributes = node.attributes | {flag: not node.attributes.get(flag, False)}


def _into_binary(node: Apply) -> None:
    """Arithmetic repeats its operands by itself."""
    if not issubclass(node.function, Binary) or len(node.inputs) != 2:
        return
    for i, x in enumerate(node.inputs):
        source = x.node if isinstance(x, Value) else None
        if not _is_view(source) or source.function is not Expand:  # type: ignore[union-attr]
            continue
        other, narrow = node.inputs[1 - i], source.inputs[0]  # type: ignore[union-attr]
        # Beside a number, the shape would be lost.
        if (
            isinstance(other, Value)
            and other.dtype == narrow.dtype
            and np.broadcast_shapes(narrow.shape, other.shape) == x.shape
        ):
            node.inputs[i] = narrow

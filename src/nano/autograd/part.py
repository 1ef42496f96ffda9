"""The derivative of a part of a graph, from some tensors back to where the part begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..tensor import Tensor
from .engine import deliver, run_node
from .function import Function
from .grad_mode import no_grad

__all__ = ["gradients_within", "nodes_within"]

#: An edge of the graph: the node or the leaf that it leads to, and which output of it.
Edge = tuple[Any, int]


def nodes_within(tensors: Sequence[Tensor], inside: Callable[[Any], bool]) -> list[Function]:
    """The nodes for which ``inside`` holds, and all between them and ``tensors`` too."""
    found = list(dict.fromkeys(t._edge[0] for t in tensors if t._edge is not None))
    seen = set(found)
    for node in found:
        for edge in node._edges:
            if edge is not None and edge[0] not in seen and _is_node(edge, inside):
                seen.add(edge[0])
                found.append(edge[0])
    return found


def gradients_within(
    tensors: Sequence[Tensor], grads: Sequence[Tensor], inside: Callable[[Any], bool]
) -> dict[Edge, Tensor]:
    """The gradients that leave a part of the graph, by the edge on which they do.

    Nothing is freed, no hook is called, and no ``.grad`` changes.

    Args:
        tensors: where to start; nodes of the part have made them.
        grads: the gradient at each start.
        inside: whether a node belongs to the part.
    """
    waiting: dict[Any, int] = {}
    for node in nodes_within(tensors, inside):
        for edge in node._edges:
            if edge is not None and _is_node(edge, inside):
                waiting[edge[0]] = waiting.get(edge[0], 0) + 1
    pending: dict[Any, Any] = {}
    leaving: dict[Edge, Tensor] = {}
    starts: list[Any] = [t._edge for t in tensors]
    for edge, g in zip(starts, grads, strict=True):
        deliver(pending, edge, g)
    ready = [node for node in dict.fromkeys(edge[0] for edge in starts) if node not in waiting]
    with no_grad():
        while ready:
            node = ready.pop()
            g = pending.pop(node, None)
            gradients = (None,) * len(node._edges) if g is None else run_node(node, g)
            for edge, gradient in zip(node._edges, gradients, strict=False):
                if edge is None:
                    continue
                within = _is_node(edge, inside)
                if gradient is not None and within:
                    deliver(pending, edge, gradient)
                elif gradient is not None:
                    before = leaving.get(edge[:2])
                    leaving[edge[:2]] = gradient if before is None else before + gradient
                if within:
                    waiting[edge[0]] -= 1
                    if not waiting[edge[0]]:
                        ready.append(edge[0])
    return leaving


def _is_node(edge: Any, inside: Callable[[Any], bool]) -> bool:
    return edge[1] >= 0 and inside(edge[0])

"""The derivative of a function's results, traced right behind the function itself.

Who calls a compiled function may differentiate what it returns. So the gradients of all results
that have a history are carried back to where the function began, once, while it is watched; what
that computes are the last nodes of the graph. Nobody sees it: no hook runs, no ``.grad`` changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import Function
from ..autograd.part import Edge, gradients_within, nodes_within
from ..errors import GraphBreak
from ..functions.autocast import state as autocast_state
from ..random import default_generator
from ..tensor import Tensor, wrap
from .graph import Apply, Graph, Node, Overwrite, Value, replaced

__all__ = ["Derivative", "Joint", "Shown", "derive", "is_inside", "like", "settle_leaves"]


class Joint(NamedTuple):
    """The result of a graph with a derivative.

    Attributes:
        result: what the function returns, with Values and :class:`Shown` in place of Tensors.
        roots: the values that are differentiated.
        gradients: for each leaf its gradient.
    """

    result: Any
    roots: tuple[Value, ...]
    gradients: tuple[Value, ...]


class Shown(NamedTuple):
    """A result that shows the memory of another tensor, and has a history of its own.

    Attributes:
        base: what it is a view of: a root, an argument or a captured tensor.
        steps: what makes it of that, in order: operators, their keyword arguments, and which of
            their results it is, -1 if there is but one.
    """

    base: Value
    steps: tuple[tuple[type[Function], dict[str, Any], int], ...]


@dataclass(eq=False)
class Derivative:
    """The part of a graph that runs when its results are differentiated.

    Attributes:
        nodes: what it consists of.
        arrived: for each root, the value that stands for its gradient: an argument.
        leaves: the arguments and captured values at which gradients end.
    """

    nodes: set[Node]
    arrived: list[Value]
    leaves: list[Value]


def is_inside(node: Any, token: object) -> bool:
    """Whether a node of autograd was made in the run that has this token."""
    return getattr(node, "traced_by", None) is token


def derive(
    graph: Graph,
    returned: Sequence[tuple[Tensor, Value]],
    token: object,
    argument: Callable[[Tensor], Value],
    value_of: Callable[[Tensor], Value],
    leaf_at: Callable[[Edge], Value],
) -> None:
    """Trace the derivative of what is returned, and make the graph's result a :class:`Joint`.

    Args:
        returned: the Tensors that are returned and have a history in this run, each once, and
            their values.
        token: see :func:`is_inside`.
        argument: makes the value of a gradient that will be given.
        value_of: the value of a gradient.
        leaf_at: the value of the tensor to which an edge leads from the run.

    Raises:
        GraphBreak: if the derivative does what a program could not do.
    """
    roots: dict[Edge, tuple[Value, Any]] = {}
    shown: dict[Value, Any] = {}
    for t, v in returned:
        base, edge = v, t._edge
        if v.memory.outside or any(w.memory is v.memory for _, w in returned if w is not v):
            base, edge, steps = _base_of(v, edge, token)
            shown[v] = Shown(base, steps)
        if edge is not None and is_inside(edge[0], token):
            roots.setdefault(edge[:2], (base, edge))
    graph.result = replaced(graph.result, shown)
    starts = []
    for v, edge in roots.values():
        t = wrap(like(v))
        t._requires_grad, t._edge = True, edge
        starts.append(t)
    _refuse_hooks(starts, token)
    grads = [wrap(np.ones_like(t._data)) for t in starts]
    arrived = [argument(g) for g in grads]
    before = len(graph.nodes)
    leaving = _swept(starts, grads, token)
    leaves = {leaf_at(edge): value_of(g) for edge, g in leaving.items()}
    nodes = graph.nodes[before:]
    for node in nodes:
        _refuse(node, set(nodes))
    graph.derivative = Derivative(set(nodes), arrived, list(leaves))
    bases = tuple([v for v, _ in roots.values()])
    graph.result = Joint(graph.result, bases, tuple(leaves.values()))


def like(v: Value) -> NDArray:
    """A new array of the value's shape and dtype, without gaps, whose axes lie in its order."""
    order = sorted(range(len(v.shape)), key=lambda k: (-abs(v.strides[k]), k))
    places = sorted(range(len(order)), key=order.__getitem__)
    return np.empty([v.shape[k] for k in order], v.dtype).transpose(places)


def _base_of(v: Value, edge: Any, token: object) -> tuple[Value, Any, tuple[Any, ...]]:
    """What a result is a view of, the edge of that in the graph of autograd, and the steps."""
    steps: list[Any] = []
    while isinstance(v.node, Apply) and v.node.function.is_view and _shares(v, v.node):
        node = v.node
        same = edge is not None and type(edge[0]) is node.function and is_inside(edge[0], token)
        if not same or v.memory.written or node.reads_attributes():
            raise GraphBreak(
                "compile",
                "results that need gradients share memory in a way that a program cannot repeat.",
                facts=f"shape {v.shape} · made by {node.name} · at {node.line}",
                hint="Return a clone() of one of them.",
            )
        steps.append((node.function, node.attributes, edge[1] if node.several else -1))
        v, edge = node.inputs[0], edge[0]._edges[0]
    return v, edge, tuple(steps[::-1])


def _shares(v: Value, node: Apply) -> bool:
    return isinstance(node.inputs[0], Value) and node.inputs[0].memory is v.memory


def _refuse_hooks(starts: Sequence[Tensor], token: object) -> None:
    """Hooks would see the gradients of a trace, which mean nothing."""
    for node in nodes_within(starts, lambda n: is_inside(n, token)):
        kept = [r() for r in (node._retained or {}).values()]
        if any((node._tensor_hooks or {}).values()) or any(t is not None for t in kept):
            raise GraphBreak(
                "compile",
                "a tensor inside of the function has a hook, or retains its gradient, and the "
                "function's result may be differentiated outside.",
                facts=f"made by {node.name()} · at {getattr(node, 'traced_line', '')}",
                hint="Call backward() inside, or register the hook on what the function returns.",
            )


def _swept(starts: Sequence[Tensor], grads: Sequence[Tensor], token: object) -> dict[Edge, Tensor]:
    """Carry the gradients back, with random numbers and modes as they were behind it."""
    drawn = default_generator.get_state()
    low, autocast_state.dtype = autocast_state.dtype, None
    try:
        return gradients_within(starts, grads, lambda n: is_inside(n, token))
    except GraphBreak:
        raise
    except Exception as error:
        raise GraphBreak(
            "compile",
            "what the function returns cannot be differentiated.",
            facts=str(error).splitlines()[0],
            hint="Compute it under nano.no_grad(), or return tensor.detach().",
        ) from error
    finally:
        autocast_state.dtype = low
        default_generator.set_state(drawn)


def _refuse(node: Node, own: set[Node]) -> None:
    """Refuse what may not happen twice, or not at all."""
    if isinstance(node, Apply) and not node.random:
        return
    if isinstance(node, Overwrite) and node.counts is None and node.inputs[0].node in own:
        return
    raise GraphBreak(
        "compile",
        f"a derivative does more than to compute gradients: {node.name}.",
        facts=f"at {node.line or node.phase}",
        hint="Call backward() inside of the compiled function.",
    )


def settle_leaves(first: Graph, second: Graph) -> str:
    """Forget gradients for leaves that the function makes itself, in the second of two runs.

    Returns:
        Why no program can be made, for people; empty if one can.
    """
    if any(v.kind == "captured" for v in second.tied):
        return "a tensor from outside is changed in place to what needs gradients"
    returned = set(second.returned())
    for v, w in zip(first.values, second.values, strict=True):
        new = v.kind == "captured" and w.kind == "constant" and w in returned
        if new and v.content._requires_grad and v.content._edge is None:
            return "it returns a tensor that it makes with requires_grad=True"
    derivative = second.derivative
    if derivative is None:
        return ""
    result, roots, gradients = second.result
    kept = []
    for v, w, g in zip(first.derivative.leaves, derivative.leaves, gradients, strict=True):
        if w.kind == "argument" or v.content is w.content:
            kept.append((w, g))
        elif v.content._edge is not None:
            return f"a tensor {w.describe()} that needs gradients is another one in each run"
    if roots and not kept:
        return "it returns what needs gradients only for tensors that it makes itself"
    derivative.leaves = [w for w, _ in kept]
    second.result = Joint(result, roots, tuple([g for _, g in kept]))
    return ""

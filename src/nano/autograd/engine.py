"""The backward pass: Kahn's algorithm over the graph of Functions.

Source: A. B. Kahn, "Topological sorting of large networks", Communications of
the ACM 5(11), 1962. Every node waits until all who used its outputs have
delivered their gradients; then it runs once, and delivers to the nodes that
made its inputs. Nothing here recurses, however long the chain.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import GradientError, InputError, ShapeError, TypeMismatchError
from ..hook import Call, hooks, through_hooks
from ..storage import storage_of
from ..tensor import Tensor, wrap
from .function import AccumulateGrad, Function
from .grad_mode import mode
from .views import check_writeable

__all__ = ["backward", "clear_gradients", "deliver", "grad", "run_node"]

#: The tensors whose gradient is asked for, as edges (node, output number).
Captures = dict[tuple[Any, int], int]


class _Running(threading.local):
    """The node whose backward() runs in this thread; kept only while a hook looks on."""

    node: Function | None = None


running = _Running()


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of ``tensors`` to the ``.grad`` of the leaves they came from.

    Args:
        tensors: where to start.
        grad_tensors: the gradient at each start; may be left out for scalars, where it is 1.
        retain_graph: keep the graph, so that it can be gone through again.
        create_graph: record the backward pass too, for derivatives of the gradients.
        inputs: the only tensors whose ``.grad`` is wanted; all leaves if left out.

    Raises:
        RuntimeError: if a start is no scalar and has no gradient, needs no gradient,
            or its graph has been freed.
    """
    roots = _sequence(tensors)
    grads = _starting_gradients("backward", roots, grad_tensors)
    captures: Captures | None = None
    wanted: list[Tensor] = []
    if inputs is not None:
        wanted = _sequence(inputs)
        if not wanted:
            raise GradientError("backward", "inputs is empty: there is nothing to compute.")
        captures = {_place(t, "backward", i): i for i, t in enumerate(wanted)}
    keep = create_graph if retain_graph is None else retain_graph
    results = _sweep(roots, grads, keep, create_graph, captures, len(wanted))
    for t, g in zip(wanted, results, strict=True):
        if g is not None and not _is_retained(t):
            _accumulate(t, [g], create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``; no ``.grad`` is touched.

    Args:
        outputs: what to differentiate.
        inputs: with respect to what.
        grad_outputs: the gradient at each output; may be left out for scalars.
        retain_graph: keep the graph; by default as ``create_graph``.
        create_graph: record the backward pass too.
        only_inputs: always so; PyTorch keeps the name for old code.
        allow_unused: give None for an input that the outputs do not depend on,
            instead of an error.
        is_grads_batched: only False; nano has no vmap.
        materialize_grads: give zeros for such an input.

    Raises:
        RuntimeError: as :func:`backward`, and for an input that was not used.
        ValueError: if materialize_grads is True and allow_unused False.

    >>> x = nano.tensor(3.0, requires_grad=True)
    >>> (first,) = nano.autograd.grad(x**3, x, create_graph=True)
    >>> (second,) = nano.autograd.grad(first, x)
    >>> first.item(), second.item()
    (27.0, 18.0)
    """
    roots = _sequence(outputs)
    wanted = _sequence(inputs)
    if not wanted:
        raise GradientError("grad", "inputs is empty: there is nothing to compute.")
    if is_grads_batched:
        raise GradientError(
            "grad", "nano has no batched gradients.", hint="Call grad() once a gradient."
        )
    if materialize_grads and allow_unused is False:
        raise InputError("grad", "materialize_grads needs allow_unused to be True or left out.")
    grads = _starting_gradients("grad", roots, grad_outputs)
    captures: Captures = {}
    for i, t in enumerate(wanted):
        captures.setdefault(_place(t, "grad", i), i)
    keep = create_graph if retain_graph is None else retain_graph
    results = _sweep(roots, grads, keep, create_graph, captures, len(wanted))
    for i, t in enumerate(wanted):
        first = captures[_place(t, "grad", i)]
        results[i] = results[first]
        if results[i] is None and materialize_grads:
            results[i] = wrap(np.zeros_like(t._data))
        elif results[i] is None and not allow_unused:
            raise GradientError(
                "grad",
                f"input {i} was not used to compute the outputs.",
                hint="Pass allow_unused=True to get None for it.",
            )
    return tuple(results)


def _sequence(tensors: Any) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _place(t: Tensor, owner: str, position: int) -> tuple[Any, int]:
    """The place in the graph at which the gradient of ``t`` arrives."""
    if not t.requires_grad:
        raise GradientError(
            owner,
            f"tensor {position} does not require grad and does not have a grad_fn.",
            facts=f"shape {t.shape} · dtype {t.dtype}",
            hint="Make it with requires_grad=True, and compute outside of nano.no_grad().",
        )
    return (t, -1) if t._edge is None else t._edge[:2]


def _starting_gradients(owner: str, roots: list[Tensor], given: Any) -> list[Tensor]:
    """The gradient at each root: as given, or 1 for a scalar."""
    for i, t in enumerate(roots):
        if not isinstance(t, Tensor):
            raise TypeMismatchError(owner, f"expected Tensors, got {type(t).__name__}.")
        _place(t, owner, i)
    grads = [given] if given is None or isinstance(given, Tensor) else list(given)
    if given is None:
        grads = [None] * len(roots)
    if len(grads) != len(roots):
        raise GradientError(owner, f"got {len(roots)} tensors and {len(grads)} gradients for them.")
    result = []
    for t, g in zip(roots, grads, strict=True):
        if g is None:
            if t._data.size != 1:
                raise GradientError(
                    owner,
                    "grad can be implicitly created only for scalar outputs, "
                    f"this one has shape {t.shape}.",
                    hint="Reduce it first, e.g. t.sum(), or pass the gradient as an argument.",
                )
            g = wrap(np.ones_like(t._data))
        elif not isinstance(g, Tensor):
            raise TypeMismatchError(owner, f"expected a gradient Tensor, got {type(g).__name__}.")
        elif g.shape != t.shape:
            raise ShapeError(owner, f"the gradient has shape {g.shape}, the tensor {t.shape}.")
        elif g._data.dtype != t._data.dtype:
            g = g.to(t.dtype)
        result.append(g)
    return result


def _sweep(
    roots: list[Tensor],
    grads: list[Tensor],
    retain_graph: bool,
    create_graph: bool,
    captures: Captures | None,
    captured: int,
) -> list[Tensor | None]:
    """Carry the gradients from the roots to the leaves, or to the captured edges.

    They are added to ``.grad`` at the very end: a pass that fails changes no ``.grad``.
    """
    results: list[Tensor | None] = [None] * captured
    arrived: list[tuple[Tensor, list[Tensor]]] = []
    starts = [t._edge or (t, -1, t._data.shape) for t in roots]
    waiting = _count_consumers(starts)
    needed = None if captures is None else _leading_to(captures, starts, waiting)
    pending: dict[Any, Any] = {}
    for edge, g in zip(starts, grads, strict=True):
        if create_graph is False and g._requires_grad:
            g = g.detach()
        deliver(pending, edge, g)
    ready = []
    for target in dict.fromkeys(edge[0] for edge in starts):
        if waiting.get(target, 0) == 0:
            ready.append(target)

    before = mode.enabled
    mode.enabled = create_graph
    try:
        while ready:
            node = ready.pop()
            if isinstance(node, Tensor):
                if node in pending:
                    box = [pending.pop(node)]
                    _arrive_at_leaf(node, box)
                    if captures is None:
                        arrived.append((node, box))
                    elif (node, -1) in captures:
                        results[captures[node, -1]] = box[0]
                continue
            g = pending.pop(node, None)
            if node._tensor_hooks or node._retained:
                g = _run_tensor_hooks(node, g, arrived)
            if captures is not None:
                _capture(node, g, captures, results)
            input_grads = ()
            if g is not None and (needed is None or node in needed):
                input_grads = run_node(node, g)
                if not retain_graph:
                    node.release()
            g = None
            for i, edge in enumerate(node._edges):
                if edge is not None:
                    target = edge[0]
                    if input_grads:
                        gradient = input_grads[i]
                        if gradient is not None:
                            deliver(pending, edge, gradient)
                            gradient = None
                    count = waiting[target] = waiting[target] - 1
                    if count == 0:
                        ready.append(target)
            input_grads = ()
        for leaf, box in arrived:
            _accumulate(leaf, box, create_graph)
    finally:
        mode.enabled = before
    return results


def _count_consumers(starts: list[tuple[Any, int, Any]]) -> dict[Any, int]:
    """For every node and leaf that the starts lead to: how many edges end there."""
    waiting: dict[Any, int] = {}
    stack = list(dict.fromkeys(node for node, number, _ in starts if number >= 0))
    seen = set(stack)
    while stack:
        for edge in stack.pop()._edges:
            if edge is not None:
                target = edge[0]
                if target in waiting:
                    waiting[target] += 1
                else:
                    waiting[target] = 1
                    if edge[1] >= 0 and target not in seen:
                        seen.add(target)
                        stack.append(target)
    return waiting


def _leading_to(
    captures: Captures, starts: list[tuple[Any, int, Any]], waiting: dict[Any, int]
) -> set[Any]:
    """The nodes from which some captured edge can be reached: only these must run."""
    order = []
    left = dict(waiting)
    ready = [n for n in dict.fromkeys(s[0] for s in starts) if not left.get(n)]
    while ready:
        node = ready.pop()
        if isinstance(node, Tensor):
            continue
        order.append(node)
        for edge in node._edges:
            if edge is not None:
                left[edge[0]] -= 1
                if left[edge[0]] == 0:
                    ready.append(edge[0])
    needed: set[Any] = set()
    for node in reversed(order):
        if any(e is not None and (e[:2] in captures or e[0] in needed) for e in node._edges):
            needed.add(node)
    return needed


def deliver(pending: dict[Any, Any], edge: tuple[Any, int, Any], g: Tensor) -> None:
    """Add a gradient to what has arrived at the end of ``edge``."""
    target, number, _ = edge
    if number < 0 or target.outputs == 1:
        before = pending.get(target)
        pending[target] = g if before is None else before + g
        return
    slots = pending.get(target)
    if slots is None:
        slots = pending[target] = [None] * target.outputs
    slots[number] = g if slots[number] is None else slots[number] + g


def run_node(node: Function, g: Any) -> tuple[Any, ...]:
    """The gradients of a node's inputs."""
    if node.outputs == 1:
        gradients = (g,)
    else:
        gradients = tuple(g)
        if node._materialize_grads:
            gradients = tuple(
                [
                    wrap(np.zeros(shape, dtype)) if x is None else x
                    for x, (shape, dtype) in zip(gradients, node._output_meta, strict=True)
                ]
            )
    if hooks:
        outer, running.node = running.node, node
        try:
            result = through_hooks(
                node, gradients, {}, lambda: type(node).backward(node, *gradients)
            )
        finally:
            running.node = outer
    else:
        result = type(node).backward(node, *gradients)
    if type(result) is not tuple:
        result = (result,)
    return result if node._built_in else _checked(node, result)


def _checked(node: Function, result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Check what the backward() of a user's Function returned."""
    name, expected = node.name(), len(node._edges)
    if len(result) < expected or any(extra is not None for extra in result[expected:]):
        raise GradientError(
            name, f"backward returned {len(result)} gradients, expected {expected}: one an input."
        )
    for i, (edge, x) in enumerate(zip(node._edges, result[:expected], strict=True)):
        if edge is None or x is None:
            continue
        if not isinstance(x, Tensor):
            raise TypeMismatchError(
                name, f"backward must return Tensors or None, got {type(x).__name__} for input {i}."
            )
        if x.shape != edge[2]:
            raise GradientError(
                name, f"backward returned shape {x.shape} for input {i}, which has {edge[2]}."
            )
    return result


def _run_tensor_hooks(node: Function, g: Any, arrived: list[tuple[Tensor, list[Tensor]]]) -> Any:
    """Call the hooks of the node's output tensors, and note the gradients to be retained."""
    slots = [g] if node.outputs == 1 or g is None else g
    for number, own in (node._tensor_hooks or {}).items():
        if number < len(slots) and slots[number] is not None:
            slots[number] = _through(own, slots[number])
    for number, reference in (node._retained or {}).items():
        t = reference()
        if t is not None and number < len(slots) and slots[number] is not None:
            arrived.append((t, [slots[number]]))
    return slots[0] if node.outputs == 1 or g is None else slots


def _is_retained(t: Tensor) -> bool:
    """Whether the sweep itself leaves the gradient of ``t`` in its ``.grad``."""
    kept = None if t._edge is None else t._edge[0]._retained
    return bool(kept) and t._edge[1] in kept and kept[t._edge[1]]() is t  # type: ignore[index]


def _through(hooks: dict[int, Any], g: Tensor) -> Tensor:
    for hook in list(hooks.values()):
        answer = hook(g)
        if answer is not None:
            if not isinstance(answer, Tensor):
                raise TypeMismatchError(
                    "register_hook",
                    f"a hook must return None or a Tensor, got {type(answer).__name__}.",
                )
            if answer.shape != g.shape:
                raise GradientError(
                    "register_hook",
                    f"a hook must return a gradient of shape {g.shape}, got {answer.shape}.",
                )
            g = answer
    return g


def _capture(node: Any, g: Any, captures: Captures, results: list[Tensor | None]) -> None:
    """Keep the gradients of the node's outputs that were asked for."""
    if g is None:
        return
    for number, x in enumerate((g,) if node.outputs == 1 else g):
        position = captures.get((node, number))
        if position is not None:
            results[position] = x


def _arrive_at_leaf(leaf: Tensor, box: list[Tensor]) -> None:
    """Check the gradient of a leaf and call the leaf's hooks; ``box`` is all that holds it."""
    if box[0]._data.shape != leaf._data.shape:
        raise GradientError(
            "backward",
            f"a gradient of shape {box[0].shape} arrived at a leaf of shape {leaf.shape}.",
        )
    if leaf._hooks:
        box[0] = _through(leaf._hooks, box[0])


def _accumulate(t: Tensor, box: list[Tensor], create_graph: bool) -> None:
    """``t.grad += box[0]``, which is all that holds the gradient."""
    if hooks:
        through_hooks(AccumulateGrad(t), (box[0],), {}, lambda: _add_to_grad(t, box, create_graph))
    else:
        _add_to_grad(t, box, create_graph)


def _add_to_grad(t: Tensor, box: list[Tensor], create_graph: bool) -> None:
    if box[0]._data.dtype is not t._data.dtype and box[0]._data.dtype != t._data.dtype:
        box[0] = box[0].to(dtypes.from_numpy_dtype(t._data.dtype))
    if t._grad is None:
        if create_graph:
            t._grad = box[0].clone()
        elif _holds_alone(box):
            t._grad = box[0]
        else:
            t._grad = wrap(box[0]._data.copy())
    elif create_graph:
        t._grad = t._grad + box[0]
    else:
        into = t._grad
        if 0 in into._data.strides:
            check_writeable("backward", into._data)
        np.add(into._data, box[0]._data, out=into._data)
        storage = storage_of(into)
        storage.version += 1
        storage.changed_by = "AccumulateGrad"


def clear_gradients(tensors: Sequence[Tensor], set_to_none: bool = True) -> None:
    """Let every tensor forget its gradient, or set it to zero."""
    if hooks and set_to_none:
        call = Call("zero_grad", "clear", lambda: _forget(tensors))
        through_hooks(call, tuple(tensors), {}, call.function)
    elif set_to_none:
        _forget(tensors)
    else:
        for t in tensors:
            if t._grad is not None:
                t.grad = t.grad.detach().zero_()  # not _grad: hooks see it so


def _forget(tensors: Sequence[Tensor]) -> None:
    for t in tensors:
        t._grad = None


def _holds_alone(box: list[Tensor]) -> bool:
    """Whether nobody else can see this gradient's memory, so that ``.grad`` may keep it.

    A gradient may reach two leaves (``a + b`` hands on what it gets), or be a saved
    tensor; adding to ``.grad`` later must not change those. Two references mean
    one from the box (or the tensor) and one from the call itself.
    """
    return (
        sys.getrefcount(box[0]) == 2
        and sys.getrefcount(box[0]._data) == 2
        and box[0]._data.base is None
    )

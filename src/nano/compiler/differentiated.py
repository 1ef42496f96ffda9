"""Programs whose results are differentiated by the caller: one forward, one backward.

A graph with a derivative (see :mod:`joint`) is parted in two. The forward program gives the
results, and what the backward program will read of what was computed; all results hang on one
node of autograd, which keeps that until ``backward()`` comes. Nothing is computed twice.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd.function import Function, as_saved
from ..autograd.grad_mode import enable_grad, mode
from ..errors import GradientError
from ..functions.binary import Add
from ..tensor import Tensor, wrap
from .graph import Apply, Graph, Memory, Node, Value, replace_inputs, replaced
from .joint import Shown, like
from .program import Program

__all__ = ["CompiledFunction", "CompiledFunctionGradient", "Differentiated"]

#: Makes a program of a graph, and notes what each pass has made of it.
Maker = Callable[[Graph, list[tuple[str, str]]], Program]


class Differentiated:
    """A graph with a derivative as programs that can be called.

    Attributes:
        graph: of the forward program.
        history: of its graph, that of the backward program with it at first.
        run: takes the Tensors among the arguments, in order; returns what the traced function
            returned, with new Tensors, whose history is one :class:`CompiledFunction`.
    """

    def __init__(self, graph: Graph, make: Maker, history: list[tuple[str, str]]) -> None:
        derivative = graph.derivative
        self.result, self.roots, gradients = graph.result
        self._make = make
        late = [n for n in graph.nodes if n in derivative.nodes]
        theirs = {*derivative.arrived, *(v for n in late for v in n.makes())}
        read = [v for n in late for v in n.reads()]
        views, needed = _bases([v for v in (*read, *gradients) if v not in theirs])
        #: Tensors from outside that the derivative reads, and what the forward program keeps.
        self._lasting = [v for v in needed if v.kind in ("argument", "captured")]
        #: The arrays of captured ones, which the backward program may know by their address.
        self._arrays = [
            weakref.ref(v.content._data) if v.kind == "captured" else None for v in self._lasting
        ]
        self._kept = [v for v in needed if _is_made(v)]
        others = dict.fromkeys(_values_of(self.result))
        self._others = [v for v in others if v not in self.roots]
        self._leaves = derivative.leaves
        self._back = _backward_graph(graph, needed, views, gradients)
        #: By which gradients have arrived: the program, and the places of its arguments.
        self._programs: dict[tuple[bool, ...], Program] = {}
        #: Whether a gradient lay otherwise in memory than when it was traced.
        self._moved = False
        graph.nodes = [n for n in graph.nodes if n not in derivative.nodes]
        graph.values = [v for v in graph.values if v not in derivative.arrived]
        graph.result = (*self.roots, *self._others, *self._kept)
        graph.derivative = None
        self._forward = make(graph, history)
        self.forward = self._forward.run
        self.graph = graph
        self.history = history
        self._build = _builder(self.result, [*self.roots, *self._others])

    def run(self, *tensors: Tensor) -> Any:
        """Run the forward program, and tie the results to what they were computed from."""
        if not self.roots:  # all are views of tensors from outside
            return self._build(list(self.forward(*tensors)))
        given = [_tensor(v, tensors) for v in self._leaves]
        outputs = CompiledFunction.apply(*given, program=self, tensors=tensors)
        node = outputs[0]._edge[0]
        made = node.made
        del node.made
        ends = len(outputs), len(outputs) + len(self._others)
        for number, (t, inner) in enumerate(zip(outputs, made, strict=False)):
            if inner._storage is not None:  # another result shows its memory
                t._storage = inner._storage
                node._output_storages = {**node._output_storages, number: t._storage}
        node._saved = [as_saved(_tensor(v, tensors)) for v in self._lasting]
        places = {v: i for i, v in enumerate(self.roots)}
        for v, t in zip(self._kept, made[ends[1] :], strict=True):
            number = places.get(v, -1)
            node._saved.append(as_saved(t) if number < 0 else (t._data, number))
        return self._build([*outputs, *made[ends[0] : ends[1]]])

    @property
    def parts(self) -> tuple[Program, ...]:
        """The programs: forward, and backward for gradients of all results."""
        return self._forward, self._program((True,) * len(self.roots))

    @property
    def source(self) -> str:
        """The text of both."""
        return "\n\n".join(p.source for p in self.parts)

    @property
    def native(self) -> str:
        """The text of the native functions that they call, if they do."""
        return "\n\n".join(filter(None, [p.native for p in self.parts]))

    @property
    def exact(self) -> bool:
        """Whether all that has run so far gives bit for bit what the function gives.

        Where a gradient was laid out anew, sums over it are done in another order.
        """
        return not self._moved and all(p.exact for p in (self._forward, *self._programs.values()))

    def gradients(self, grads: Sequence[Tensor | None], saved: Sequence[Tensor]) -> list[Any]:
        """Run the backward program.

        Args:
            grads: for each output its gradient, or None if there came none.
            saved: the tensors that the node kept.

        Returns:
            For each leaf its gradient, or None.
        """
        given = [t for v, t in zip(self._lasting, saved, strict=False) if v.kind == "argument"]
        given += saved[len(self._lasting) :]
        for v, g in zip(self.roots, grads, strict=True):
            if g is not None:
                given.append(_laid_out(g, v))
                self._moved = self._moved or given[-1] is not g
        there = tuple([g is not None for g in grads])
        if self._lie_as_traced(saved):
            program = self._program(there)
        else:  # ``.data`` has been replaced since: operator after operator takes it as it is
            program = Program(self._derivative(there), "derivative")
        return program.run(*given)

    def _lie_as_traced(self, saved: Sequence[Tensor]) -> bool:
        """Whether the tensors from outside still have the memory that the programs are made for."""
        for v, kept, t in zip(self._lasting, self._arrays, saved, strict=False):
            x = t._data
            if kept is not None:
                if kept() is not x:
                    return False
            elif x.shape != v.shape or x.strides != v.strides or x.dtype != v.dtype:
                return False
        return True

    def _program(self, there: tuple[bool, ...]) -> Program:
        """The backward program for those gradients that have arrived."""
        program = self._programs.get(there)
        if program is None:
            graph = self._derivative(there)
            program = self._programs[there] = self._make(graph, [("derivative", str(graph))])
        return program

    def _derivative(self, there: tuple[bool, ...]) -> Graph:
        """The graph of the backward program for those gradients that have arrived."""
        graph = _extracted(self._back.values, self._back.nodes, self._back.result, {}, {})
        arrived = graph.values[-len(there) :]
        absent = {v for v, here in zip(arrived, there, strict=True) if not here}
        if absent:
            _leave_out(graph, arrived, absent)
        return graph


class CompiledFunction(Function):
    """The results of a forward program; the derivative is the backward program."""

    @staticmethod
    def forward(ctx: Any, *arrays: Any, program: Differentiated, tensors: Any) -> Any:
        ctx.set_materialize_grads(False)
        ctx.program = program
        ctx.made = program.forward(*tensors)
        return tuple([t._data for t in ctx.made[: len(program.roots)]])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        saved = ctx.saved_tensors
        if not mode.enabled:
            return tuple(ctx.program.gradients(grad_outputs, saved))
        # The derivative depends on what the results do, and on the gradients.
        given = [g for g in grad_outputs if g is not None]
        run = _Once(ctx.program, grad_outputs, saved)
        made = iter(CompiledFunctionGradient.apply(*given, *map(_tail, ctx._edges), run=run))
        return tuple([next(made) if here else None for here in run.there])

    def name(self) -> str:
        """As PyTorch writes it."""
        return "CompiledFunctionBackward"


class CompiledFunctionGradient(Function):
    """The gradients of a forward program, recorded (``create_graph``); it has no derivative."""

    @staticmethod
    def forward(ctx: Any, *arrays: Any, run: _Once) -> Any:
        return run()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise GradientError(
            "compile",
            "a compiled function does not currently support double backward.",
            hint="Take the first gradient inside of the function, or run it uncompiled.",
        )

    def name(self) -> str:
        """As PyTorch writes it."""
        return "CompiledFunctionBackwardBackward"


class _Once:
    """A run of a backward program, and for which leaves there were gradients."""

    def __init__(self, program: Differentiated, grads: Any, saved: Any) -> None:
        self._given = program, grads, saved
        self.there: list[bool] = []

    def __call__(self) -> tuple[Any, ...]:
        program, grads, saved = self._given
        found = program.gradients(grads, saved)
        self.there = [g is not None for g in found]
        return tuple([g._data.view() for g in found if g is not None])


def _tail(edge: Any) -> Tensor:
    """A Tensor from which an edge comes: the leaf, or one like that which the node made."""
    if edge[1] < 0:
        return edge[0]
    t = wrap(np.empty(0))
    t._requires_grad, t._edge = True, edge
    return t


def _laid_out(g: Tensor, v: Value) -> Tensor:
    """A gradient that lies in memory as it did when it was traced."""
    expected = like(v)
    if g._data.strides == expected.strides and g._data.dtype == expected.dtype:
        return g
    np.copyto(expected, g._data, casting="unsafe")
    return wrap(expected)


def _tensor(v: Value, tensors: Sequence[Tensor]) -> Tensor:
    """The Tensor of an argument or a captured value."""
    return tensors[v.content] if v.kind == "argument" else v.content


def _is_made(v: Value) -> bool:
    """Whether a value is another one in each run, and no Tensor from outside."""
    return v.kind == "result" or (v.kind == "constant" and v.memory.written > 0)


# Results ---------------------------------------------------------------------------------


def _values_of(result: Any) -> list[Value]:
    """The values in a nest of results, and those that are shown."""
    if isinstance(result, Shown):
        return [result.base]
    if isinstance(result, Value):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    return [v for x in result for v in _values_of(x)] if isinstance(result, (tuple, list)) else []


def _builder(result: Any, values: list[Value]) -> Callable[[list[Any]], Any]:
    """What makes the result of the Tensors of these values."""
    if isinstance(result, Value):
        place = values.index(result)
        return lambda made: made[place]
    if isinstance(result, Shown):
        base, steps = values.index(result.base), result.steps
        return lambda made: _show(made[base], steps)
    if isinstance(result, dict):
        table = {k: _builder(x, values) for k, x in result.items()}
        return lambda made: {k: build(made) for k, build in table.items()}
    if isinstance(result, (tuple, list)):
        parts = [_builder(x, values) for x in result]
        kind: Any = type(result)
        if hasattr(kind, "_fields"):
            return lambda made: kind(*[build(made) for build in parts])
        return lambda made: kind([build(made) for build in parts])
    return lambda made: result


def _show(t: Tensor, steps: Any) -> Tensor:
    """A view of ``t``, made anew so that it has the history of one."""
    with enable_grad():
        for function, attributes, number in steps:
            t = function.apply(t, **attributes)
            t = t if number < 0 else t[number]  # type: ignore[index]
    return t


# Graphs ----------------------------------------------------------------------------------


def _extracted(
    values: Sequence[Value],
    nodes: Sequence[Node],
    result: Any,
    twins: dict[Value, Value],
    memories: dict[Memory, Memory],
) -> Graph:
    """A graph of copies of these nodes, which share nothing with the others.

    Args:
        values: what no node makes; arguments are numbered anew, in this order.
        twins, memories: the copies that there are; the others are added.
    """
    graph = Graph()

    def memory(old: Memory) -> Memory:
        new = memories.get(old)
        if new is None:
            new = memories[old] = Memory(old.outside)
            new.written = old.written
        return new

    def twin(v: Value, kind: str, content: Any) -> Value:
        w = twins[v] = Value(v.number, kind, content, v, memory(v.memory), v.offset)
        graph._count = max(graph._count, v.number + 1)
        return w

    arguments = 0
    for v in values:
        kept = v.kind in ("captured", "constant") and not (v.kind == "constant" and _is_made(v))
        graph.values.append(twin(v, v.kind if kept else "argument", v.content))
        if not kept:
            graph.values[-1].content = arguments
            arguments += 1
    for node in nodes:
        new = copy.copy(node)
        new.inputs = list(node.inputs)
        new.outputs = []
        replace_inputs(new, twins)
        for v in node.outputs:
            made = None if v is None else twin(v, "result", None)
            if made is not None:
                made.node = new
            new.outputs.append(made)
        graph.nodes.append(new)
    graph.result = replaced(result, twins)
    return graph


def _bases(needed: Sequence[Value]) -> tuple[set[Node], list[Value]]:
    """What needed values are views of, each once, and the nodes that make these views.

    To keep a base is enough: its views cost nothing. So those of parameters need not be kept.
    """
    views: set[Node] = set()
    bases: dict[Value, None] = {}
    for v in needed:
        node = v.node
        while _is_plain_view(v, node):
            views.add(node)
            v = node.inputs[0]
            node = v.node
        bases[v] = None
    return views, list(bases)


def _is_plain_view(v: Value, node: Any) -> bool:
    return (
        isinstance(node, Apply)
        and node.function.is_view
        and isinstance(node.inputs[0], Value)
        and node.inputs[0].memory is v.memory
        and not v.memory.written
    )


def _backward_graph(
    graph: Graph, needed: Sequence[Value], views: set[Node], gradients: Any
) -> Graph:
    """The derivative of a joint graph, as one of its own.

    Its arguments are the arguments and the results of the function that it reads, and the
    gradients that arrive.
    """
    derivative = graph.derivative
    # Nobody may write into what is kept, or give it away: backward() may come twice.
    memories = {v.memory: Memory(outside=v.kind != "constant" or _is_made(v)) for v in needed}
    order = sorted(needed, key=_is_made)
    nodes = [n for n in graph.nodes if n in derivative.nodes or n in views]
    return _extracted([*order, *derivative.arrived], nodes, list(gradients), {}, memories)


def _leave_out(graph: Graph, arrived: Sequence[Value], absent: set[Value]) -> None:
    """Leave out what would be computed from gradients that have not arrived.

    Derivatives are linear: a sum is its other part, and where zeros are as good, they are taken.
    """
    depends = set(arrived)
    same: dict[Value, Value] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        replace_inputs(node, same)
        own = [v for v in node.reads() if v in depends]
        missing = [v for v in own if v in absent]
        if own:
            depends.update(node.makes())
        if missing and isinstance(node, Apply):
            if len(missing) == len(own):
                absent.update(node.makes())
                continue
            (other, *more) = [v for v in own if v not in absent]
            (made, *_) = node.makes()
            if node.function is Add and not more and other.shape == made.shape:
                same[made] = other
                continue
        if missing:
            replace_inputs(node, {v: _zeros(graph, v) for v in missing})
        kept.append(node)
    graph.nodes = kept
    graph.values = [v for v in graph.values if v not in absent]
    graph.result = [None if g in absent else replaced(g, same) for g in graph.result]


def _zeros(graph: Graph, v: Value) -> Value:
    """Zeros in place of a value."""
    array = like(v)
    array[...] = 0
    return graph.value("constant", array, array)

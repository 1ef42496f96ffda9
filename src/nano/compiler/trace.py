"""Tracing: run a function once, and write down what happens to tensors.

All of it passes through the one hook; :mod:`recognise` tells which arrays were seen before.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import AccumulateGrad, Function
from ..errors import GraphBreak
from ..functions.conversion import Clone
from ..hook import Call, Read, Write, add_hook, remove_hook
from ..tensor import Tensor
from .compare import Reading
from .differentiated import CompiledFunction, CompiledFunctionGradient
from .graph import (
    Accumulate,
    Apply,
    Effect,
    Graph,
    Hidden,
    Memory,
    Overwrite,
    SetGradient,
    Value,
    owner_of,
)
from .joint import derive, is_inside
from .recognise import Recognition
from .settle import settle
from .trees import map_leaves

__all__ = ["Trace", "trace"]

#: Where nobody's own lines are: in nano, NumPy and the module ``copy``.
_NOT_THE_USERS = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(np.__file__) + os.sep,
    copy.__file__,
)
#: Attributes of a context that are its own, not left there by ``forward``.
_OWN = {"_saved", "_edges", "_non_differentiable", "_output_storages", "_output_meta"}


class Trace:
    """What one run of a function has shown.

    Attributes:
        graph: what was computed.
        modules: the modules that were called, in order, each once.
        readings: reads of tensors that may have been there before, or made in this run.
        result: what the function returned in this run.
        broken: the first thing that a program could not do again, if that is to be no error.
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.modules: list[Any] = []
        self.readings: list[Reading] = []
        self.result: Any = None
        self.broken: GraphBreak | None = None


def trace(
    function: Callable[..., Any],
    args: Any,
    kwargs: Any,
    tensors: list[Tensor],
    tolerant: bool = False,
) -> Trace:
    """Run ``function(*args, **kwargs)`` and write down what happens.

    Args:
        tensors: all Tensors among the arguments, each once.
        tolerant: go on running, and only note it, if it does something that a program cannot
            do again.

    Raises:
        GraphBreak: if it does, and ``tolerant`` is not set.
    """
    tracer = _Tracer(tensors, tolerant)
    add_hook(tracer)
    try:
        return tracer.finish(function(*args, **kwargs))
    finally:
        remove_hook(tracer)


def _nothing() -> None:
    """Stands for a call that no program makes."""


class _Place:
    """Where a run is.

    Attributes:
        node: the node of autograd whose derivative runs, or None.
    """

    node: Function | None = None

    def line(self) -> str:
        """The user's line that runs; of a derivative, that of its operator."""
        if self.node is not None:
            return getattr(self.node, "traced_line", "")
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
            frame = frame.f_back  # type: ignore[assignment]
        return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _Tracer:
    """The hook: writes down what passes through it in this thread."""

    def __init__(self, tensors: Iterable[Tensor], tolerant: bool) -> None:
        self.found = Trace()
        self._tolerant = tolerant
        self.graph = self.found.graph
        self._thread = threading.get_ident()
        self._inside = False
        self._at = _Place()
        #: What memory from outside held before it was first written.
        self._before: dict[Memory, tuple[Value, NDArray]] = {}
        self._differentiated: set[Function] = set()
        self._modules: set[int] = set()
        self.known = Recognition(self.graph, tensors, self._at.line)
        #: Marks the nodes of autograd that the run makes.
        self._token = object()
        self._edges = [t._edge for t in self.known.tensors]

    def __call__(
        self,
        what: Any,
        inputs: tuple[Any, ...],
        attributes: dict[str, Any],
        proceed: Callable[[], Any],
    ) -> Any:
        if self._inside or threading.get_ident() != self._thread or self.found.broken:
            return proceed()
        ran: list[Any] = []

        def once() -> Any:
            ran.append(proceed())
            return ran[0]

        try:
            return self._note(what, inputs, attributes, once)
        except GraphBreak as error:
            if not self._tolerant:
                raise
            self.found.broken = error
            return ran[0] if ran else proceed()

    def _note(
        self,
        what: Any,
        inputs: tuple[Any, ...],
        attributes: dict[str, Any],
        proceed: Callable[[], Any],
    ) -> Any:
        """Write down what passes."""
        if isinstance(what, type):
            return self._operator(what, inputs, attributes, proceed)
        if isinstance(what, (CompiledFunction, CompiledFunctionGradient)):
            raise GraphBreak(
                "compile",
                "it goes back through what another compiled function has returned.",
                facts=f"at {self._at.line()}",
                hint="Call that function inside of this one.",
            )
        if isinstance(what, Function):
            outer, self._at.node = self._at.node, what
            self._differentiated.add(what)
            try:
                return proceed()
            finally:
                self._at.node = outer
        if isinstance(what, AccumulateGrad):
            return self._arrived(what.variable, inputs[0], proceed)
        if isinstance(what, Write):
            return self._written(what, inputs, proceed)
        if isinstance(what, Read):
            return self._read(what, inputs, proceed)
        if isinstance(what, Call):
            return self._called(what, inputs, proceed)
        if id(what) not in self._modules:
            self._modules.add(id(what))
            self.found.modules.append(what)
        return proceed()

    # What passes ------------------------------------------------------------------------

    def _operator(
        self,
        function: type[Function],
        inputs: tuple[Any, ...],
        attributes: dict[str, Any],
        proceed: Callable[[], Any],
    ) -> Any:
        line = self._at.line()
        given = [self.known.value(x) for x in inputs]
        named = {
            k: None if k in function.momentary else self.known.attribute(function, x)
            for k, x in attributes.items()
        }
        self._inside = True
        try:
            outputs = proceed()
        finally:
            self._inside = False
        made = outputs if type(outputs) is tuple else (outputs,)
        node = Apply(
            function=function,
            inputs=given,
            attributes=named,
            line=line,
            phase="" if self._at.node is None else Function.name(self._at.node),
            count=len(made),
            several=type(outputs) is tuple,
            random=function.random,
        )
        self.graph.nodes.append(node)
        context = next((t._edge[0] for t in made if t._edge is not None), None)
        if isinstance(context, function):
            node.needs = context.needs_input_grad
            context.traced_line = line  # type: ignore[attr-defined]
            context.traced_by = self._token  # type: ignore[attr-defined]
        else:
            node.needs = (False,) * len(inputs)
        for t in made:
            node.outputs.append(self.known.made(node, t._data))
        if isinstance(context, function):
            self._find_hidden(node, context)
        return outputs

    def _find_hidden(self, node: Apply, context: Any) -> None:
        """Give names to the arrays that ``forward`` has left for the derivative."""
        places = [(Hidden(True, i), x) for i, x in enumerate(context._saved or ())]
        places += [(Hidden(False, k), x) for k, x in vars(context).items() if k not in _OWN]
        for place, x in places:
            parts = [(place, x)]
            if isinstance(x, (list, tuple)) and not place.saved:
                parts = [(Hidden(False, (place.key, i)), y) for i, y in enumerate(x)]
            for part, y in parts:
                if isinstance(y, np.ndarray) and self.known.arrays.known(y) is None:
                    node.hidden.append(part)
                    node.outputs.append(self.known.made(node, y))

    def _written(self, what: Write, inputs: Any, proceed: Callable[[], Any]) -> Any:
        t, source = inputs
        target = self.known.value(t)
        memory = target.memory
        leaf = self.known.leaves.get(memory)
        counts = leaf
        if leaf is None and memory.outside:
            counts = self.known.counting(t, memory)
            if counts.kind == "captured" and memory not in self._before:
                self._before[memory] = counts, counts.content._data.copy(order="K")
        memory.written += 1
        self.graph.nodes.append(
            Overwrite(
                writer=what.name,
                inputs=[target, self.known.value(source)],
                counts=counts,
                of_gradient=leaf is not None,
                line=self._at.line(),
            )
        )
        return proceed()

    def _arrived(self, leaf: Tensor, gradient: Tensor, proceed: Callable[[], Any]) -> Any:
        if leaf._edge is not None:
            return self._retained(leaf, gradient, proceed)
        node = Accumulate(leaf=self.known.itself(leaf), inputs=[self.known.value(gradient)])
        node.line = self._at.line()
        self.graph.nodes.append(node)
        answer = proceed()
        self.known.note_gradient(leaf, node.leaf)
        return answer

    def _retained(self, t: Tensor, gradient: Tensor, proceed: Callable[[], Any]) -> Any:
        """The gradient of a tensor inside of the graph: another result."""
        if t._grad is not None:
            raise GraphBreak(
                "compile",
                "a gradient is added to the .grad of a tensor that is no leaf.",
                facts=f"at {self._at.line()} · shape {t.shape}",
                hint="Ask for the gradients with nano.autograd.grad().",
            )
        value = self.known.value(gradient)
        answer = proceed()
        if self.known.arrays.known(t._grad._data) is None:  # type: ignore[union-attr]
            node = Apply(function=Clone, inputs=[value], needs=(False,), line=self._at.line())
            self.graph.nodes.append(node)
            node.outputs.append(self.known.made(node, t._grad._data))  # type: ignore[union-attr]
        return answer

    def _called(self, what: Call, inputs: Any, proceed: Callable[[], Any]) -> Any:
        if what.kind == "replace":
            raise GraphBreak(
                "compile",
                "a tensor is given other memory, which a compiled program would not see.",
                facts=f"at {self._at.line()} · shape {inputs[0].shape}",
                hint="Write into the memory that it has, with copy_().",
            )
        if what.kind == "set":
            return self._gradient_set(*inputs, proceed)
        if what.kind == "clear":
            self.known.keep_cleared(inputs)
        tensors = [self.known.itself(t) for t in inputs]
        if what.kind != "clear" and any(v.kind == "argument" for v in tensors):
            raise GraphBreak(
                "compile",
                f"{what.name}() works on an argument: the next time it would be another tensor.",
                facts=f"at {self._at.line()}",
                hint="Let the function find the parameters elsewhere, in a closure.",
            )
        call = what
        if what.kind == "clear":  # which a program does by itself: what it calls holds the leaves
            call = Call(what.name, what.kind, _nothing, what.tensors)
        node = Effect(call=call, tensors=tensors, line=self._at.line())
        self.graph.nodes.append(node)
        self._inside = True
        try:
            answer = proceed()
        finally:
            self._inside = False
        for leaf, value in zip(inputs, tensors, strict=True):
            self.known.note_gradient(leaf, value)
        if isinstance(answer, Tensor):
            node.outputs.append(self.known.made(node, answer._data))
        return answer

    def _gradient_set(self, leaf: Tensor, gradient: Tensor, proceed: Callable[[], Any]) -> Any:
        node = SetGradient(leaf=self.known.itself(leaf), inputs=[self.known.value(gradient)])
        node.line = self._at.line()
        node.inputs[0].memory.written += 1
        self.graph.nodes.append(node)
        answer = proceed()
        self.known.note_gradient(leaf, node.leaf)
        return answer

    def _read(self, what: Read, inputs: Any, proceed: Callable[[], Any]) -> Any:
        if what.name == "grad":
            (leaf,) = inputs
            if leaf._edge is None and leaf._grad is not None:
                self.known.note_gradient(leaf, self.known.itself(leaf))
                self.known.value(leaf._grad)
            return proceed()
        for t in inputs:
            error = GraphBreak(
                "compile",
                f"{what.name}() reads the values of a tensor, which a compiled program does "
                "not know before it runs.",
                facts=f"at {self._at.line()} · shape {t.shape}",
                hint="Return the tensor and read it outside, or say "
                "nano.compile(fn, fallback=True).",
            )
            if self.known.find(t._data) is not None or self.known.is_gradient(t):
                raise error
            self.found.readings.append(Reading(weakref.ref(owner_of(t._data)), error))
        return proceed()

    # The end ----------------------------------------------------------------------------

    def finish(self, result: Any) -> Trace:
        """Note what is returned; tell constants that are written from captured tensors."""
        self.found.result = result
        if self.found.broken:
            return self.found
        try:
            self._end(result)
        except GraphBreak as error:
            if not self._tolerant:
                raise
            self.found.broken = error
        return self.found

    def _end(self, result: Any) -> None:
        returned: dict[int, tuple[Tensor, Value]] = {}

        def value(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            v = self.known.result(x)
            if self._is_open(x):
                returned[id(x)] = x, v
            return v

        self.graph.result = map_leaves(value, result)
        self._refuse_histories()
        if returned:
            derive(
                self.graph,
                list(returned.values()),
                self._token,
                self.known.incoming,
                self.known.value,
                self.known.leaf_at,
            )
        # These hold leaves.
        self.known.forget()
        self._differentiated.clear()
        returned.clear()
        settle(self.graph, self._before, list(self.known.inner_leaves.values()))

    def _is_open(self, t: Tensor) -> bool:
        """Whether a tensor has a history in this run that nobody has gone through yet."""
        node = t.grad_fn
        return is_inside(node, self._token) and node not in self._differentiated

    def _refuse_histories(self) -> None:
        """Refuse to give arguments a history; captured tensors may have been made inside."""
        for t, edge in zip(self.known.tensors, self._edges, strict=True):
            if t._edge is not edge and self._is_open(t):
                raise GraphBreak(
                    "compile",
                    "an argument is changed in place to what needs gradients.",
                    facts=f"shape {t.shape} · made by {t.grad_fn.name()}",
                    hint="Return the result instead.",
                )
        captured = [v for v in self.graph.values if v.kind == "captured"]
        self.graph.tied = [v for v in captured if self._is_open(v.content)]

"""Tracing: run a function once, and write down what happens to tensors.

All of it passes through the one hook. An array is recognised wherever it turns up again, also
where autograd has saved it, or shows the same memory through another array object; what no
operator has made was there before (a parameter, say) or is a constant.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import AccumulateGrad, Function
from ..autograd.restated import Alias
from ..errors import GraphBreak
from ..functions.conversion import Clone
from ..hook import Call, Read, Write, add_hook, remove_hook
from ..tensor import Tensor
from .arrays import Arrays
from .differentiated import CompiledFunction, CompiledFunctionGradient
from .graph import (
    Accumulate,
    Apply,
    Effect,
    Gradient,
    Graph,
    Hidden,
    Memory,
    Overwrite,
    SetGradient,
    Value,
)
from .joint import derive, is_inside
from .settle import settle
from .trees import map_leaves

__all__ = ["Trace", "trace"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: Attributes of a context that are its own, not left there by ``forward``.
_OWN = {"_saved", "_edges", "_non_differentiable", "_output_storages", "_output_meta"}


class Trace:
    """What one run of a function has shown.

    Attributes:
        graph: what was computed.
        modules: the modules that were called, in order, each once.
        result: what the function returned in this run.
        broken: the first thing that a program could not do again, if that is to be no error.
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.modules: list[Any] = []
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


class _Tracer:
    """The hook: writes down what passes through it in this thread."""

    def __init__(self, tensors: Iterable[Tensor], tolerant: bool) -> None:
        self.found = Trace()
        self._tolerant = tolerant
        self.graph = self.found.graph
        self._thread = threading.get_ident()
        self._inside = False
        #: The node of autograd whose derivative runs.
        self._node: Function | None = None
        self._arrays = Arrays(self.graph)
        #: By the id of a gradient that lies in ``.grad``: the gradient and its leaf.
        self._gradients: dict[int, tuple[Tensor, Value]] = {}
        #: The leaves of the gradients that were seen, by their memory.
        self._leaves: dict[Memory, Value] = {}
        #: What memory from outside held before it was first written.
        self._before: dict[Memory, tuple[Value, NDArray]] = {}
        self._differentiated: set[Function] = set()
        self._modules: set[int] = set()
        #: By id, leaves that the function makes over the memory of an argument.
        self._inner_leaves: dict[int, Value] = {}
        #: The Tensor as which a value is returned; others that show the same are its aliases.
        self._results: dict[Value, Tensor] = {}
        self._tensors = list(tensors)
        #: By the id of a Tensor from outside, its value.
        self._own: dict[int, Value] = {}
        for i, t in enumerate(self._tensors):
            t._refresh()
            self._outside("argument", i, t._data)
        #: Marks the nodes of autograd that the run makes.
        self._token = object()
        self._edges = [t._edge for t in self._tensors]

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
                facts=f"at {self._line()}",
                hint="Call that function inside of this one.",
            )
        if isinstance(what, Function):
            outer, self._node = self._node, what
            self._differentiated.add(what)
            try:
                return proceed()
            finally:
                self._node = outer
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
        line = self._line()
        given = [self._input(x) for x in inputs]
        named = {
            k: None if k in function.momentary else self._attribute(function, x)
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
            phase="" if self._node is None else Function.name(self._node),
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
            node.outputs.append(self._made(node, t._data))
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
                if isinstance(y, np.ndarray) and self._arrays.known(y) is None:
                    node.hidden.append(part)
                    node.outputs.append(self._made(node, y))

    def _written(self, what: Write, inputs: Any, proceed: Callable[[], Any]) -> Any:
        t, source = inputs
        target = self._input(t)
        memory = target.memory
        leaf = self._leaves.get(memory)
        counts = leaf
        if leaf is None and memory.outside:
            counts = self._counting(t, memory)
            if counts.kind == "captured" and memory not in self._before:
                self._before[memory] = counts, counts.content._data.copy(order="K")
        memory.written += 1
        self.graph.nodes.append(
            Overwrite(
                writer=what.name,
                inputs=[target, self._input(source)],
                counts=counts,
                of_gradient=leaf is not None,
                line=self._line(),
            )
        )
        return proceed()

    def _arrived(self, leaf: Tensor, gradient: Tensor, proceed: Callable[[], Any]) -> Any:
        if leaf._edge is not None:
            return self._retained(leaf, gradient, proceed)
        node = Accumulate(leaf=self._itself(leaf), inputs=[self._input(gradient)])
        self.graph.nodes.append(node)
        answer = proceed()
        self._note_gradient(leaf, node.leaf)
        return answer

    def _retained(self, t: Tensor, gradient: Tensor, proceed: Callable[[], Any]) -> Any:
        """The gradient of a tensor inside of the graph: another result."""
        if t._grad is not None:
            raise GraphBreak(
                "compile",
                "a gradient is added to the .grad of a tensor that is no leaf.",
                facts=f"at {self._line()} · shape {t.shape}",
                hint="Ask for the gradients with nano.autograd.grad().",
            )
        value = self._input(gradient)
        answer = proceed()
        if self._arrays.known(t._grad._data) is None:  # type: ignore[union-attr]
            node = Apply(function=Clone, inputs=[value], needs=(False,), line=self._line())
            self.graph.nodes.append(node)
            node.outputs.append(self._made(node, t._grad._data))  # type: ignore[union-attr]
        return answer

    def _note_gradient(self, leaf: Tensor, value: Value) -> None:
        if leaf._grad is not None:
            self._gradients[id(leaf._grad)] = leaf._grad, value

    def _called(self, what: Call, inputs: Any, proceed: Callable[[], Any]) -> Any:
        if what.kind == "replace":
            raise GraphBreak(
                "compile",
                "a tensor is given other memory, which a compiled program would not see.",
                facts=f"at {self._line()} · shape {inputs[0].shape}",
                hint="Write into the memory that it has, with copy_().",
            )
        if what.kind == "set":
            return self._gradient_set(*inputs, proceed)
        if what.kind == "clear":
            self._keep_cleared(inputs)
        tensors = [self._itself(t) for t in inputs]
        if what.kind != "clear" and any(v.kind == "argument" for v in tensors):
            raise GraphBreak(
                "compile",
                f"{what.name}() works on an argument: the next time it would be another tensor.",
                facts=f"at {self._line()}",
                hint="Let the function find the parameters elsewhere, in a closure.",
            )
        node = Effect(call=what, tensors=tensors, line=self._line())
        self.graph.nodes.append(node)
        self._inside = True
        try:
            answer = proceed()
        finally:
            self._inside = False
        for leaf, value in zip(inputs, tensors, strict=True):
            self._note_gradient(leaf, value)
        if isinstance(answer, Tensor):
            node.outputs.append(self._made(node, answer._data))
        return answer

    def _gradient_set(self, leaf: Tensor, gradient: Tensor, proceed: Callable[[], Any]) -> Any:
        node = SetGradient(leaf=self._itself(leaf), inputs=[self._input(gradient)])
        node.line = self._line()
        node.inputs[0].memory.written += 1
        self.graph.nodes.append(node)
        answer = proceed()
        self._note_gradient(leaf, node.leaf)
        return answer

    def _keep_cleared(self, leaves: Iterable[Tensor]) -> None:
        """Gradients that were seen in ``.grad`` may be used after it has forgotten them."""
        for leaf in leaves:
            if id(leaf._grad) in self._gradients:
                value = self._input(leaf._grad)
                self._leaves.pop(value.memory, None)
                del self._gradients[id(leaf._grad)]

    def _read(self, what: Read, inputs: Any, proceed: Callable[[], Any]) -> Any:
        if what.name == "grad":
            (leaf,) = inputs
            if leaf._edge is None and leaf._grad is not None:
                self._note_gradient(leaf, self._itself(leaf))
                self._input(leaf._grad)
            return proceed()
        for t in inputs:
            value = self._find(t._data)
            if value is not None or id(t) in self._gradients:
                line = self._line()
                raise GraphBreak(
                    "compile",
                    f"{what.name}() reads the values of a tensor, which a compiled program does "
                    "not know before it runs.",
                    facts=f"at {line} · shape {t.shape}",
                    hint="Return the tensor and read it outside, or say "
                    "nano.compile(fn, fallback=True).",
                )
        return proceed()

    # Recognising ------------------------------------------------------------------------

    def _input(self, x: Any) -> Any:
        """The value of a Tensor; None and numbers as they are."""
        if not isinstance(x, Tensor):
            return x
        leaf = self._leaf_of(x)
        if leaf is not None:
            known = self._arrays.known(x._data)
            if known is not None and isinstance(known.node, Gradient):
                return known
            node = Gradient(leaf=leaf)
            value = self._arrays.new("result", None, x._data)
            value.node = node
            value.memory.written += 1  # by gradients that arrive later
            self._leaves[value.memory] = leaf
            node.outputs.append(value)
            self.graph.nodes.append(node)
            return value
        value = self._find(x._data)
        return self._outside("captured", x, x._data) if value is None else value

    def _leaf_of(self, t: Tensor) -> Value | None:
        """The leaf in whose ``.grad`` a tensor lies, if it was seen there."""
        kept = self._gradients.get(id(t))
        return kept[1] if kept is not None and kept[0] is t else None

    def _counting(self, t: Tensor, memory: Memory) -> Value:
        """The argument or captured value that counts the writes to ``t``, which shows it."""
        owner = t if t._view is None else t._view.base
        if self._arrays.known(owner._data) is not None:
            return self._itself(owner)
        return next(v for v in self.graph.values if v.memory is memory and v.kind != "constant")

    def _itself(self, t: Tensor) -> Value:
        """The value of just this Tensor, not of another one that shows the same memory."""
        own = self._own.get(id(t))
        if own is not None:
            return own
        value = self._input(t)
        if value.kind != "argument":
            return value if value.content is t else self._outside("captured", t, t._data)
        if self._tensors[value.content] is t:
            return value
        # Another Tensor over an argument's memory: as an input it stands for the argument.
        known = self._inner_leaves.get(id(t))
        if known is None:
            known = self.graph.value("captured", t, t._data, value.memory)
            self._inner_leaves[id(t)] = known
        return known

    def _attribute(self, function: type[Function], x: Any) -> Any:
        """A keyword argument with values in place of arrays."""
        if isinstance(x, np.ndarray):
            value = self._find(x)
            return self._outside("constant", x.copy(order="K"), x) if value is None else value
        if isinstance(x, Tensor):
            raise GraphBreak(
                "compile",
                f"{function.__name__} is given a Tensor as a keyword argument.",
                facts=f"at {self._line()}",
                hint="Give Tensors to apply() by position.",
            )
        if type(x) in (tuple, list):
            return type(x)(self._attribute(function, y) for y in x)
        return x

    def _find(self, array: NDArray) -> Value | None:
        """The value that an array is, None if it is new; where its memory is known, it must be."""
        value = self._arrays.known(array)
        if value is None and self._arrays.has_memory_of(array):
            raise GraphBreak(
                "compile",
                "an array shows memory of a traced tensor in a way that no operator has made.",
                facts=f"at {self._line()} · shape {array.shape}",
                hint="Use nano's operators to make views.",
            )
        return value

    def _outside(self, kind: str, content: Any, array: NDArray) -> Value:
        """A value that no node makes."""
        value = self._arrays.new(kind, content, array)
        value.memory.outside = kind != "constant"
        if kind != "constant":
            self._own[id(self._tensors[content] if kind == "argument" else content)] = value
        return value

    def _made(self, node: Any, array: NDArray) -> Value:
        """A new result of a node."""
        value = self._arrays.new("result", None, array)
        value.node = node
        return value

    def _line(self) -> str:
        """The user's line that runs; of a derivative, that of its operator."""
        if self._node is not None:
            return getattr(self._node, "traced_line", "")
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back  # type: ignore[assignment]
        return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"

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
            v = self._result(x)
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
                self._incoming,
                self._input,
                self._leaf_at,
            )
        # These hold leaves.
        self._gradients.clear()
        self._differentiated.clear()
        self._results.clear()
        returned.clear()
        settle(self.graph, self._before, list(self._inner_leaves.values()))

    def _is_open(self, t: Tensor) -> bool:
        """Whether a tensor has a history in this run that nobody has gone through yet."""
        node = t.grad_fn
        return is_inside(node, self._token) and node not in self._differentiated

    def _refuse_histories(self) -> None:
        """Refuse to give arguments a history; captured tensors may have been made inside."""
        for t, edge in zip(self._tensors, self._edges, strict=True):
            if t._edge is not edge and self._is_open(t):
                raise GraphBreak(
                    "compile",
                    "an argument is changed in place to what needs gradients.",
                    facts=f"shape {t.shape} · made by {t.grad_fn.name()}",
                    hint="Return the result instead.",
                )
        captured = [v for v in self.graph.values if v.kind == "captured"]
        self.graph.tied = [v for v in captured if self._is_open(v.content)]

    def _incoming(self, gradient: Tensor) -> Value:
        """The value of a gradient that will be given."""
        self._tensors.append(gradient)
        return self._outside("argument", len(self._tensors) - 1, gradient._data)

    def _leaf_at(self, edge: Any) -> Value:
        """The value of the tensor from which an edge comes."""
        if edge[1] < 0:
            return self._itself(edge[0])
        for v in self.graph.values:
            t = {"argument": self._tensors.__getitem__, "captured": lambda x: x}.get(v.kind)
            if t is not None:
                found = t(v.content)._edge
                if found is not None and found[:2] == edge:
                    return v
        raise GraphBreak(
            "compile",
            "a gradient goes to a tensor that the function did not get.",
            facts=f"made by {edge[0].name()}",
            hint="Make it an argument.",
        )

    def _result(self, t: Tensor) -> Value:
        """The value of a Tensor that is returned; of another one that shows the same, an alias."""
        value = self._input(t)
        if value.kind in ("argument", "captured"):
            shown = self._tensors[value.content] if value.kind == "argument" else value.content
        else:
            shown = self._results.setdefault(value, t)
        if shown is t:
            return value
        node = Apply(function=Alias, inputs=[value], needs=(False,), line=self._line())
        alias = self.graph.value("result", None, t._data, value.memory)
        alias.node = node
        node.outputs.append(alias)
        self.graph.nodes.append(node)
        return alias

"""From a graph to a Python function that does what its nodes say, one after the other.

The source is written to be read: a line a node, with the user's line behind it. What it calls
is bound in advance, and an array is let go of after its last use, so that its memory is free
for the next.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import Function
from ..autograd.views import bump_version
from ..storage import storage_of
from ..tensor import Tensor, wrap
from .forget import Forget
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
from .hold import hold, release

__all__ = ["Program", "Writer", "identifier"]

_SIMPLE = (int, float, str, bool, type(None))


class Program:
    """A graph as a function that can be called.

    Attributes:
        graph: what it computes.
        source: the text of the function.
        native: the text of the native function that it calls, if it does.
        exact: whether it gives bit for bit what the function gives; else sums are done in another
            order, or exponentials in another way.
        history: the graph as it was traced, and after each pass that changed it: the pass's name
            and the listing.
        run: takes the Tensors among the arguments, in order; returns what the traced function
            returned, with new Tensors.
    """

    def __init__(
        self, graph: Graph, name: str, writer: Writer | None = None, native: str = ""
    ) -> None:
        self.graph = graph
        self.native = native
        self.history: list[tuple[str, str]] = []
        self.exact = not native and all(getattr(n, "exact", True) for n in graph.nodes)
        writer = writer or Writer(graph)
        self.source = writer.source()
        file = f"<nano.compile {name} {id(self):x}>"
        # So that tracebacks can show the lines.
        linecache.cache[file] = len(self.source), None, self.source.splitlines(True), file
        exec(compile(self.source, file, "exec"), writer.scope)
        self.run: Callable[..., Any] = writer.scope["program"]
        #: The programs that this one consists of.
        self.parts = (self,)


class Writer:
    """Writes the source, and collects what it refers to."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.scope: dict[str, Any] = {
            "context": _context,
            "accumulate": _accumulate,
            "copyto": np.copyto,
            "asarray": np.asarray,
            "bump_version": bump_version,
            "share": _share,
            "wrap": wrap,
            "hold": hold,
            "release": release,
        }
        self._indent = "    "
        self._lines: list[str] = []
        #: The names of keyword arguments that are made at each run.
        self._moments: dict[tuple[Node, str], str] = {}
        self._last = _last_uses(graph)

    def source(self) -> str:
        """The whole function."""
        self._lines = [f"def program({', '.join(self.arguments())}):"]
        self._take_moments()
        for v in self.graph.values:
            self.begin(v)
        self.body()
        self._wrap_results()
        self.line(f"return {self._result(self.graph.result)}")
        return "\n".join(self._lines) + "\n"

    def _take_moments(self) -> None:
        """Make what operators want to know of a captured tensor, before its array is looked at."""
        for node in self.graph.nodes:
            if not isinstance(node, Apply) or any(node.needs):
                continue
            for key, (position, make) in node.function.momentary.items():
                v = node.inputs[position]
                if isinstance(v, Value) and v.kind == "captured" and not v.memory.written:
                    name, maker = f"{key}{v.number}", self.bind(make.__name__.strip("_"), make)
                    self.line(f"{name} = {maker}({self.tensor(v)})")
                    self._moments[node, key] = name

    def arguments(self) -> list[str]:
        """The names of the parameters."""
        return [f"a{v.content}" for v in self.graph.values if v.kind == "argument"]

    def body(self) -> None:
        """All nodes, one after the other."""
        outside = [i for i, node in enumerate(self.graph.nodes) if self.changes(node)]
        for i, node in enumerate(self.graph.nodes):
            if i in outside[:1]:
                self.hold()
            place = _where(node)
            for line in self.node(node):
                self.line(line, place)
                place = ""
            self._forget(i)
            if i in outside[-1:]:
                self.release()

    def line(self, text: str, comment: str = "") -> None:
        """Write a line of the function."""
        self._lines.append(f"{self._indent}{text}" + (f"  # {comment}" if comment else ""))

    def changes(self, node: Node) -> bool:
        """Whether it is part of what must be done as a whole, or not at all."""
        if isinstance(node, Overwrite):
            return node.counts is not None
        forgets = isinstance(node, Effect) and node.call.kind == "clear"
        return isinstance(node, (Accumulate, Effect, SetGradient)) and not forgets

    def hold(self) -> None:
        """From this line on, no interrupt comes through."""
        self.line("held = hold()")
        self.line("try:")
        self._indent += "    "

    def release(self) -> None:
        """From this line on, interrupts come again."""
        self._indent = self._indent[:-4]
        self.line("finally:")
        self.line("    release(held)")

    def begin(self, v: Value) -> None:
        """Give the array of a value that no node makes its name."""
        if v.kind == "argument":
            self.line(f"{v.name} = a{v.content}._data", v.describe())
        elif v.kind == "captured":
            self.line(f"{v.name} = {self.tensor(v)}._data", v.describe())
        elif v.memory.written:
            self.line(f"{v.name} = {self.bind(f'k{v.number}', v.content)}.copy('K')")
        else:
            self.scope[v.name] = v.content

    def bind(self, name: str, x: Any) -> str:
        """Let a name of the source refer to ``x``."""
        self.scope[name] = x
        return name

    def tensor(self, v: Value) -> str:
        """The Tensor of an argument or a captured value."""
        return f"a{v.content}" if v.kind == "argument" else self.bind(f"t{v.number}", v.content)

    # Nodes ------------------------------------------------------------------------------

    def node(self, node: Node) -> list[str]:
        """The lines of a node."""
        if isinstance(node, Apply):
            return self._apply(node)
        if isinstance(node, Overwrite):
            target, source = (x.name for x in node.inputs)
            lines = [f"copyto({target}, {source}, casting='unsafe')"]
            if node.counts is not None:
                counted = self.tensor(node.counts) + ("._grad" if node.of_gradient else "")
                lines.append(f"bump_version({counted}, {node.writer!r})")
            return lines
        if isinstance(node, Accumulate):
            (gradient,) = node.inputs
            given = gradient.name
            if not self.may_give_away(gradient, node):
                given += ".copy('K')"
            return [f"accumulate({self.tensor(node.leaf)}, {given})"]
        if isinstance(node, SetGradient):
            (v,) = node.inputs
            lasts = v.kind in ("argument", "captured")
            given = self.tensor(v) if lasts else self.result(v)
            return [f"{self.tensor(node.leaf)}._grad = {given}"]
        if isinstance(node, Gradient):
            (made,) = node.makes()
            return [f"{made.name} = {self.tensor(node.leaf)}._grad._data"]
        if isinstance(node, Effect) and node.call.kind == "clear":
            return [f"{self.tensor(v)}._grad = None" for v in node.tensors]
        if isinstance(node, Forget):
            return self._forget_gradients(node)
        if isinstance(node, Effect):
            run = self.bind(identifier(node.name, id(node.call)), self.callable(node))
            call = f"{run}()"
            return [f"{v.name} = {call}._data" for v in node.makes()] or [call]
        return self._other(node)

    def _forget_gradients(self, node: Forget) -> list[str]:
        lines = [f"{self.tensor(v)}._grad = None" for v in node.leaves]
        tests = []
        for v, labels in zip(node.inputs, node.labels, strict=True):
            tests.append(f"{self.bind(identifier('fit', id(labels)), labels.fit)}({v.name})")
        return [f"if {' and '.join(tests)}:", *(f"    {x}" for x in lines)] if tests else lines

    def callable(self, node: Effect) -> Callable[[], Any]:
        """What is called for an effect."""
        return node.call.function

    def _other(self, node: Any) -> list[str]:
        """A node that brings its own function: ``run(*arrays)``."""
        made = ", ".join("_" if v is None else v.name for v in node.outputs)
        run = self.bind(identifier(node.name, id(node)), node.run)
        call = f"{run}({', '.join(map(self._expression, node.inputs))})"
        return [f"{made} = {call}" if made else call]

    def _apply(self, node: Apply) -> list[str]:
        name = node.function.__name__
        if self.scope.setdefault(name, node.function) is not node.function:
            name = self.bind(identifier(name, id(node.function)), node.function)
        needs = "".join("1" if x else "0" for x in node.needs)
        needs = self.bind(f"needs_{needs}", [True if x else None for x in node.needs])
        arguments = [self._expression(x) for x in node.inputs]
        for k, x in node.attributes.items():
            arguments.append(f"{k}={self._moments.get((node, k)) or self._expression(x)}")
        shown = node.outputs[: node.count]
        hidden = [
            (v, place)
            for v, place in zip(node.outputs[node.count :], node.hidden, strict=True)
            if v is not None
        ]
        context = f"context({name}, {needs})"
        lines = []
        if hidden:
            lines.append(f"ctx = {context}")
            context = "ctx"
        call = f"{name}.forward({', '.join([context, *arguments])})"
        if not node.several:
            (v,) = shown
            # NumPy gives a number where an array has no dimensions.
            call = call if v is None or v.shape else f"asarray({call})"
            lines.append(call if v is None else f"{v.name} = {call}")
        else:
            names = "".join("_, " if v is None else f"{v.name}, " for v in shown)
            lines.append(f"{names.rstrip()} = {call}" if shown else call)
            lines += [f"{v.name} = asarray({v.name})" for v in shown if v and not v.shape]
        for v, place in hidden:
            if place.saved:
                lines.append(f"{v.name} = ctx._saved[{place.key}]")
            elif isinstance(place.key, tuple):
                lines.append(f"{v.name} = ctx.{place.key[0]}[{place.key[1]}]")
            else:
                lines.append(f"{v.name} = ctx.{place.key}")
        if hidden:
            lines.append("del ctx")
        return lines

    def _expression(self, x: Any) -> str:
        if isinstance(x, Value):
            return x.name
        if isinstance(x, _SIMPLE) and repr(x) not in ("nan", "inf", "-inf"):
            return repr(x)
        if type(x) is tuple:
            return f"({''.join(self._expression(y) + ', ' for y in x)})"
        if type(x) is list:
            return f"[{', '.join(map(self._expression, x))}]"
        return self.bind(identifier(type(x).__name__, id(x)), x)

    # Life of arrays ---------------------------------------------------------------------

    def _forget(self, i: int) -> None:
        """Let go of what is not used behind node ``i``."""
        names = [v.name for v in self._last.get(i, ())]
        if names:
            self.line(f"del {', '.join(names)}")

    def may_give_away(self, gradient: Value, node: Node) -> bool:
        """Whether a gradient may stay in ``.grad`` as it is, without a copy."""
        return gradient.node is not None and self.is_alone(gradient, node)

    def is_alone(self, v: Value, node: Node) -> bool:
        """Whether a gradient may be kept as it is: nothing else shows its memory, then or later."""
        own = v.memory
        if own.written or own.outside:
            return False
        position = self.graph.nodes.index(node)
        for other in self.graph.nodes:
            for made in other.makes():
                if made.memory is own and made is not v:
                    return False
        later = self.graph.nodes[position + 1 :]
        used = any(v is x for n in later for x in n.reads())
        return not used and all(v is not x for x in self.graph.returned())

    def _wrap_results(self) -> None:
        """Make Tensors of what is returned; those that show the same memory know each other."""
        owners = {
            v.memory: self.tensor(v)
            for v in self.graph.values
            if v.kind in ("argument", "captured")
        }
        for v in dict.fromkeys(self.graph.returned()):
            if v.kind in ("argument", "captured"):
                continue
            if v.kind == "constant":
                made = f"wrap({v.name}.copy('K'))"
            elif v.memory in owners:
                made = f"share({v.name}, {owners[v.memory]})"
            else:
                made = self.result(v)
                owners[v.memory] = f"r{v.number}"
            self.line(f"r{v.number} = {made}")

    def result(self, v: Value) -> str:
        """A result as a new Tensor."""
        return f"wrap({v.name})"

    def _result(self, x: Any) -> str:
        if isinstance(x, Value):
            if x.kind in ("argument", "captured"):
                return self.tensor(x)
            return f"r{x.number}"
        if type(x) is dict:
            return "{" + ", ".join(f"{k!r}: {self._result(y)}" for k, y in x.items()) + "}"
        if type(x) is tuple:
            return f"({''.join(self._result(y) + ', ' for y in x)})"
        if type(x) is list:
            return f"[{', '.join(map(self._result, x))}]"
        if isinstance(x, tuple):
            name = self.bind(type(x).__name__, type(x))
            return f"{name}({', '.join(map(self._result, x))})"
        return self._expression(x)


def _last_uses(graph: Graph) -> dict[int, list[Value]]:
    """For each position, the results that are not needed behind that node."""
    last: dict[Value, int] = {}
    for i, node in enumerate(graph.nodes):
        for v in (*node.makes(), *node.reads()):
            if v.kind == "result":
                last[v] = i
    for v in graph.returned():
        last.pop(v, None)
    places: dict[int, list[Value]] = {}
    for v, i in last.items():
        places.setdefault(i, []).append(v)
    return places


def _where(node: Node) -> str:
    """The comment behind the line of a node."""
    file, _, number = node.line.rpartition(":")
    place = f"{file.rsplit('/', 1)[-1]}:{number}" if file else ""
    return " ".join(x for x in (place, node.phase) if x)


def identifier(name: str, number: int) -> str:
    """A name for the source that nothing else has."""
    return "".join(c if c.isalnum() else "_" for c in name) + f"_{number:x}"


def _context(function: type[Function], needs: list[Any]) -> Function:
    """What ``forward`` leaves its notes on; ``needs`` says which gradients are wanted."""
    ctx = function()
    ctx._edges = needs
    return ctx


def _share(array: NDArray, owner: Tensor) -> Tensor:
    """A Tensor of an array in the memory of ``owner``, which counts the writes of both."""
    t = wrap(array.view())
    t._storage = storage_of(owner)
    return t


def _accumulate(leaf: Tensor, gradient: NDArray) -> None:
    """``leaf.grad += gradient``, which nobody else holds."""
    kept = leaf._grad
    if gradient.dtype != leaf._data.dtype:
        gradient = gradient.astype(leaf._data.dtype)
    if kept is None:
        leaf._grad = wrap(gradient)
    else:
        np.add(kept._data, gradient, out=kept._data)
        bump_version(kept, "AccumulateGrad")

"""The graph of a traced function: what is computed, from what, in which order.

A *value* stands for an array: it has a shape, a dtype and strides, and shares a *memory* with
the values that are views of it. A *node* makes values from values, or does something to what
lies outside of the graph. The nodes stand in the order in which they ran; a pass may take one
out or put another in its place, and moves none past a node that writes to memory it looks at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import Function

__all__ = [
    "Accumulate",
    "Apply",
    "Effect",
    "Gradient",
    "Graph",
    "Hidden",
    "Memory",
    "Node",
    "Overwrite",
    "SetGradient",
    "Value",
    "is_change",
    "owner_of",
    "replace_inputs",
    "replaced",
]


class Memory:
    """What values share that are views of the same array.

    Attributes:
        written: how many nodes overwrite it, not counting effects.
        outside: whether it is seen from outside: an argument's or a captured tensor's.
    """

    __slots__ = ("outside", "written")

    def __init__(self, outside: bool = False) -> None:
        self.written = 0
        self.outside = outside


class Value:
    """An array of the program.

    Attributes:
        number: its name is ``v`` and this number.
        kind: ``"argument"``; ``"captured"``, a tensor that the function found elsewhere;
            ``"constant"``, an array that no operator made; or ``"result"`` of a node.
        content: of an argument its position, of a captured value the Tensor, of a constant
            the array as it is when the program begins.
        shape, dtype, strides: as they were when it was traced; strides in bytes.
        offset: bytes from the start of the array that owns the memory to the first element.
        node: what makes it; None unless it is a result.
        before: of a captured value that is written, what it held before.
    """

    __slots__ = (
        "before",
        "content",
        "dtype",
        "kind",
        "memory",
        "node",
        "number",
        "offset",
        "shape",
        "strides",
    )

    def __init__(
        self, number: int, kind: str, content: Any, array: Any, memory: Memory, offset: int = 0
    ) -> None:
        self.number = number
        self.kind = kind
        self.content = content
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.strides: tuple[int, ...] = array.strides
        self.memory = memory
        self.offset = offset
        self.node: Node | None = None
        self.before: Any = None

    @property
    def name(self) -> str:
        """As it stands in a listing and in the generated source."""
        return f"v{self.number}"

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return self.name

    def describe(self) -> str:
        """``f32[128,64]``."""
        return f"{_SHORT.get(self.dtype.name, self.dtype.name)}[{','.join(map(str, self.shape))}]"


_SHORT = {"float32": "f32", "float64": "f64", "bfloat16": "bf16", "float16": "f16"} | {
    "int64": "i64",
    "int32": "i32",
    "bool": "bool",
}


@dataclass(eq=False, kw_only=True)
class Node:
    """Something that is done.

    Attributes:
        inputs: values, None and Python numbers, in order.
        outputs: the values that it makes; None for one that nobody uses.
        line: the user's line, ``file:number``.
        phase: the name of the node of autograd whose derivative this is part of, or nothing.
    """

    inputs: list[Any] = field(default_factory=list)
    outputs: list[Value | None] = field(default_factory=list)
    line: str = ""
    phase: str = ""

    @property
    def name(self) -> str:
        """What it does, for people."""
        return type(self).__name__

    def reads(self) -> Iterator[Value]:
        """The values that it needs."""
        for x in self.inputs:
            if isinstance(x, Value):
                yield x

    def makes(self) -> Iterator[Value]:
        """The values that it makes."""
        for x in self.outputs:
            if x is not None:
                yield x

    def writes(self) -> Iterator[Value]:
        """The values into whose memory it writes."""
        return iter(())

    #: Whether it must stay although nobody uses what it makes.
    has_effect: ClassVar[bool] = False


@dataclass(frozen=True)
class Hidden:
    """Where ``forward`` left an array for the derivative: entry ``key`` of what it saved, or an
    attribute ``key`` of its context."""

    saved: bool
    key: Any


@dataclass(eq=False, kw_only=True)
class Apply(Node):
    """An operator: ``function.forward(ctx, *inputs, **attributes)``.

    Attributes:
        function: the operator's class.
        attributes: its keyword arguments; an array among them is a Value.
        needs: for each input, whether its gradient is wanted: what ``forward`` saves depends
            on it.
        hidden: for the outputs from ``count`` on, where ``forward`` left them.
        count: how many outputs ``forward`` returns.
        several: whether it returns them in a tuple, as it may do with one, too.
        random: whether it draws random numbers, so that each use gives others.
        exact: whether it gives bit for bit what the operators gave that it stands for.
    """

    function: type[Function]
    attributes: dict[str, Any] = field(default_factory=dict)
    needs: tuple[bool, ...] = ()
    count: int = 1
    several: bool = False
    hidden: list[Hidden] = field(default_factory=list)
    random: bool = False
    exact: bool = True

    @property
    def name(self) -> str:
        return self.function.__name__

    def reads(self) -> Iterator[Value]:
        yield from super().reads()
        yield from _values_in(self.attributes.values())

    def reads_attributes(self) -> bool:
        """Whether there is an array among the keyword arguments."""
        return any(True for _ in _values_in(self.attributes.values()))

    @property
    def has_effect(self) -> bool:
        """Whether it must run although nobody uses what it makes: a user's may do anything."""
        return self.random or self.function.refuses or not self.function._built_in


@dataclass(eq=False, kw_only=True)
class Overwrite(Node):
    """The first input's memory gets the values of the second.

    Attributes:
        writer: the operator as the user wrote it: ``add_``.
        counts: the argument or captured value whose Tensor counts the write; None if the
            memory is inside.
        of_gradient: whether it is the gradient of that Tensor which is written.
    """

    writer: str
    counts: Value | None = None
    of_gradient: bool = False

    @property
    def name(self) -> str:
        return self.writer

    def writes(self) -> Iterator[Value]:
        yield self.inputs[0]

    has_effect: ClassVar[bool] = True


@dataclass(eq=False, kw_only=True)
class Accumulate(Node):
    """``leaf.grad += the input``; the leaf is an argument or captured."""

    leaf: Value

    has_effect: ClassVar[bool] = True


@dataclass(eq=False, kw_only=True)
class SetGradient(Node):
    """``leaf.grad = the input``, which from then on may be written as the gradient is."""

    leaf: Value

    def writes(self) -> Iterator[Value]:
        yield self.inputs[0]

    has_effect: ClassVar[bool] = True


@dataclass(eq=False, kw_only=True)
class Gradient(Node):
    """The array of ``leaf.grad`` as it is then; the leaf is an argument or captured."""

    leaf: Value


@dataclass(eq=False, kw_only=True)
class Effect(Node):
    """A call of something that does its work by itself, such as an optimizer's step.

    Attributes:
        call: see :class:`nano.hook.Call`.
        tensors: those that it works on: arguments or captured.
    """

    call: Any
    tensors: list[Value]

    @property
    def name(self) -> str:
        return self.call.name

    def writes(self) -> Iterator[Value]:
        if self.call.kind == "step":
            yield from self.tensors

    has_effect: ClassVar[bool] = True


def _values_in(items: Any) -> Iterator[Value]:
    for x in items:
        if isinstance(x, Value):
            yield x
        elif isinstance(x, (tuple, list)):
            yield from _values_in(x)


class Graph:
    """A traced function.

    Attributes:
        nodes: in the order in which they run.
        values: all values that are not results: arguments, captured, constants.
        result: what the function returns, with Values in place of Tensors.
        derivative: which of this is run when the result is differentiated outside, if it can be;
            see :mod:`joint`.
        tied: captured tensors that have a history in the function now.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.values: list[Value] = []
        self.result: Any = None
        self.derivative: Any = None
        self.tied: list[Value] = []
        self._count = 0

    def value(
        self, kind: str, content: Any, array: Any, memory: Memory | None = None, offset: int = 0
    ) -> Value:
        """A new value like ``array``."""
        v = Value(self._count, kind, content, array, memory or Memory(), offset)
        self._count += 1
        if kind != "result":
            self.values.append(v)
        return v

    def returned(self) -> Iterator[Value]:
        """The values in the result."""
        return _values_in([_flat(self.result)])

    def uses(self) -> Counter[Value]:
        """How often each value is used by nodes and by the result."""
        counts: Counter[Value] = Counter()
        for node in self.nodes:
            counts.update(node.reads())
        counts.update(self.returned())
        return counts

    def check(self) -> None:
        """Refuse a graph that makes no sense: a defect of a pass.

        Raises:
            AssertionError: if a value is used before it is made, or made twice; if shapes or
                dtypes do not go together; if a view does not lie in the memory that it shows,
                or memory is written over that is read later.
        """
        known = set(self.values)
        memories = {v.memory for v in self.values}
        gone: set[Memory] = set()
        for node in self.nodes:
            for v in node.reads():
                assert v in known, f"{node.name} uses {v} before it is made"
                assert v.memory not in gone, f"{node.name} uses {v}, which was written over"
            for v in node.makes():
                assert v not in known, f"{node.name} makes {v} again"
                assert v.kind == "result"
                assert v.node is node, f"{v} does not know that {node.name} makes it"
                known.add(v)
            _check_node(node, memories)
            memories.update(v.memory for v in node.makes())
            gone.update(v.memory for v in getattr(node, "over", {}).values())
        for v in self.returned():
            assert v in known, f"{v} is returned, but nothing makes it"
            assert v.memory not in gone, f"{v} is returned, but was written over"

    def dot(self) -> str:
        """The graph in the DOT language, from which Graphviz makes a picture."""
        from .drawing import dot  # which builds on this module

        return dot(self)

    # Listing ----------------------------------------------------------------------------

    def __str__(self) -> str:
        lines = []
        for v in self.values:
            lines.append(f"{v.name}: {v.describe()} = {_origin(v)}")
        for node in self.nodes:
            lines.append(listed(node))
        lines.append(f"return {_shown(self.result)}")
        return "\n".join(lines)


def _check_node(node: Node, known: set[Memory]) -> None:
    """Whether what a node reads and makes goes together; see :meth:`Graph.check`."""
    if isinstance(node, Overwrite):
        target, source = node.inputs
        fits = _broadcast([target, source]) == target.shape
        assert fits, f"{source.describe()} does not fit into {target.describe()}"
    elif isinstance(node, Accumulate):
        (gradient,) = node.inputs
        fits = gradient.shape == node.leaf.shape
        assert fits, f"a gradient {gradient.describe()} for {node.leaf.describe()}"
    elif isinstance(node, Apply) and node.outputs and node.outputs[0] is not None:
        y, read = node.outputs[0], list(node.reads())
        if node.function.is_view and read and y.memory is not read[0].memory:  # a copy, then
            assert y.memory not in known, f"{y} is in other memory than {read[0]}"
        if node.function.formula:
            found = _broadcast(read)
            assert y.shape == found, f"{node.name} makes {y.describe()} of {found}"
            dtypes = {v.dtype for v in read if v.dtype.kind in "fV"}
            fits = y.dtype.kind not in "fV" or "dtype" in node.attributes or y.dtype in dtypes
            assert fits or not dtypes, f"{node.name} makes {y.describe()} of {dtypes}"
    for y, v in getattr(node, "over", {}).items():
        same = (y.shape, y.strides, y.dtype) == (v.shape, v.strides, v.dtype)
        assert same, f"{y.describe()} is written over {v.describe()}"


def _broadcast(values: list[Value]) -> tuple[int, ...]:
    return np.broadcast_shapes(*[v.shape for v in values])


def is_change(node: Node) -> bool:
    """Whether it changes what was there before, as no operator does."""
    return node.has_effect and not isinstance(node, Apply)


def replace_inputs(node: Node, same: dict[Value, Value]) -> None:
    """Let a node read other values."""
    if same:
        node.inputs = replaced(node.inputs, same)
        if isinstance(node, Apply):
            node.attributes = replaced(node.attributes, same)


def replaced(x: Any, same: dict[Value, Value]) -> Any:
    """A nest with other Values in it."""
    if isinstance(x, Value):
        return same.get(x, x)
    if isinstance(x, dict):
        return {k: replaced(y, same) for k, y in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*[replaced(y, same) for y in x])
    if isinstance(x, (tuple, list)):
        return type(x)([replaced(y, same) for y in x])
    return x


def owner_of(array: NDArray) -> NDArray:
    """The array that owns the memory which ``array`` shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def listed(node: Node) -> str:
    """A node as a line."""
    made = ", ".join("_" if v is None else f"{v.name}: {v.describe()}" for v in node.outputs)
    arguments = [_shown(x) for x in node.inputs]
    if isinstance(node, Apply):
        arguments += [f"{k}={_shown(x)}" for k, x in node.attributes.items()]
    elif isinstance(node, (Accumulate, Gradient, SetGradient)):
        arguments.insert(0, node.leaf.name)
    elif isinstance(node, Effect):
        arguments += [v.name for v in node.tensors]
    arguments += [v.name for v in getattr(node, "leaves", ())]
    over = [v.name for v in getattr(node, "over", {}).values()]
    place = f" over {', '.join(over)}" if over else ""
    place += f"  # {node.line}" if node.line else ""
    if node.phase:
        place += f"  ({node.phase})"
    return f"{made + ' = ' if made else ''}{node.name}({', '.join(arguments)}){place}"


def _origin(v: Value) -> str:
    if v.kind == "argument":
        return f"argument {v.content}"
    return v.kind


def _shown(x: Any) -> str:
    if isinstance(x, Value):
        return x.name
    if isinstance(x, (tuple, list)):
        inner = ", ".join(map(_shown, x))
        return f"({inner}{',' if len(x) == 1 else ''})" if isinstance(x, tuple) else f"[{inner}]"
    if isinstance(x, dict):
        return "{" + ", ".join(f"{k!r}: {_shown(y)}" for k, y in x.items()) + "}"
    if isinstance(x, np.generic):
        return repr(x.item())
    return repr(x)


def _flat(x: Any) -> Any:
    """The leaves of nested tuples, lists and dicts, as a list."""
    if isinstance(x, dict):
        return [_flat(y) for y in x.values()]
    if isinstance(x, (tuple, list)):
        return [_flat(y) for y in x]
    return x

"""Programs that run as one native function; see :mod:`native`.

Around the function stands a little Python: it copies the arguments to their places, and does
what is seen from outside, as a larger program does. Gradients are computed where they stay: in
the memory of the ``.grad`` that the last run has left, unless somebody else holds that.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import is_available
from ..tensor import Tensor, wrap
from .graph import Accumulate, Apply, Effect, Graph, Memory, Node, Overwrite, Value
from .native import Native, UnsupportedError
from .operator_loops import TYPES, extent
from .program import Program, Writer

__all__ = ["small_program"]

#: Bytes of all results: they stay in the second-level cache, or near it. More of them are worth
#: more threads.
_LARGEST = 1 << 22
_ALIGNMENT = 64


def small_program(graph: Graph, larger: Program, name: str) -> Program:
    """The graph as a program around one native function.

    Args:
        larger: the program that calls operator after operator: it runs where the native function
            refuses, and says why.

    Raises:
        UnsupportedError: if the graph is none for it.
    """
    body = [n for n in graph.nodes if _is_inside(n)]
    if body != graph.nodes[: len(body)]:
        raise UnsupportedError("something is computed after what is seen from outside")
    _check_size(body)
    native = Native(body, graph.values)
    if native.calls_onednn and not is_available("onednn"):
        raise UnsupportedError("its products are large, and oneDNN is not there")
    writer = _Writer(graph, native, larger.run)
    program = Program(graph, name, writer, native.source)
    writer.check()
    writer.scope["native"] = native.compiled()
    return program


def _is_inside(node: Node) -> bool:
    """Whether a node only computes: it is seen from outside by nobody."""
    return isinstance(node, Apply) or (isinstance(node, Overwrite) and node.counts is None)


def _check_size(body: Iterable[Node]) -> None:
    total = 0
    for node in body:
        for v in node.makes():
            total += v.nbytes
            if v.dtype.name not in TYPES:
                raise UnsupportedError(f"{v.dtype} has no loops")
    if total > _LARGEST:
        raise UnsupportedError(f"its results take {total:,} bytes")


class _Slot:
    """The ``.grad`` that a program leaves, and fills again at its next run."""

    __slots__ = ("array", "dtype", "place", "shape", "table", "tensor")

    def __init__(self, v: Value, table: NDArray, place: int) -> None:
        self.table = table
        self.place = place
        self.shape = v.shape
        self.dtype = v.dtype
        self.renew()

    def renew(self) -> None:
        """Take new memory: somebody holds the old."""
        # The array owns its memory: views of it count as references to it.
        self.array = np.empty(self.shape, self.dtype)
        self.tensor = wrap(self.array)
        self.table[self.place] = self.array.ctypes.data

    def prepare(self, leaf: Tensor) -> None:
        """Before a run: see that nobody else looks at the gradient, or has replaced its memory."""
        t = self.tensor
        seen = sys.getrefcount(t) > _TENSOR + (leaf._grad is t) or t._data is not self.array
        if seen or sys.getrefcount(self.array) > _ARRAY:
            self.renew()


def _is_plain(v: Value) -> bool:
    """Whether a value is all of its memory, row by row."""
    return not v.offset and v.strides == np.empty(v.shape, v.dtype).strides


def _references() -> tuple[int, int]:
    """What :meth:`_Slot.prepare` counts if nobody else holds the gradient."""
    slot = _Slot.__new__(_Slot)
    slot.array = np.empty(1, np.float32)
    slot.tensor = wrap(slot.array)
    t = slot.tensor
    return sys.getrefcount(t), sys.getrefcount(slot.array)


_TENSOR, _ARRAY = _references()


class _Writer(Writer):
    """Writes the Python around the native function."""

    def __init__(self, graph: Graph, native: Native, larger: Callable[..., Any]) -> None:
        super().__init__(graph)
        self.scope["larger"] = larger
        self.scope["alone"] = threading.Lock()
        self._native = native
        self._table = np.zeros(len(native.places), np.uint64)
        self.scope["at"] = self._table
        if native.calls_onednn:
            from ..backends.fused.sgemm import address

            self._table[native.places.index("sgemm")] = address()
        self._arena = self._allocate()
        self._inside = {n for n in graph.nodes if isinstance(n, Apply)}
        #: The gradients that are computed where they stay, by the node that leaves them there.
        self._slots: dict[Accumulate, str] = {}
        self._find_slots()

    def check(self) -> None:
        """Refuse what has no place in the block of results, or elsewhere."""
        assert self._table.all(), "an address is missing"
        if any(v.kind == "argument" and v.memory.written for v in self.graph.values):
            raise UnsupportedError("an argument is written in place")
        seen: set[Memory] = set()
        returned = list(dict.fromkeys(self.graph.returned()))
        outside = [n for n in self.graph.nodes if not isinstance(n, Apply)]
        for v in (*returned, *(v for n in outside for v in n.reads())):
            if v.kind == "result" and v.memory not in self._arena and v.node in self._inside:
                raise UnsupportedError("a view of a tensor from outside is used outside")
        for v in returned:
            if v.kind == "result" and v.memory in seen:
                raise UnsupportedError("results share memory")
            seen.add(v.memory)

    def _allocate(self) -> dict[Memory, NDArray]:
        """One block for all results, and where each lies in it."""
        extents: dict[Memory, int] = {}
        for node in self.graph.nodes:
            for v in node.makes():
                if v.memory in self._native.places:
                    end = v.offset + extent(v)
                    extents[v.memory] = max(end, extents.get(v.memory, 0))
        total = sum(_rounded(n) for n in extents.values()) + _ALIGNMENT
        block = np.zeros(total, np.uint8)
        start = -block.ctypes.data % _ALIGNMENT
        found = {}
        for memory, size in extents.items():
            found[memory] = block[start : start + size]
            self._table[self._native.places.index(memory)] = found[memory].ctypes.data
            start += _rounded(size)
        return found

    def _find_slots(self) -> None:
        cleared: set[Value] = set()
        for node in self.graph.nodes:
            if isinstance(node, Effect) and node.call.kind == "clear":
                cleared.update(node.tensors)
            if isinstance(node, Accumulate) and node.leaf in cleared:
                (v,) = node.inputs
                inside = v.memory in self._native.places and v.dtype == node.leaf.dtype
                if inside and _is_plain(v) and self.is_alone(v, node):
                    place = self._native.places.index(v.memory)
                    name = f"g{node.leaf.number}"
                    self._slots[node] = self.bind(name, _Slot(v, self._table, place))
                cleared.discard(node.leaf)

    def source(self) -> str:
        """The function; while another thread is in it, the larger program runs.

        An interrupt waits until it is done: it takes no longer than that.
        """
        head, *lines = super().source().splitlines()
        larger = f"return larger({', '.join(self.arguments())})"
        guarded = ["        " + line for line in lines]
        return "\n".join(
            [
                head,
                "    held = hold()",
                "    try:",
                "        if not alone.acquire(False):",
                f"            {larger}",
                "        try:",
                *guarded,
                "        finally:",
                "            alone.release()",
                "    finally:",
                "        release(held)",
                "",
            ]
        )

    def body(self) -> None:
        for node, slot in self._slots.items():
            self.line(f"{slot}.prepare({self.tensor(node.leaf)})")
        self.line("if native(at):")
        self.line("    return larger(" + ", ".join(self.arguments()) + ")")
        for node in self.graph.nodes:
            if isinstance(node, Apply):
                for v in node.makes():
                    self._show(v)
            elif isinstance(node, Accumulate) and node in self._slots:
                self.line(f"{self.tensor(node.leaf)}._grad = {self._slots[node]}.tensor")
            elif not self._is_implied(node):
                for text in self.node(node):
                    self.line(text)

    def _is_implied(self, node: Node) -> bool:
        """Whether gradients are forgotten that are set anew behind."""
        return (
            isinstance(node, Effect)
            and node.call.kind == "clear"
            and set(node.tensors) <= {n.leaf for n in self._slots}
        )

    def _show(self, v: Value) -> None:
        """Bind a result's name to its place."""
        block = self._arena.get(v.memory)
        if block is not None:
            self.scope[v.name] = np.ndarray(v.shape, v.dtype, block, v.offset, v.strides)

    def begin(self, v: Value) -> None:
        if v not in self._native.places:
            super().begin(v)
            return
        place = self._native.places.index(v)
        if v.kind == "argument":
            copy = np.empty_like(np.ndarray(v.shape, v.dtype, bytes(extent(v)), 0, v.strides))
            if copy.strides != v.strides:
                raise UnsupportedError("an argument has gaps between its elements")
            self.scope[v.name] = copy
            self.line(f"copyto({v.name}, a{v.content}._data)", v.describe())
        else:
            copy = v.content._data if v.kind == "captured" else v.content
            if v.kind == "constant" and v.memory.written:
                raise UnsupportedError("a constant is written")
            self.scope[v.name] = copy
        self._table[place] = copy.ctypes.data

    def may_give_away(self, gradient: Value, node: Node) -> bool:
        return gradient.memory not in self._arena and super().may_give_away(gradient, node)

    def callable(self, node: Effect) -> Callable[[], Any]:
        # The program is guarded: its tensors keep their arrays.
        return node.call.function if node.call.bound is None else node.call.bound()

    def result(self, v: Value) -> str:
        return f"wrap({v.name}.copy('K'))" if v.memory in self._arena else super().result(v)


def _rounded(n: int) -> int:
    return -(-n // _ALIGNMENT) * _ALIGNMENT

"""Recognising: which value of the graph an array, or a Tensor, is.

An array is recognised wherever it turns up again, also where autograd has saved it, or shows
the same memory through another array object; what no operator has made was there before (a
parameter, say) or is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import Function
from ..autograd.restated import Alias
from ..errors import GraphBreak
from ..tensor import Tensor
from .arrays import Arrays
from .graph import Apply, Gradient, Graph, Memory, Value

__all__ = ["Recognition"]


class Recognition:
    """What is known of the arrays of one run.

    Args:
        graph: takes the values that are new.
        tensors: the Tensors among the arguments.
        line: says which line of the user runs.

    Attributes:
        arrays: the arrays that were seen.
        tensors: the Tensors that a program takes; gradients that will be given come behind.
        leaves: the leaves of the gradients that were seen, by their memory.
        inner_leaves: by id, leaves that the function makes over an argument's memory or a result's.
    """

    def __init__(self, graph: Graph, tensors: Iterable[Tensor], line: Callable[[], str]) -> None:
        self.graph = graph
        self.arrays = Arrays(graph)
        self.tensors = list(tensors)
        self.leaves: dict[Memory, Value] = {}
        self.inner_leaves: dict[int, Value] = {}
        self._line = line
        #: By the id of a gradient that lies in ``.grad``: the gradient and its leaf.
        self._gradients: dict[int, tuple[Tensor, Value]] = {}
        #: By the id of a Tensor from outside, its value.
        self._own: dict[int, Value] = {}
        #: The Tensor as which a value is returned; others that show the same are its aliases.
        self._results: dict[Value, Tensor] = {}
        for i, t in enumerate(self.tensors):
            t._refresh()
            self._outside("argument", i, t._data)

    def value(self, x: Any) -> Any:
        """The value of a Tensor; None and numbers as they are."""
        if not isinstance(x, Tensor):
            return x
        leaf = self._leaf_of(x)
        if leaf is not None:
            known = self.arrays.known(x._data)
            if known is not None and isinstance(known.node, Gradient):
                return known
            node = Gradient(leaf=leaf, line=self._line())
            value = self.arrays.new("result", None, x._data)
            value.node = node
            value.memory.written += 1  # by gradients that arrive later
            self.leaves[value.memory] = leaf
            node.outputs.append(value)
            self.graph.nodes.append(node)
            return value
        value = self.find(x._data)
        return self._outside("captured", x, x._data) if value is None else value

    def _leaf_of(self, t: Tensor) -> Value | None:
        """The leaf in whose ``.grad`` a tensor lies, if it was seen there."""
        kept = self._gradients.get(id(t))
        return kept[1] if kept is not None and kept[0] is t else None

    def counting(self, t: Tensor, memory: Memory) -> Value:
        """The argument or captured value that counts the writes to ``t``, which shows it."""
        owner = t if t._view is None else t._view.base
        if self.arrays.known(owner._data) is not None:
            return self.itself(owner)
        return next(v for v in self.graph.values if v.memory is memory and v.kind != "constant")

    def itself(self, t: Tensor) -> Value:
        """The value of just this Tensor, not of another one that shows the same memory."""
        own = self._own.get(id(t))
        if own is not None:
            return own
        value = self.value(t)
        if value.kind not in ("argument", "result"):
            return value if value.content is t else self._outside("captured", t, t._data)
        if value.kind == "argument" and self.tensors[value.content] is t:
            return value
        # A leaf over memory that has a value: as an input it stands for that.
        known = self.inner_leaves.get(id(t))
        if known is None:
            known = self.graph.value("captured", t, t._data, value.memory)
            self.inner_leaves[id(t)] = known
        return known

    def attribute(self, function: type[Function], x: Any) -> Any:
        """A keyword argument with values in place of arrays."""
        if isinstance(x, np.ndarray):
            value = self.find(x)
            return self._outside("constant", x.copy(order="K"), x) if value is None else value
        if isinstance(x, Tensor):
            raise GraphBreak(
                "compile",
                f"{function.__name__} is given a Tensor as a keyword argument.",
                facts=f"at {self._line()}",
                hint="Give Tensors to apply() by position.",
            )
        if type(x) in (tuple, list):
            return type(x)(self.attribute(function, y) for y in x)
        return x

    def find(self, array: NDArray) -> Value | None:
        """The value that an array is, None if it is new; where its memory is known, it must be."""
        value = self.arrays.known(array)
        if value is None and self.arrays.has_memory_of(array):
            raise GraphBreak(
                "compile",
                "an array shows memory of a traced tensor in a way that no operator has made.",
                facts=f"at {self._line()} · shape {array.shape}",
                hint="Use nano's operators to make views.",
            )
        return value

    def _outside(self, kind: str, content: Any, array: NDArray) -> Value:
        """A value that no node makes."""
        value = self.arrays.new(kind, content, array)
        value.memory.outside = kind != "constant"
        if kind != "constant":
            self._own[id(self.tensors[content] if kind == "argument" else content)] = value
        return value

    def made(self, node: Any, array: NDArray) -> Value:
        """A new result of a node."""
        value = self.arrays.new("result", None, array)
        value.node = node
        return value

    # Gradients --------------------------------------------------------------------------

    def is_gradient(self, t: Tensor) -> bool:
        """Whether a tensor was seen in the ``.grad`` of a leaf."""
        return id(t) in self._gradients

    def note_gradient(self, leaf: Tensor, value: Value) -> None:
        """From now on, know what lies in the ``.grad`` of a leaf."""
        if leaf._grad is not None:
            self._gradients[id(leaf._grad)] = leaf._grad, value

    def keep_cleared(self, leaves: Iterable[Tensor]) -> None:
        """Gradients that were seen in ``.grad`` may be used after it has forgotten them."""
        for leaf in leaves:
            if id(leaf._grad) in self._gradients:
                value = self.value(leaf._grad)
                self.leaves.pop(value.memory, None)
                del self._gradients[id(leaf._grad)]

    # The end ----------------------------------------------------------------------------

    def incoming(self, gradient: Tensor) -> Value:
        """The value of a gradient that will be given."""
        self.tensors.append(gradient)
        return self._outside("argument", len(self.tensors) - 1, gradient._data)

    def leaf_at(self, edge: Any) -> Value:
        """The value of the tensor from which an edge comes."""
        if edge[1] < 0:
            return self.itself(edge[0])
        for v in self.graph.values:
            t = {"argument": self.tensors.__getitem__, "captured": lambda x: x}.get(v.kind)
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

    def result(self, t: Tensor) -> Value:
        """The value of a Tensor that is returned; of another one that shows the same, an alias."""
        value = self.value(t)
        if value.kind in ("argument", "captured"):
            shown = self.tensors[value.content] if value.kind == "argument" else value.content
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

    def forget(self) -> None:
        """Let go of gradients and results, which hold leaves."""
        self._gradients.clear()
        self._results.clear()

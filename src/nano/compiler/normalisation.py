"""Passes that know softmax and layer normalisation when they are written by hand.

One kernel goes over memory once where the operators go over it five times. What lies between is
seen by nobody; so this is for programs without a derivative, which would read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..functions.binary import Add, Div, Mul, Pow, Sub
from ..functions.extremes import AMax, Max
from ..functions.normalisation import LayerNorm
from ..functions.reduction import Mean, Sum
from ..functions.softmax import LogSoftmax, Softmax
from ..functions.statistics import Var
from ..functions.unary import Exp, Log, Rsqrt, Sqrt, Square
from .graph import Apply, Graph, Node, Value, is_change

__all__ = ["layer_norms", "softmaxes"]

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


# Patterns ---------------------------------------------------------------------------------


class Operand:
    """A value that a pattern is about, or a number of the program."""

    def __init__(self, number: bool = False) -> None:
        self.number = number


class Pattern:
    """One of some operators, of operands that fit patterns; of two, in any order if ``turns``.

    The same pattern at two places is the same value at both.
    """

    def __init__(self, functions: Any, *operands: Any, turns: bool = False) -> None:
        self.functions = functions if isinstance(functions, tuple) else (functions,)
        self.operands = operands
        self.turns = turns


@dataclass
class _Found:
    """What the patterns are in a graph, and the nodes that they are made of."""

    values: dict[Any, Any] = field(default_factory=dict)
    nodes: list[Apply] = field(default_factory=list)

    def fits(self, pattern: Any, x: Any) -> bool:
        """Whether a value is what a pattern says."""
        if pattern in self.values:
            return self.values[pattern] is x
        if isinstance(pattern, Operand):
            if pattern.number != (type(x) in (int, float)) or x is None:
                return False
            self.values[pattern] = x
            return True
        if isinstance(pattern, tuple):  # one of several
            return any(self._tries([one], [x]) for one in pattern)
        if type(pattern) is float:
            return type(x) in (int, float) and x == pattern
        node = x.node if isinstance(x, Value) else None
        if not isinstance(node, Apply) or node.function not in pattern.functions:
            return False
        if node.outputs[0] is not x or len(node.inputs) != len(pattern.operands):
            return False
        orders = [node.inputs] + ([node.inputs[::-1]] if pattern.turns else [])
        if not any(self._tries(pattern.operands, order) for order in orders):
            return False
        self.values[pattern] = x
        self.nodes.append(node)
        return True

    def _tries(self, patterns: Any, operands: Any) -> bool:
        """Whether all fit; if not, nothing is remembered."""
        values, count = dict(self.values), len(self.nodes)
        if all(self.fits(p, x) for p, x in zip(patterns, operands, strict=True)):
            return True
        self.values = values
        del self.nodes[count:]
        return False


_X, _EPS, _WEIGHT, _BIAS = Operand(), Operand(number=True), Operand(), Operand()

_SHIFTED = Pattern(Sub, _X, Pattern((AMax, Max), _X))
_EXP = Pattern(Exp, _SHIFTED)
_SOFTMAX = Pattern(Div, _EXP, Pattern(Sum, _EXP))
_LOG_SOFTMAX = Pattern(Sub, _SHIFTED, Pattern(Log, Pattern(Sum, _EXP)))

_CENTRED = Pattern(Sub, _X, Pattern(Mean, _X))
_SQUARE = (
    Pattern(Square, _CENTRED),
    Pattern(Mul, _CENTRED, _CENTRED),
    Pattern(Pow, _CENTRED, 2.0),
)
_SPREAD = Pattern(Add, (Pattern(Var, _X), Pattern(Mean, _SQUARE)), _EPS, turns=True)
_NORMAL = (
    Pattern(Div, _CENTRED, Pattern(Sqrt, _SPREAD)),
    Pattern(Mul, _CENTRED, Pattern(Rsqrt, _SPREAD), turns=True),
)
_SCALED = Pattern(Mul, _NORMAL, _WEIGHT, turns=True)
_MOVED = Pattern(Add, _SCALED, _BIAS, turns=True)


# Passes -----------------------------------------------------------------------------------


def softmaxes(graph: Graph) -> None:
    """exp(x - max) / sum(exp(x - max)), and its logarithm, as one operator."""
    _replace(graph, _SOFTMAX, _as_softmax)
    _replace(graph, _LOG_SOFTMAX, _as_softmax)


def layer_norms(graph: Graph) -> None:
    """(x - mean) / sqrt(var + eps), with weight and bias or without, as one operator."""
    for pattern in (_MOVED, _SCALED, *_NORMAL):
        _replace(graph, pattern, _as_layer_norm)


def _as_softmax(found: _Found, dims: tuple[int, ...]) -> Apply | None:
    x = found.values[_X]
    if len(dims) != 1:
        return None
    function = Softmax if _SOFTMAX in found.values else LogSoftmax
    return Apply(function=function, inputs=[x], attributes={"dim": dims[0]}, needs=(False,))


def _as_layer_norm(found: _Found, dims: tuple[int, ...]) -> Apply | None:
    x, weight, bias = (found.values.get(p) for p in (_X, _WEIGHT, _BIAS))
    if x is None or dims != tuple(range(len(x.shape) - len(dims), len(x.shape))):
        return None
    for v in (weight, bias):
        if v is not None and (v.shape != x.shape[dims[0] :] or v.dtype != x.dtype):
            return None
    if any(n.attributes["correction"] != 0 for n in found.nodes if n.function is Var):
        return None
    attributes = {"axes": len(dims), "eps": float(found.values[_EPS])}
    inputs = [x, weight, bias]
    return Apply(function=LayerNorm, inputs=inputs, attributes=attributes, needs=(False,) * 3)


def _replace(graph: Graph, pattern: Any, make: Callable[..., Apply | None]) -> None:
    """Put what ``make(found, dims)`` gives in the place of the nodes that fit a pattern."""
    uses = graph.uses()
    places = {id(node): i for i, node in enumerate(graph.nodes)}
    nodes: list[Node | None] = list(graph.nodes)
    for i, last in enumerate(graph.nodes):
        y = last.outputs[0] if isinstance(last, Apply) else None
        found = _Found()
        if y is None or not found.fits(pattern, y):
            continue
        members = list(dict.fromkeys(found.nodes))
        dims = _dims(members)
        if dims is None or not _is_seen_by_nobody(graph, members, last, uses):
            continue
        first = min(places[id(n)] for n in members)
        if any(is_change(n) for n in graph.nodes[first:i]):
            continue
        node = make(found, dims)
        if node is None:
            continue
        node.outputs, node.line, node.phase, node.exact = [y], last.line, last.phase, False
        y.node = node
        places[id(node)] = i
        for n in members:
            nodes[places[id(n)]] = None
        nodes[i] = node
    graph.nodes = [n for n in nodes if n is not None]


def _dims(members: list[Apply]) -> tuple[int, ...] | None:
    """The dimensions that all reductions go over, which they keep; None if they disagree."""
    found = set()
    for node in members:
        if "keepdim" in node.attributes:
            dim = node.attributes["dim"]
            if not node.attributes["keepdim"] or dim is None:
                return None
            found.add(tuple(sorted(dim)) if isinstance(dim, tuple) else (dim,))
    return found.pop() if len(found) == 1 else None


def _is_seen_by_nobody(graph: Graph, members: list[Apply], last: Node, uses: Any) -> bool:
    """Whether all that is made on the way to the result is read there alone."""
    inside: dict[Value, int] = {}
    for node in members:
        for v in node.reads():
            inside[v] = inside.get(v, 0) + 1
            if v.memory.written:
                return False
        for v in node.makes():
            if v.memory.written or (v.dtype not in _DTYPES and uses[v]):
                return False
    y: Any = last.outputs[0]
    between = [v for n in members for v in n.makes() if v is not y]
    if any(uses[v] != inside.get(v, 0) for v in between):
        return False
    largest = [v for n in members for v in n.reads() if v.shape == y.shape]
    return all(v.strides == y.strides and v.dtype == y.dtype for v in largest)

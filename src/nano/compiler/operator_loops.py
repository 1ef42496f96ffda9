"""The loops of single operators in a native function: what is written for which operator.

Sizes, strides and places are numbers in the text; see :mod:`native` for the rest of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import numpy as np

from ..functions.batch_norm import MovingAverage
from ..functions.class_losses import NllLoss, NllLossBackward
from ..functions.conversion import Clone
from ..functions.matmul import Linear, MatMul
from ..functions.movement import Reshape
from ..functions.reduction import Mean, Spread, Sum
from ..functions.softmax import LogSoftmax, LogSoftmaxBackward, Softmax, SoftmaxBackward
from .formula import UnsupportedError
from .graph import Apply, Memory, Node, Value

__all__ = [
    "LOOPS",
    "TYPES",
    "OperatorLoops",
    "element",
    "extent",
    "is_dense",
    "multiplications",
    "spreads_to",
    "steps",
]

#: Multiplications of a product: from so many on, oneDNN's is faster than a loop, for blocks of it
#: must be kept in registers.
_FOR_ONEDNN = 1 << 14
TYPES = {"float32": "f32", "float64": "f64", "int64": "np.int64", "bool": "np.bool_"}
_INDICES = "ijlmnopq"


class OperatorLoops:
    """Writes loops, line by line.

    Attributes:
        places: for each address in the table that the function is given, what lies there: a
            Value, the Memory of results, or ``"sgemm"`` for oneDNN's function.
        calls_onednn: whether it calls that.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        #: How far lines are indented, and how far those outside of an operator's loops.
        self._depth = self._outermost = 1
        self.places: list[Value | Memory | str] = []
        self._index: dict[Any, int] = {}
        self._addresses: dict[Value, str] = {}
        self.calls_onednn = False

    # Writing ----------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text if text else "")

    def _place(self, what: Value | Memory | str) -> int:
        if what not in self._index:
            self._index[what] = len(self.places)
            self.places.append(what)
        return self._index[what]

    def _loops(self, shape: Iterable[int], names: Iterable[str] = _INDICES) -> list[str]:
        """Open a loop for each dimension; their indices, ``"0"`` where there is but one."""
        indices = []
        for n, name in zip(shape, names, strict=False):
            if n == 1:
                indices.append("0")
                continue
            self._line(f"for {name} in range({n}):")
            self._depth += 1
            indices.append(name)
        return indices

    def _close(self) -> None:
        """End the loops of an operator."""
        self._depth = self._outermost

    def _copy(self, x: Value, y: Value, **_: Any) -> None:
        """y = x, repeated where it is smaller."""
        if x.dtype != y.dtype and y.dtype.kind != "f":
            raise UnsupportedError("a conversion has no loop")
        if x.size == y.size and is_dense(x) and is_dense(y) and _in_order(x) and _in_order(y):
            (i,) = self._loops([y.size])
            self._line(f"{y.name}[{i}] = {x.name}[{i}]")
        elif prod(x.shape) == prod(y.shape) and x.shape != y.shape:
            raise UnsupportedError("a copy in another shape has no loop")
        else:
            indices = self._loops(y.shape)
            self._line(f"{element(y, indices)} = {element(x, indices)}")
        self._close()

    def _clone(self, y: Value, x: Value, **_: Any) -> None:
        self._copy(x, y)

    def _spread(self, y: Value, x: Value, *, shape: Any, dim: Any, keepdim: bool) -> None:
        """x along the dimensions that a reduction has taken away."""
        gone = set(range(len(shape))) if dim is None else set(dim)
        indices = self._loops(y.shape)
        if len(x.shape) == len(shape):
            kept = ["0" if d in gone else i for d, i in enumerate(indices)]
        else:
            kept = [i for d, i in enumerate(indices) if d not in gone]
        self._line(f"{element(y, indices)} = {element(x, kept)}")

    # Reductions -------------------------------------------------------------------------

    def _sum(
        self, y: Value, x: Value, *, dim: Any = None, keepdim: bool = False, mean: bool = False
    ) -> None:
        gone = set(range(len(x.shape))) if dim is None else set(dim)
        count = prod(x.shape[d] for d in gone)
        kept = [n for d, n in enumerate(x.shape) if d not in gone]
        outer = self._loops(kept)
        place = element(y, outer if not keepdim else _with_zeros(outer, gone, x))
        self._line(f"s = {TYPES[y.dtype.name]}(0)")
        inner = self._loops([x.shape[d] for d in sorted(gone)], "abcdefg")
        at, o, g = [], iter(outer), iter(inner)
        for d in range(len(x.shape)):
            at.append(next(g) if d in gone else next(o))
        self._line(f"s += {element(x, at)}")
        self._depth -= sum(i != "0" for i in inner)
        self._line(f"{place} = s / {count}" if mean else f"{place} = s")
        if mean:
            self._lines[-1] = self._lines[-1].replace(
                f"/ {count}", f"/ {TYPES[y.dtype.name]}({count})"
            )

    def _mean(self, y: Value, x: Value, **attributes: Any) -> None:
        self._sum(y, x, mean=True, **attributes)

    def _moving_average(
        self, y: Value, running: Value, new: Value, momentum: Any, *, factor: float
    ) -> None:
        if type(momentum) is not float or not running.dtype == new.dtype == y.dtype:
            raise UnsupportedError("a moving average like this has no loop")
        kind = TYPES[y.dtype.name]
        (i,) = self._loops(y.shape)
        old, late = f"{kind}({1 - momentum!r})", f"{kind}({momentum * factor!r})"
        x, z = element(running, [i]), element(new, [i])
        self._line(f"{element(y, [i])} = {x} * {old} + {z} * {late}")

    # Products ---------------------------------------------------------------------------

    def _linear(self, y: Value, x: Value, weight: Value, bias: Value | None) -> None:
        if len(x.shape) != 2:
            raise UnsupportedError("a product of a batch has no loop")
        (n, k), m = x.shape, weight.shape[0]
        if n * k * m >= _FOR_ONEDNN:
            self._by_onednn(y, x, weight, False, True)
            if bias is not None:
                i, j = self._loops((n, m))
                self._line(f"{element(y, [i, j])} += {element(bias, [j])}")
            return
        i, j = self._loops((n, m))
        self._line(f"s = {TYPES[y.dtype.name]}(0)")
        self._line(f"for k in range({k}):")
        self._line(f"    s += {element(x, [i, 'k'])} * {element(weight, [j, 'k'])}")
        added = "" if bias is None else f" + {element(bias, [j])}"
        self._line(f"{element(y, [i, j])} = s{added}")

    def _matmul(
        self, y: Value, a: Value, b: Value, *, transpose_x: bool = False, transpose_y: bool = False
    ) -> None:
        if len(a.shape) != 2 or len(b.shape) != 2:
            raise UnsupportedError("a product of a batch has no loop")
        n, m = y.shape
        k = a.shape[0 if transpose_x else 1]
        if n * k * m >= _FOR_ONEDNN:
            self._by_onednn(y, a, b, transpose_x, transpose_y)
            return

        def left(i: str, k: str) -> str:
            return element(a, [k, i] if transpose_x else [i, k])

        def right(k: str, j: str) -> str:
            return element(b, [j, k] if transpose_y else [k, j])

        if transpose_y or m == 1:
            i, j = self._loops((n, m))
            self._line(f"s = {TYPES[y.dtype.name]}(0)")
            self._line(f"for k in range({k}):")
            self._line(f"    s += {left(i, 'k')} * {right('k', j)}")
            self._line(f"{element(y, [i, j])} = s")
            return
        (i,) = self._loops((n,))
        self._line(f"for j in range({m}):")
        self._line(f"    {element(y, [i, 'j'])} = {left(i, '0')} * {right('0', 'j')}")
        self._line(f"for k in range(1, {k}):")
        self._line(f"    s = {left(i, 'k')}")
        self._line(f"    for j in range({m}):")
        self._line(f"        {element(y, [i, 'j'])} += s * {right('k', 'j')}")

    def _by_onednn(self, y: Value, a: Value, b: Value, turn_a: bool, turn_b: bool) -> None:
        """y = a b by ``dnnl_sgemm``, on all threads; each may be transposed."""
        if y.dtype != np.float32:
            raise UnsupportedError(f"large products of {y.dtype} have no loop")
        (n, m), k = y.shape, a.shape[0 if turn_a else 1]
        sides = []
        for v, turn in ((a, turn_a), (b, turn_b), (y, False)):
            rows, columns = steps(v)
            if rows == 1 and columns >= v.shape[0] and v is not y:
                rows, columns, turn = columns, rows, not turn
            if columns != 1 or rows < v.shape[0 if rows == steps(v)[1] else 1]:
                raise UnsupportedError("a matrix lies with gaps between its elements")
            sides.append((f"np.int64({self._addresses[v]})", "T" if turn else "N", rows))
        (x, tx, ldx), (w, tw, ldw), (out, _, ldy) = sides
        self.calls_onednn = True
        letters = {"N": "NORMAL", "T": "TRANSPOSED"}
        self._line(
            f"sgemm(np.int64(at[{self._place('sgemm')}]), {letters[tx]}, {letters[tw]}, {n}, {m}, "
            f"{k}, f32(1), {x}, {ldx}, {w}, {ldw}, f32(0), {out}, {ldy})"
        )

    # Rows of scores ---------------------------------------------------------------------

    def _rows(self, x: Value, dim: int) -> Callable[[Value, str], str]:
        """Loops over all dimensions but ``dim``; where an element of a row lies."""
        others = [n for d, n in enumerate(x.shape) if d != dim]
        indices = self._loops(others)

        def at(v: Value, r: str) -> str:
            return element(v, [*indices[:dim], r, *indices[dim:]])

        return at

    def _softmax_sum(self, at: Callable[[Value, str], str], x: Value, n: int) -> None:
        self._line(f"top = {at(x, '0')}")
        self._line(f"for r in range(1, {n}):")
        self._line(f"    top = math.maximum(top, {at(x, 'r')})")
        self._line("s = f32(0)")

    def _log_softmax(self, y: Value, x: Value, *, dim: int) -> None:
        n = x.shape[dim]
        self._only_float32(x)
        at = self._rows(x, dim)
        self._softmax_sum(at, x, n)
        self._line(f"for r in range({n}):")
        self._line(f"    s += math.exp({at(x, 'r')} - top)")
        self._line("s = math.log(s)")
        self._line(f"for r in range({n}):")
        self._line(f"    {at(y, 'r')} = {at(x, 'r')} - top - s")

    def _softmax(self, y: Value, x: Value, *, dim: int) -> None:
        n = x.shape[dim]
        self._only_float32(x)
        at = self._rows(x, dim)
        self._softmax_sum(at, x, n)
        self._line(f"for r in range({n}):")
        self._line(f"    e = math.exp({at(x, 'r')} - top)")
        self._line(f"    {at(y, 'r')} = e")
        self._line("    s += e")
        self._line(f"for r in range({n}):")
        self._line(f"    {at(y, 'r')} = {at(y, 'r')} / s")

    def _log_softmax_backward(self, r: Value, g: Value, y: Value, *, dim: int) -> None:
        n = y.shape[dim]
        self._only_float32(y)
        at = self._rows(y, dim)
        self._line("s = f32(0)")
        self._line(f"for r in range({n}):")
        self._line(f"    s += {at(g, 'r')}")
        self._line(f"for r in range({n}):")
        self._line(f"    {at(r, 'r')} = {at(g, 'r')} - math.exp({at(y, 'r')}) * s")

    def _softmax_backward(self, r: Value, g: Value, y: Value, *, dim: int) -> None:
        n = y.shape[dim]
        at = self._rows(y, dim)
        self._line(f"s = {TYPES[y.dtype.name]}(0)")
        self._line(f"for r in range({n}):")
        self._line(f"    s += {at(g, 'r')} * {at(y, 'r')}")
        self._line(f"for r in range({n}):")
        self._line(f"    {at(r, 'r')} = {at(y, 'r')} * ({at(g, 'r')} - s)")

    def _only_float32(self, x: Value) -> None:
        if x.dtype != np.float32:
            raise UnsupportedError(f"exponentials of {x.dtype} have no loop")

    # Losses -----------------------------------------------------------------------------

    def _labels(self, target: Value, weight: Any, shape: Any, ignore_index: int) -> str:
        """Count the labels that are not ignored, and refuse those that are no class."""
        if len(shape) != 2 or weight is not None or target.dtype != np.int64:
            raise UnsupportedError("a loss like this has no loop")
        place = element(target, ["i"])
        self._line("count = 0")
        self._line(f"for i in range({shape[0]}):")
        self._line(f"    if {place} != {ignore_index}:")
        self._line(f"        if {place} < 0 or {place} >= {shape[1]}:")
        self._line("            return 1")
        self._line("        count += 1")
        return place

    def _nll_loss(
        self, y: Value, x: Value, target: Value, weight: Any, *, ignore_index: int, reduction: str
    ) -> None:
        place = self._labels(target, weight, x.shape, ignore_index)
        if reduction == "none":
            raise UnsupportedError("a loss like this has no loop")
        kind = TYPES[y.dtype.name]
        self._line(f"s = {kind}(0)")
        self._line(f"for i in range({x.shape[0]}):")
        self._line(f"    if {place} != {ignore_index}:")
        self._line(f"        s -= {element(x, ['i', place])}")
        self._line(
            f"{element(y, [])} = s / {kind}(count)" if reduction == "mean" else f"{y.name}[0] = s"
        )

    def _nll_loss_backward(
        self,
        y: Value,
        g: Value,
        target: Value,
        weight: Any,
        *,
        shape: Any,
        ignore_index: int,
        reduction: str,
    ) -> None:
        place = self._labels(target, weight, shape, ignore_index)
        if reduction == "none":
            raise UnsupportedError("a loss like this has no loop")
        kind = TYPES[y.dtype.name]
        divided = f" / {kind}(count)" if reduction == "mean" else ""
        self._line(f"for i in range({shape[0]}):")
        self._line(f"    for j in range({shape[1]}):")
        self._line(f"        {element(y, ['i', 'j'])} = 0")
        self._line(f"    if {place} != {ignore_index}:")
        self._line(f"        {element(y, ['i', place])} = -{element(g, [])}{divided}")


LOOPS: dict[Any, Callable[..., None]] = {
    Clone: OperatorLoops._clone,
    Linear: OperatorLoops._linear,
    LogSoftmax: OperatorLoops._log_softmax,
    LogSoftmaxBackward: OperatorLoops._log_softmax_backward,
    MatMul: OperatorLoops._matmul,
    Mean: OperatorLoops._mean,
    MovingAverage: OperatorLoops._moving_average,
    NllLoss: OperatorLoops._nll_loss,
    NllLossBackward: OperatorLoops._nll_loss_backward,
    Reshape: OperatorLoops._clone,
    Softmax: OperatorLoops._softmax,
    SoftmaxBackward: OperatorLoops._softmax_backward,
    Spread: OperatorLoops._spread,
    Sum: OperatorLoops._sum,
}


def extent(v: Value) -> int:
    """Bytes from the first to the end of the last element, of strides that are not negative."""
    return sum((n - 1) * s for n, s in zip(v.shape, v.strides, strict=True)) + v.dtype.itemsize


def steps(v: Value) -> tuple[int, ...]:
    """The strides in elements."""
    return tuple(s // v.dtype.itemsize for s in v.strides)


def element(v: Value, indices: list[str]) -> str:
    """The element of a value at the indices of the loops; it may have fewer dimensions."""
    own = indices[len(indices) - len(v.shape) :]
    parts = []
    for n, step, i in zip(v.shape, steps(v), own, strict=True):
        if n > 1 and step and i != "0":
            parts.append(i if step == 1 else f"{i} * {step}")
    return f"{v.name}[{' + '.join(parts) or 0}]"


def spreads_to(shape: tuple[int, ...], larger: tuple[int, ...]) -> bool:
    """Whether one shape is broadcast to the other."""
    if len(shape) > len(larger):
        return False
    pairs = zip(shape[::-1], larger[::-1], strict=False)
    return all(n in (1, m) for n, m in pairs)


def _with_zeros(outer: list[str], gone: set[int], x: Value) -> list[str]:
    rest = iter(outer)
    return ["0" if d in gone else next(rest) for d in range(len(x.shape))]


def is_dense(v: Value) -> bool:
    """Whether the elements lie together, in whatever order."""
    expected = 1
    for step, n in sorted(zip(steps(v), v.shape, strict=True)):
        if n == 1:
            continue
        if step != expected:
            return False
        expected *= n
    return True


def _in_order(v: Value) -> bool:
    """Whether they lie in row-major order."""
    live = [s for s, n in zip(steps(v), v.shape, strict=True) if n > 1]
    return live == sorted(live, reverse=True)


def multiplications(node: Node) -> int:
    """Of a product of matrices, how many numbers are multiplied; 0 of anything else."""
    if not isinstance(node, Apply) or node.function not in (Linear, MatMul):
        return 0
    (y,) = node.makes()
    x = node.inputs[0]
    return y.size * x.shape[-2 if node.attributes.get("transpose_x") else -1]

"""What operators do to the rows of matrices, for :mod:`row_blocks`: which rows they read and make.

An array is a table of so many rows if its first dimensions count the rows, which lie equally far
apart, and the others lie together. (16, 128, 512) is a table of 2048 rows, and one of 16.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..functions.joining import Cat
from ..functions.matmul import Linear, MatMul
from ..functions.movement import Reshape, ViewAs
from ..functions.normalisation import LayerNorm, LayerNormBackward
from ..functions.reduction import Sum
from .formula import UnsupportedError
from .graph import Apply, Node, Value
from .loops import check_operator, is_reduction

__all__ = ["Matrix", "Step", "Table", "as_matrix", "as_table", "row_counts", "step_of"]

_FLOAT32 = np.dtype(np.float32)
#: Bytes of a number.
SIZE = 4


class Table(NamedTuple):
    """How rows lie: ``step`` elements after each other, ``columns`` elements each."""

    step: int
    columns: int
    #: How many dimensions count the rows.
    outer: int


def as_table(v: Value, rows: int) -> Table | None:
    """The value as a table of so many rows, or None if it is none."""
    if v.dtype != _FLOAT32:
        return None
    outer = next((d for d in range(len(v.shape) + 1) if prod(v.shape[:d]) == rows), None)
    if outer is None:
        return None
    step = _joined(v.shape[:outer], v.strides[:outer])
    inner = _joined(v.shape[outer:], v.strides[outer:])
    columns = prod(v.shape[outer:])
    if not columns or inner not in (SIZE, None) or step is None or step < columns * SIZE:
        return None
    return None if step % SIZE else Table(step // SIZE, columns, outer)


def _joined(shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """From one element to the next, if dimensions can be counted as one; else, or of one, None."""
    live = [(n, s) for n, s in zip(shape, strides, strict=True) if n > 1]
    if any(s != m * t for (_, s), (m, t) in pairwise(live)):
        return -1
    return live[-1][1] if live else None


class Matrix(NamedTuple):
    """A matrix that all rows are multiplied with, as it lies: row by row, or its transpose so."""

    rows: int
    columns: int
    transposed: bool


def as_matrix(v: Value) -> Matrix | None:
    """The matrix as it lies, or None if it has gaps."""
    if len(v.shape) != 2 or v.dtype != _FLOAT32:
        return None
    n, m = v.shape
    if v.strides == (SIZE * m, SIZE):
        return Matrix(n, m, False)
    return Matrix(m, n, True) if v.strides == (SIZE, SIZE * n) else None


@dataclass(eq=False)
class Step:
    """An operator as rows see it.

    Attributes:
        node: the operator.
        kind: ``product``, ``add_product`` (of two tables, a sum over the rows), ``sum``, ``cat``,
            ``normalise``, ``slopes``, ``view`` or ``formula``.
        tables, shared: the values that it reads row by row, and as a whole for each row.
        makes, sums: the values that it makes row by row, and by a sum over all rows.
        turn: whether a product is by the transpose of the matrix as it lies.
    """

    node: Apply
    kind: str
    tables: list[Value]
    shared: list[Value] = field(default_factory=list)
    makes: list[Value] = field(default_factory=list)
    sums: list[Value] = field(default_factory=list)
    turn: bool = False


def row_counts(node: Node) -> set[int]:
    """Of a product by a matrix, how many rows the tables have that it reads and makes."""
    if not isinstance(node, Apply) or node.function not in (Linear, MatMul):
        return set()
    x = node.inputs[0]
    return {x.shape[0] if node.function is MatMul else prod(x.shape[:-1])}


def step_of(node: Node, rows: int) -> Step | None:
    """What a node does to tables of so many rows, or None if it is not known."""
    if not isinstance(node, Apply) or node.random or not node.outputs:
        return None
    values = [*node.reads(), *node.makes()]
    if any(v.memory.written or v.dtype != _FLOAT32 for v in values):
        return None
    if any(v is not None for v in node.outputs[node.count :]) and node.function is not LayerNorm:
        return None
    found = _KINDS.get(node.function, _formula)(node, rows)
    if found is None or not all(as_table(v, rows) for v in found.tables):
        return None
    for v in found.makes:
        table = as_table(v, rows)
        if table is None or (found.kind != "view" and not _is_plain(v)):
            return None
    return found if all(map(_is_plain, found.sums)) else None


def _is_plain(v: Value) -> bool:
    return not v.offset and v.strides == np.empty(v.shape, v.dtype).strides


def _by_matrix(node: Apply, x: Value, w: Value, y: Value, turned: bool) -> Step | None:
    matrix = as_matrix(w)
    if matrix is None:
        return None
    return Step(node, "product", [x], [w], [y], turn=turned != matrix.transposed)


def _linear(node: Apply, rows: int) -> Step | None:
    x, w, bias = node.inputs
    y = node.outputs[0]
    if y is None or prod(x.shape[:-1]) != rows or len(x.shape) < 2:
        return None
    step = _by_matrix(node, x, w, y, True)
    if step and bias is not None:
        step.shared.append(bias)
    return step if bias is None or bias.strides == (SIZE,) else None


def _matmul(node: Apply, rows: int) -> Step | None:
    x, y = node.inputs
    made = node.outputs[0]
    turn_x, turn_y = (node.attributes.get(f"transpose_{k}", False) for k in "xy")
    if made is None or len(x.shape) != 2 or len(y.shape) != 2 or x.shape[0] != rows:
        return None
    if not turn_x:
        return _by_matrix(node, x, y, made, turn_y)
    return None if turn_y else Step(node, "add_product", [x, y], sums=[made])


def _sum(node: Apply, rows: int) -> Step | None:
    (x,), y = node.inputs, node.outputs[0]
    table = as_table(x, rows)
    dim = node.attributes.get("dim")
    if table is None or y is None or dim is None or node.attributes.get("keepdim"):
        return None
    return Step(node, "sum", [x], sums=[y]) if set(dim) == set(range(table.outer)) else None


def _cat(node: Apply, rows: int) -> Step | None:
    y = node.outputs[0]
    table = None if y is None else as_table(y, rows)
    if table is None or not all(isinstance(x, Value) for x in node.inputs):
        return None
    if node.attributes["dim"] != len(y.shape) - 1 or table.outer != len(y.shape) - 1:  # type: ignore
        return None
    return Step(node, "cat", list(node.inputs), makes=[y])  # type: ignore[list-item]


def _layer_norm(node: Apply, rows: int) -> Step | None:
    x, weight, bias = node.inputs
    table = as_table(x, rows)
    if table is None or table.outer != len(x.shape) - node.attributes["axes"]:
        return None
    if weight is None or bias is None or not (_is_plain(weight) and _is_plain(bias)):
        return None
    return Step(node, "normalise", [x], [weight, bias], list(node.makes()))


def _layer_norm_backward(node: Apply, rows: int) -> Step | None:
    g, x, weight, mean, rstd = node.inputs
    table = as_table(x, rows)
    if table is None or table.outer != len(x.shape) - node.attributes["axes"]:
        return None
    if weight is None or not _is_plain(weight):
        return None
    dx, *sums = node.outputs
    makes = [] if dx is None else [dx]
    return Step(node, "slopes", [g, x, mean, rstd], [weight], makes, [v for v in sums if v])


def _view(node: Apply, rows: int) -> Step | None:
    x, y = node.inputs[0], node.outputs[0]
    if y is None or y.memory is not x.memory or y.offset != x.offset:
        return None
    one, other = as_table(x, rows), as_table(y, rows)
    if one is None or other is None or one[:2] != other[:2]:
        return None
    return Step(node, "view", [x], makes=[y])


def _formula(node: Apply, rows: int) -> Step | None:
    y = node.outputs[0]
    table = None if y is None else as_table(y, rows)
    if table is None or is_reduction(node):
        return None
    try:
        check_operator(node)
    except UnsupportedError:
        return None
    tables, shared = [], []
    for v in node.reads():
        own = as_table(v, rows)
        if v.shape == y.shape and own is not None:  # type: ignore[union-attr]
            tables.append(v)
        elif v.size == 1 or _is_row(v, y.shape[table.outer :]):  # type: ignore[union-attr]
            shared.append(v)
        else:
            return None
    return Step(node, "formula", tables, shared, [y])  # type: ignore[list-item]


def _is_row(v: Value, shape: tuple[int, ...]) -> bool:
    """Whether it is one row for all rows of a table."""
    extra = len(v.shape) - len(shape)
    return _joined(v.shape, v.strides) == SIZE and (
        v.shape[max(extra, 0) :] == shape and all(n == 1 for n in v.shape[: max(extra, 0)])
    )


_KINDS: dict[Any, Any] = {
    Cat: _cat,
    LayerNorm: _layer_norm,
    LayerNormBackward: _layer_norm_backward,
    Linear: _linear,
    MatMul: _matmul,
    Reshape: _view,
    Sum: _sum,
    ViewAs: _view,
}

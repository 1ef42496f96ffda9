"""Matrix products, and the linear layer's with its bias.

Two matrices of float32 go to ``dnnl_sgemm``, which takes any sizes without being
built for them; bfloat16, batches and products with a bias are primitives. Transposed
operands are taken as they lie in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import memory as results
from .. import precision, threads
from ..registry import register
from .library import OneDnnError, library
from .memory import FLOAT32, Descriptor, describe, plain
from .post_ops import PostOps
from .primitives import BIAS, DST, SRC, WEIGHTS, Plan, Primitive, rounding
from .suits import answer, built, suits

__all__ = ["linear", "matmul"]

#: Fewer multiplications than these NumPy does as soon, on one thread. Measured: in float32,
#: 128 x 128 x 128 takes it 35 us, and oneDNN on two threads 31 when both are free, but 250
#: when one is not. In bfloat16, where NumPy has to convert, 64 x 64 x 64 takes 11 and 10 us.
_FEW = {4: 2**21, 2: 2**18}
_FEWEST = min(_FEW.values())
_TOO_FEW = "so few multiplications NumPy does as soon"

_Matrix = tuple[NDArray, bytes, int]


# Two matrices of float32 ----------------------------------------------------------------


def _as_blas(x: NDArray) -> _Matrix:
    """A matrix as BLAS takes it: where it lies, whether as its transpose, a row's distance."""
    rows, columns = x.shape
    down, across = x.strides
    size = x.itemsize
    if across == size and down >= columns * size and not down % size:
        return x, b"N", down // size
    if down == size and across >= rows * size and not across % size:
        return x, b"T", across // size
    return np.ascontiguousarray(x), b"N", columns


def _sgemm(x: NDArray, y: NDArray) -> NDArray:
    threads.this_thread()
    n, k = x.shape
    m = y.shape[1]
    out = results.empty((n, m), FLOAT32)
    x, x_order, x_row = _as_blas(x)
    y, y_order, y_row = _as_blas(y)
    status = library().sgemm(
        *(x_order, y_order, n, m, k, 1.0, x.ctypes.data, x_row),
        *(y.ctypes.data, y_row, 0.0, out.ctypes.data, m),
    )
    if status:
        raise OneDnnError("dnnl_sgemm", status)
    return out


# Everything else ------------------------------------------------------------------------


class Product:
    """x y + bias for matrices, or batches of them, of fixed shapes, strides and dtype.

    ``bias`` has as many dimensions as the result and broadcasts with it. With ``steps``, that
    is what is done to the result before it is written, and it reads arrays of its own.
    """

    def __init__(
        self,
        x: NDArray,
        y: NDArray,
        bias: NDArray | None,
        rounded: bool,
        steps: PostOps | None = None,
    ) -> None:
        self.dtype = x.dtype
        self.batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        self.shape = (*self.batch, x.shape[-2], y.shape[-1])
        memory = {SRC: _descriptor(x), WEIGHTS: _descriptor(y)}
        if bias is not None:
            memory[BIAS] = _descriptor(bias)
        memory[DST] = plain(self.shape, self.dtype)
        handles = {argument: d.handle for argument, d in memory.items()}
        plan = Plan(
            "dnnl_matmul_primitive_desc_create",
            *(library().engine, handles[SRC], handles[WEIGHTS], handles.get(BIAS), handles[DST]),
            steps.handle if steps else rounding() if rounded else None,
        )
        self.primitive = Primitive(plan, memory | (steps.memory if steps else {}))

    def __call__(self, x: NDArray, y: NDArray, bias: NDArray | None, *more: int) -> NDArray:
        out = results.empty(self.shape, self.dtype)
        if bias is None:
            self.primitive(x.ctypes.data, y.ctypes.data, out.ctypes.data, *more)
        else:
            self.primitive(x.ctypes.data, y.ctypes.data, bias.ctypes.data, out.ctypes.data, *more)
        return out


def _descriptor(x: NDArray) -> Descriptor:
    found = describe(x)
    assert found is not None, "strides that _plain has let pass"
    return found


def _plain(x: NDArray) -> NDArray:
    """x itself if oneDNN has fast implementations for its strides, or a copy in C order."""
    if (x.strides[-1] == x.itemsize or x.strides[-2] == x.itemsize) and describe(x) is not None:
        return x
    return np.ascontiguousarray(x)


def batched(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Both with the same number of dimensions, in plain strides."""
    while x.ndim < y.ndim:
        x = x[None]
    while y.ndim < x.ndim:
        y = y[None]
    return _plain(x), _plain(y)


def is_rounded(x: Any) -> bool:
    """Whether numbers of a float32 product may be rounded to bfloat16."""
    return x.dtype is FLOAT32 and precision.rounds_to_bfloat16()


def _product(x: NDArray, y: NDArray, bias: NDArray | None) -> Any:
    """The product for such arrays, or the reason why oneDNN has none; either is kept."""
    rounded = is_rounded(x)
    bias_size = None if bias is None else bias.shape

    key = (Product, x.shape, x.strides, y.shape, y.strides, x.dtype, bias_size, rounded)
    return built(key, lambda: Product(x, y, bias, rounded))


def _is_for_sgemm(x: Any, y: Any) -> bool:
    return x.ndim == 2 == y.ndim and x.itemsize == 4 and not precision.rounds_to_bfloat16()


# Candidates -----------------------------------------------------------------------------


def matmul(x: NDArray, y: NDArray) -> NDArray:
    """See the reference kernel."""
    if _is_for_sgemm(x, y):
        return _sgemm(x, y)
    x, y = batched(x, y)
    return _product(x, y, None)(x, y, None)


def accepts_matmul(x: Any, y: Any) -> bool | str:
    # Small products are asked about most often: theirs is the first question.
    count = x.size * y.shape[-1]
    if count < _FEWEST or count < _FEW.get(x.itemsize, 0):
        return _TOO_FEW
    if x.ndim < 2 or y.ndim < 2:
        return "products of vectors are left to NumPy"
    reason = suits(x, y)
    if reason is not True or _is_for_sgemm(x, y):
        return reason
    operation = _product(*batched(x, y), None)
    return answer(operation)


def _rows(x: NDArray, weight: NDArray) -> tuple[NDArray, NDArray]:
    """The factors of the one product that a linear layer is, in plain strides."""
    return _plain(x.reshape(-1, x.shape[-1])), _plain(weight.T)


def linear(x: NDArray, weight: NDArray, bias: NDArray | None) -> NDArray:
    """See the reference kernel."""
    rows, columns = _rows(x, weight)
    if bias is None:
        y = matmul(rows, columns)
    else:
        bias = np.ascontiguousarray(bias).reshape(1, -1)
        y = _product(rows, columns, bias)(rows, columns, bias)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(weight))


def enough(x: Any, y: Any) -> bool | str:
    """True, or why a product is left to NumPy."""
    if x.size * y.shape[-1] < _FEW.get(x.itemsize, 0):
        return _TOO_FEW
    return True


def accepts_linear(x: Any, weight: Any, bias: Any) -> bool | str:
    count = x.size * len(weight)
    if count < _FEWEST or count < _FEW.get(x.itemsize, 0):
        return _TOO_FEW
    if bias is None:
        reason = suits(x, weight)
        if reason is not True or _is_for_sgemm(weight, weight):
            return reason
        operation = _product(*_rows(x, weight), None)
    else:
        reason = suits(x, weight, bias)
        if reason is not True:
            return reason
        operation = _product(*_rows(x, weight), np.ascontiguousarray(bias).reshape(1, -1))
    return answer(operation)


register("matmul", matmul, backend="onednn", accepts=accepts_matmul)
register("linear", linear, backend="onednn", accepts=accepts_linear)

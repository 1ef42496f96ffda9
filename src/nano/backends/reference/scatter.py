"""Reading and adding at positions given by integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import register


def take_along_axis(x: NDArray, index: NDArray, axis: int) -> NDArray:
    """out[i][j][k] = x[i][index[i][j][k]][k] for axis 1; the other axes of x may be longer."""
    return x[grid_at(index, axis)]


def add_along_axis(shape: tuple[int, ...], index: NDArray, axis: int, values: NDArray) -> NDArray:
    """Zeros of ``shape`` with ``values`` added at ``index`` along ``axis``."""
    out = np.zeros(shape, values.dtype)
    np.add.at(out, grid_at(index, axis), values)
    return out


def add_at(shape: tuple[int, ...], index: Any, values: NDArray) -> NDArray:
    """Zeros of ``shape`` with ``values`` added at a NumPy index; repeats add up."""
    out = np.zeros(shape, values.dtype)
    np.add.at(out, index, values)
    return out


def grid_at(index: NDArray, axis: int) -> tuple[NDArray, ...]:
    """One index array per axis: ``index`` along ``axis``, counting along the others."""
    grid = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    grid[axis] = index
    return tuple(grid)


for _kernel in (take_along_axis, add_along_axis, add_at):
    register(_kernel.__name__, _kernel)

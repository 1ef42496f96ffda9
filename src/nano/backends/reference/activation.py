"""GELU, SiLU, leaky ReLU and dropout."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import register
from .elementwise import sigmoid

_SQRT_HALF = sqrt(0.5)
_TANH_SCALE = sqrt(2 / pi)
_TANH_CUBIC = 0.044715


def _widened(x: NDArray) -> NDArray:
    """float32 for 16-bit floats: several steps follow each other."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def _normal_distribution(x: NDArray) -> NDArray:
    """The standard normal distribution function, 0.5 erfc(-x / sqrt 2)."""
    from scipy.special import erf  # NumPy has none; SciPy is imported on first use

    out = np.multiply(x, _SQRT_HALF)
    out = erf(out, out=out) if out.ndim else np.asarray(erf(out))
    out += 1
    out *= 0.5
    return out


def gelu(x: NDArray) -> NDArray:
    """x Phi(x)."""
    wide = _widened(x)
    return np.multiply(wide, _normal_distribution(wide)).astype(x.dtype, copy=False)


def gelu_backward(grad_output: NDArray, x: NDArray) -> NDArray:
    """g (Phi(x) + x phi(x))."""
    wide = _widened(x)
    slope = np.exp(np.multiply(wide, wide) * -0.5)
    slope *= wide * (1 / sqrt(2 * pi))
    slope += _normal_distribution(wide)
    return np.multiply(grad_output, slope).astype(x.dtype, copy=False)


def gelu_tanh(x: NDArray) -> NDArray:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    wide = _widened(x)
    half = np.tanh(_TANH_SCALE * (wide + _TANH_CUBIC * wide * wide * wide))
    return (0.5 * wide * (1 + half)).astype(x.dtype, copy=False)


def gelu_tanh_backward(grad_output: NDArray, x: NDArray) -> NDArray:
    """g (0.5 (1 + t) + 0.5 x (1 - t^2) u')."""
    wide = _widened(x)
    square = wide * wide
    t = np.tanh(_TANH_SCALE * wide * (1 + _TANH_CUBIC * square))
    inner = _TANH_SCALE * (1 + 3 * _TANH_CUBIC * square)
    slope = 0.5 * (1 + t) + 0.5 * wide * (1 - t * t) * inner
    return np.multiply(grad_output, slope).astype(x.dtype, copy=False)


def silu(x: NDArray) -> NDArray:
    """x / (1 + exp(-x))."""
    wide = _widened(x)
    return np.multiply(wide, sigmoid(wide)).astype(x.dtype, copy=False)


def silu_backward(grad_output: NDArray, x: NDArray) -> NDArray:
    """g s (1 + x (1 - s)) with s = 1 / (1 + exp(-x))."""
    wide = _widened(x)
    s = sigmoid(wide)
    slope = s * (1 + wide * (1 - s))
    return np.multiply(grad_output, slope).astype(x.dtype, copy=False)


def leaky_relu(value: NDArray, x: NDArray, negative_slope: float) -> NDArray:
    """``value`` where x > 0, else negative_slope * value."""
    return np.where(x > 0, value, value * negative_slope).astype(value.dtype, copy=False)


def dropout_mask(
    generator: np.random.Generator, shape: tuple[int, ...], p: float, dtype: Any
) -> NDArray:
    """0 with probability p, else 1 / (1 - p)."""
    if p == 1:
        return np.zeros(shape, dtype)
    kept = np.asarray(generator.random(shape, np.float32) >= p)
    return np.multiply(kept, 1 / (1 - p), dtype=np.float32).astype(dtype, copy=False)


for _kernel in (
    *(gelu, gelu_backward, gelu_tanh, gelu_tanh_backward, silu, silu_backward),
    *(leaky_relu, dropout_mask),
):
    register(_kernel.__name__, _kernel)

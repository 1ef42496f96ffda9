"""How weights begin: functions that overwrite a tensor in place and return it.

None of them is recorded for ``backward()``. ``generator`` is nano's default one
if it is left out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.views import bump_version
from ..errors import InputError
from ..functions.operands import check_tensor
from ..hook import hooks, reading
from ..random import Generator, default_generator
from ..tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def _write(tensor: Tensor, values: NDArray | float, writer: str) -> Tensor:
    if hooks:
        reading(writer, tensor)
    np.copyto(tensor._data, values, casting="unsafe")
    bump_version(tensor, writer)
    return tensor


def _numpy(generator: Generator | None) -> np.random.Generator:
    return (default_generator if generator is None else generator).numpy


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw from the uniform distribution on [a, b).

    >>> nano.nn.init.uniform_(nano.zeros(2, 2), 3.0, 3.0)
    tensor([[3., 3.],
            [3., 3.]])
    """
    shape = check_tensor("uniform_", tensor).shape
    if not a <= b:
        raise InputError("uniform_", f"a must not be larger than b, got a={a}, b={b}.")
    return _write(tensor, _numpy(generator).uniform(a, b, shape), "uniform_")


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw from the normal distribution.

    >>> nano.nn.init.normal_(nano.zeros(2), mean=5.0, std=0.0)
    tensor([5., 5.])
    """
    shape = check_tensor("normal_", tensor).shape
    if std < 0:
        raise InputError("normal_", f"std must not be negative, got {std}.")
    return _write(tensor, _numpy(generator).normal(mean, std, shape), "normal_")


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Draw from the normal distribution as far as it lies in [a, b], by its inverse.

    >>> bool((nano.nn.init.trunc_normal_(nano.zeros(100)).abs() <= 2.0).all())
    True
    """
    from scipy.special import ndtr, ndtri

    shape = check_tensor("trunc_normal_", tensor).shape
    if std <= 0 or not a < b:
        raise InputError(
            "trunc_normal_", f"std must be positive and a < b, got std={std}, a={a}, b={b}."
        )
    low, high = ndtr((a - mean) / std), ndtr((b - mean) / std)
    drawn = ndtri(_numpy(generator).uniform(low, high, shape)) * std + mean
    return _write(tensor, np.clip(drawn, a, b), "trunc_normal_")


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Set every element to ``val``.

    >>> nano.nn.init.constant_(nano.zeros(2), 0.5)
    tensor([0.5000, 0.5000])
    """
    return _write(check_tensor("constant_", tensor), val, "constant_")


def ones_(tensor: Tensor) -> Tensor:
    """Set every element to 1."""
    return _write(check_tensor("ones_", tensor), 1.0, "ones_")


def zeros_(tensor: Tensor) -> Tensor:
    """Set every element to 0."""
    return _write(check_tensor("zeros_", tensor), 0.0, "zeros_")


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix.

    Raises:
        ValueError: if the tensor is not 2-d.

    >>> nano.nn.init.eye_(nano.zeros(2, 3))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    if check_tensor("eye_", tensor).ndim != 2:
        raise InputError("eye_", f"only tensors with 2 dimensions, got shape {tensor.shape}.")
    return _write(tensor, np.eye(*tensor.shape), "eye_")


# Scaled by the number of inputs and outputs ------------------------------------------------


_GAINS: dict[str, Callable[[float], float]] = {
    "relu": lambda _: math.sqrt(2.0),
    "leaky_relu": lambda slope: math.sqrt(2.0 / (1 + slope**2)),
    "tanh": lambda _: 5.0 / 3,
    "selu": lambda _: 3.0 / 4,
}
_LINEAR = ("linear", "sigmoid", "conv1d", "conv2d", "conv3d")
_LINEAR += ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """By how much a layer's weights must grow to make up for its activation.

    Args:
        nonlinearity: the activation's name, such as ``"relu"``.
        param: the negative slope, for ``"leaky_relu"`` (0.01 if left out).

    Raises:
        ValueError: for an unknown activation or slope.

    >>> calculate_gain("relu"), calculate_gain("tanh")
    (1.4142135623730951, 1.6666666666666667)
    """
    if nonlinearity in _LINEAR:
        return 1
    if nonlinearity not in _GAINS:
        raise InputError(
            "calculate_gain",
            f"unknown nonlinearity {nonlinearity!r}.",
            hint=f"It knows {', '.join((*_GAINS, *_LINEAR))}.",
        )
    if param is None:
        param = 0.01
    elif isinstance(param, bool) or not isinstance(param, (int, float)):
        raise InputError("calculate_gain", f"negative_slope {param!r} is not a valid number.")
    return _GAINS[nonlinearity](param)


def _fans(owner: str, tensor: Tensor) -> tuple[int, int]:
    """How many inputs an output has, and how many outputs an input has."""
    shape = check_tensor(owner, tensor).shape
    if len(shape) < 2:
        raise InputError(owner, f"fan in and fan out need at least 2 dimensions, got {shape}.")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform on [-a, a] with a = gain sqrt(6 / (fan_in + fan_out)).

    Source: X. Glorot and Y. Bengio, "Understanding the difficulty of training deep
    feedforward neural networks", AISTATS 2010.

    Raises:
        ValueError: if the tensor has less than 2 dimensions.
    """
    bound = gain * math.sqrt(6.0 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with std = gain sqrt(2 / (fan_in + fan_out)); see :func:`xavier_uniform_`."""
    std = gain * math.sqrt(2.0 / sum(_fans("xavier_normal_", tensor)))
    return normal_(tensor, 0.0, std, generator)


def _kaiming_std(owner: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise InputError(owner, f'mode must be "fan_in" or "fan_out", got {mode!r}.')
    fan = _fans(owner, tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform on [-b, b] with b = gain sqrt(3 / fan).

    Source: K. He, X. Zhang, S. Ren and J. Sun, "Delving deep into rectifiers", ICCV 2015.

    Args:
        tensor: at least 2-d.
        a: the negative slope of the leaky ReLU that follows.
        mode: ``"fan_in"`` keeps the variance of the forward pass, ``"fan_out"`` of the
            backward pass.
        nonlinearity: the activation that follows, as of :func:`calculate_gain`.

    Raises:
        ValueError: for another mode or activation, or less than 2 dimensions.
    """
    if 0 in check_tensor("kaiming_uniform_", tensor).shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with std = gain / sqrt(fan); see :func:`kaiming_uniform_`."""
    if 0 in check_tensor("kaiming_normal_", tensor).shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    std = _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity)
    return normal_(tensor, 0.0, std, generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A random matrix with orthonormal rows or columns, times ``gain``.

    Source: A. M. Saxe, J. L. McClelland and S. Ganguli, "Exact solutions to the nonlinear
    dynamics of learning in deep linear neural networks", ICLR 2014.

    Args:
        tensor: at least 2-d; the dimensions after the first are taken together.

    Raises:
        ValueError: if the tensor has less than 2 dimensions.

    >>> q = nano.nn.init.orthogonal_(nano.zeros(3, 3, dtype=nano.float64))
    >>> nano.allclose(q @ q.T, nano.eye(3, dtype=nano.float64))
    True
    """
    shape = check_tensor("orthogonal_", tensor).shape
    if len(shape) < 2:
        raise InputError("orthogonal_", f"at least 2 dimensions are needed, got {shape}.")
    if not tensor._data.size:
        return tensor
    rows, columns = shape[0], tensor._data.size // shape[0]
    drawn = _numpy(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    # With the signs of the diagonal made equal, the matrix is drawn uniformly.
    q *= np.sign(np.diag(r))
    matrix = q.T if rows < columns else q
    return _write(tensor, gain * matrix.reshape(shape), "orthogonal_")

"""Random fractions: uniform and normal. Random choices are in choosing.py.

The generators themselves, and their state, are in nano.random.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import Function
from ..autograd.views import write_in_place
from ..dtypes import bfloat16, float16, float64, from_numpy_dtype
from ..dtypes import dtype as dtype_class
from ..errors import DtypeError, InputError, ShapeError, TypeMismatchError
from ..hook import hooks, reading
from ..layouts import checked_format, empty_beside, memory_format, preserve_format
from ..random import Generator, default_generator
from ..tensor import Tensor, wrap
from .creation import checked_dtype, checked_shape, like
from .operands import as_one, check_tensor, require_floating

__all__ = [
    "gaussian",
    "get_rng_state",
    "kaiming_uniform",
    "normal",
    "rand",
    "rand_like",
    "randn",
    "randn_like",
    "set_rng_state",
    "uniform",
]

#: Bits of a 16-bit float's significand: with more, a draw could be rounded up to 1.
_SIGNIFICAND = {float16: 11, bfloat16: 8}


def numpy_generator(owner: str, generator: Any) -> np.random.Generator:
    if generator is None:
        return default_generator.numpy
    if not isinstance(generator, Generator):
        raise TypeMismatchError(
            owner,
            f"generator must be a nano.Generator, got {type(generator).__name__}.",
            hint="Make one with nano.Generator().manual_seed(0).",
        )
    return generator.numpy


def _check_floating(owner: str, d: dtype_class) -> None:
    if not d.is_floating_point:
        raise DtypeError(owner, f"random fractions need a floating-point dtype, got {d}.")


def _draw_uniform(owner: str, shape: Any, d: dtype_class, generator: Any) -> NDArray:
    """Numbers in [0, 1), drawn in the precision of the dtype."""
    source = numpy_generator(owner, generator)
    _check_floating(owner, d)
    if d in _SIGNIFICAND:
        steps = 2 ** _SIGNIFICAND[d]
        return (source.integers(0, steps, shape) / np.float32(steps)).astype(d.numpy)
    return source.random(shape, dtype=np.float64 if d is float64 else np.float32)


def _draw_normal(owner: str, shape: Any, d: dtype_class, generator: Any) -> NDArray:
    source = numpy_generator(owner, generator)
    _check_floating(owner, d)
    drawn = source.standard_normal(shape, dtype=np.float64 if d is float64 else np.float32)
    return drawn.astype(d.numpy, copy=False)


def _scaled(unit: NDArray, scale: float, shift: float) -> NDArray:
    """unit * scale + shift, in place and in the dtype of ``unit``."""
    if scale != 1:
        unit *= unit.dtype.type(scale)
    if shift != 0:
        unit += unit.dtype.type(shift)
    return unit


class Drawn(Function):
    """A tensor of fresh random numbers. An input, if there is one, only lends its layout."""

    random = True
    differentiable = False


class DrawnUniform(Drawn):
    """Numbers drawn uniformly from [low, high)."""

    @staticmethod
    def forward(ctx, *beside, owner, shape, dtype, generator, low=0.0, high=1.0, order=None):
        unit = _draw_uniform(owner, shape, dtype, generator)
        if (low, high) != (0.0, 1.0):
            unit = _below(_scaled(unit, high - low, low), low, high)
        return laid_out(owner, unit, beside, order)


class DrawnNormal(Drawn):
    """Numbers from the normal distribution of that mean and standard deviation."""

    @staticmethod
    def forward(ctx, *beside, owner, shape, dtype, generator, mean=0.0, std=1.0, order=None):
        unit = _draw_normal(owner, shape, dtype, generator)
        return laid_out(owner, _scaled(unit, std, mean), beside, order)


class DrawnNormals(Drawn):
    """Numbers from normal distributions: one for each element of mean and std."""

    @staticmethod
    def forward(ctx, mean, std, *, shape, dtype, generator):
        _check_std("normal", std)
        unit = _draw_normal("normal", shape, dtype, generator)
        return (unit * std + mean).astype(unit.dtype, copy=False)


def laid_out(owner: str, drawn: NDArray, beside: tuple[NDArray, ...], order: Any) -> NDArray:
    """What was drawn, in the memory format ``order`` of the array that it shall lie like."""
    if not beside:
        return drawn
    array = empty_beside(owner, order, beside[0], drawn.dtype)
    array[...] = drawn
    return array


def finished(t: Tensor, requires_grad: bool) -> Tensor:
    """A fresh tensor, on which operations are recorded if they shall be."""
    if requires_grad:
        t.requires_grad = True
    return t


def _check_range(owner: str, low: float, high: float) -> None:
    if not low <= high:
        raise ShapeError(owner, f"low must not be above high, got {low} and {high}.")


def _check_std(owner: str, std: Any) -> None:
    if not np.all(np.asarray(std) >= 0):
        raise ShapeError(owner, f"the standard deviation must not be negative, got {std}.")


def rand(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers drawn uniformly from [0, 1).

    Args:
        sizes, size: the shape, as integers, as one sequence or by name.
        generator: draws the numbers; by default the one that ``manual_seed`` sets.
        dtype: floating point; the default dtype if None.
        device: only ``"cpu"``.
        requires_grad: record operations on it.

    Raises:
        RuntimeError: if a size is negative or the dtype is not floating point.

    >>> nano.rand(2, 3).shape
    (2, 3)
    """
    d = checked_dtype(dtype, device)
    shape = checked_shape("rand", as_one("rand", "size", sizes, size))
    drawn = DrawnUniform.apply(owner="rand", shape=shape, dtype=d, generator=generator)
    return finished(drawn, requires_grad)


def randn(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from the normal distribution of mean 0 and variance 1; arguments as :func:`rand`.

    >>> bool(nano.randn(10_000).mean().abs() < 0.1)
    True
    """
    d = checked_dtype(dtype, device)
    shape = checked_shape("randn", as_one("randn", "size", sizes, size))
    drawn = DrawnNormal.apply(owner="randn", shape=shape, dtype=d, generator=generator)
    return finished(drawn, requires_grad)


def rand_like(
    input: Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: memory_format | None = preserve_format,
    generator: Generator | None = None,
) -> Tensor:
    """:func:`rand` in the shape and, unless given, the dtype and memory format of ``input``."""
    shape, d = like("rand_like", input, dtype, device)
    order = checked_format("rand_like", memory_format, preserve_format)
    drawn = DrawnUniform.apply(
        input, owner="rand_like", shape=shape, dtype=d, generator=generator, order=order
    )
    return finished(drawn, requires_grad)


def randn_like(
    input: Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: memory_format | None = preserve_format,
    generator: Generator | None = None,
) -> Tensor:
    """:func:`randn` in the shape and, unless given, the dtype and memory format of ``input``."""
    shape, d = like("randn_like", input, dtype, device)
    order = checked_format("randn_like", memory_format, preserve_format)
    drawn = DrawnNormal.apply(
        input, owner="randn_like", shape=shape, dtype=d, generator=generator, order=order
    )
    return finished(drawn, requires_grad)


def uniform(
    *size: Any,
    low: float = 0.0,
    high: float = 1.0,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers drawn uniformly from [low, high). nano's own; PyTorch has ``uniform_`` only.

    >>> t = nano.uniform(100, low=-2.0, high=3.0)
    >>> bool((t >= -2).all() and (t < 3).all())
    True
    """
    _check_range("uniform", low, high)
    d = checked_dtype(dtype, device)
    shape = checked_shape("uniform", size)
    drawn = DrawnUniform.apply(
        owner="uniform", shape=shape, dtype=d, generator=generator, low=low, high=high
    )
    return finished(drawn, requires_grad)


def _below(drawn: NDArray, low: float, high: float) -> NDArray:
    """Rounding may lift a number to ``high``, which is excluded: put it down by one step."""
    top = drawn.dtype.type(high)
    if low < high and drawn.size and drawn.max() >= top:
        drawn[drawn >= top] = np.nextafter(top, drawn.dtype.type(low))
    return drawn


def gaussian(
    *size: Any,
    mean: float = 0.0,
    std: float = 1.0,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from the normal distribution. nano's own name: the shape first, as in ``randn``.

    >>> nano.gaussian(2, 3, mean=5.0, std=0.1).shape
    (2, 3)
    """
    _check_std("gaussian", std)
    d = checked_dtype(dtype, device)
    shape = checked_shape("gaussian", size)
    drawn = DrawnNormal.apply(
        owner="gaussian", shape=shape, dtype=d, generator=generator, mean=mean, std=std
    )
    return finished(drawn, requires_grad)


def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from normal distributions, each with its own mean and standard deviation.

    Args:
        mean: a floating-point Tensor or a number.
        std: a floating-point Tensor or a number; not negative.
        size: the shape, where both are numbers; otherwise it is that of the tensors.

    Raises:
        RuntimeError: if a standard deviation is negative.
        TypeError: if both are numbers and no size is given.

    >>> nano.normal(nano.tensor([0.0, 100.0]), nano.tensor([0.0, 0.0]))
    tensor([  0., 100.])
    """
    tensors = [x for x in (mean, std) if isinstance(x, Tensor)]
    for x in tensors:
        require_floating("normal", x, "mean and std")
    if not tensors:
        if size is None:
            raise TypeMismatchError("normal", "a size is needed where mean and std are numbers.")
        return gaussian(
            *checked_shape("normal", (size,)),
            mean=mean,
            std=std,
            generator=generator,
            dtype=dtype,
            device=device,
            requires_grad=requires_grad,
        )
    if size is not None:
        raise TypeMismatchError("normal", "no size can be given: mean or std has a shape.")
    shapes = [x.shape if isinstance(x, Tensor) else () for x in (mean, std)]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(
            "normal", f"mean {shapes[0]} and std {shapes[1]} cannot be broadcast."
        ) from None
    drawn = DrawnNormals.apply(mean, std, shape=shape, dtype=tensors[0].dtype, generator=generator)
    return finished(drawn, requires_grad)


def kaiming_uniform(
    *size: Any,
    a: float = 0.0,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Weights that keep the variance of a signal through rectified layers.

    Drawn uniformly from [-bound, bound) with bound = sqrt(6 / ((1 + a^2) fan_in)),
    where fan_in is the number of inputs of one output: the product of all sizes
    but the first. nano's own form; PyTorch's, which fills a tensor, is
    ``nano.nn.init.kaiming_uniform_``.

    Source: K. He, X. Zhang, S. Ren and J. Sun, "Delving deep into rectifiers:
    surpassing human-level performance on ImageNet classification", ICCV 2015.

    Args:
        size: the shape, with at least two dimensions: (outputs, inputs, ...).
        a: the negative slope of the leaky rectifier that follows.

    Raises:
        ValueError: if there are fewer than two dimensions, or no inputs.

    >>> nano.kaiming_uniform(16, 6).abs().max() <= 1
    tensor(True)
    """
    shape = checked_shape("kaiming_uniform", size)
    if len(shape) < 2 or 0 in shape[1:]:
        raise InputError(
            "kaiming_uniform", f"a weight needs outputs and at least one input, got {shape}."
        )
    bound = math.sqrt(6.0 / ((1.0 + a * a) * math.prod(shape[1:])))
    return uniform(
        shape,
        low=-bound,
        high=bound,
        generator=generator,
        dtype=dtype,
        device=device,
        requires_grad=requires_grad,
    )


# In place -------------------------------------------------------------------------------


class Draw(Function):
    """Fresh random numbers in the shape of x; d/dx = 0."""

    random = True

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * 0.0


class DrawUniform(Draw):
    """Numbers drawn uniformly from [low, high)."""

    @staticmethod
    def forward(ctx, x, *, low, high, generator):
        unit = _draw_uniform("uniform_", x.shape, from_numpy_dtype(x.dtype), generator)
        return _below(_scaled(unit, high - low, low), low, high)


class DrawNormal(Draw):
    """Numbers from the normal distribution of that mean and standard deviation."""

    @staticmethod
    def forward(ctx, x, *, mean, std, generator):
        unit = _draw_normal("normal_", x.shape, from_numpy_dtype(x.dtype), generator)
        return _scaled(unit, std, mean)


def _uniform_(
    self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Any = None, **ends: float
) -> Tensor:
    """Fill with numbers drawn uniformly from [a, b), which PyTorch calls ``from`` and ``to``."""
    low, high = ends.pop("from", a), ends.pop("to", b)
    if ends:
        raise TypeMismatchError("uniform_", f"unknown arguments {sorted(ends)}.")
    _check_range("uniform_", low, high)
    return write_in_place(
        "uniform_", self, DrawUniform, self, low=low, high=high, generator=generator
    )


def _normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fill with numbers from the normal distribution."""
    _check_std("normal_", std)
    return write_in_place(
        "normal_", self, DrawNormal, self, mean=mean, std=std, generator=generator
    )


#: In-place methods that draw.
DRAWING_METHODS = {"uniform_": _uniform_, "normal_": _normal_}


# The state of the default generator -----------------------------------------------------


def get_rng_state() -> Tensor:
    """The state of the default generator: a uint8 Tensor for :func:`set_rng_state`.

    >>> state = nano.get_rng_state()
    >>> a = nano.rand(3); nano.set_rng_state(state); nano.equal(a, nano.rand(3))
    True
    """
    return wrap(default_generator.get_state())


def set_rng_state(new_state: Tensor) -> None:
    """Put the default generator back into a state from :func:`get_rng_state`.

    Raises:
        TypeError: if it is no uint8 Tensor.
        RuntimeError: if it is not of the right size.
    """
    state = check_tensor("set_rng_state", new_state, "new_state")._data
    if hooks:
        reading("set_rng_state", new_state)
    if state.dtype != np.uint8:
        raise TypeMismatchError("set_rng_state", f"expected a uint8 Tensor, got {new_state.dtype}.")
    expected = default_generator.get_state().shape
    if state.shape != expected:
        raise ShapeError(
            "set_rng_state", f"expected a state of shape {expected}, got {state.shape}."
        )
    default_generator.set_state(state)

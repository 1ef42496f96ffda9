"""Element-wise functions of one operand."""

from __future__ import annotations

from ..autograd.function import Function
from ..backends import kernels
from ..errors import DtypeError
from ..tensor import Tensor
from .operands import check_tensor, floating

__all__ = [
    "abs",
    "absolute",
    "cos",
    "exp",
    "expm1",
    "log",
    "log1p",
    "neg",
    "negative",
    "positive",
    "reciprocal",
    "relu",
    "rsqrt",
    "sigmoid",
    "sin",
    "sqrt",
    "square",
    "tanh",
]


class Elementwise(Function):
    """An operator that computes each element from one element."""


class Relu(Elementwise):
    """max(x, 0); d/dx = 1 where x > 0, else 0."""

    formula = "maximum(x, 0)"

    @staticmethod
    def forward(ctx, x):
        y = kernels.relu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return ReluBackward.apply(grad_output, y.detach())


class ReluBackward(Elementwise):
    """g, but 0 where y, relu's output, is 0; linear in g, constant in y."""

    formula = "where(y <= 0, 0, grad_output)"

    @staticmethod
    def forward(ctx, grad_output, y):
        ctx.save_for_backward(y)
        return kernels.relu_backward(grad_output, y)

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return ReluBackward.apply(grad_output, y), None


def relu(input: Tensor) -> Tensor:
    """Rectified linear unit max(input, 0), element by element.

    Source: V. Nair and G. E. Hinton, "Rectified linear units improve restricted
    Boltzmann machines", ICML 2010.

    >>> nano.relu(nano.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    if check_tensor("relu", input)._data.dtype.kind == "b":
        raise DtypeError("relu", "booleans are not supported.")
    return Relu.apply(input)


class Sigmoid(Elementwise):
    """s = 1 / (1 + exp(-x)); d/dx = s (1 - s)."""

    formula = "sigmoid(x)"

    @staticmethod
    def forward(ctx, x):
        s = kernels.sigmoid(x)
        ctx.save_for_backward(s)
        return s

    @staticmethod
    def backward(ctx, grad_output):
        (s,) = ctx.saved_tensors
        return grad_output * (s * (1.0 - s))


def sigmoid(input: Tensor) -> Tensor:
    """Logistic function 1 / (1 + exp(-input)), element by element.

    >>> nano.sigmoid(nano.tensor([0.0, 2.0]))
    tensor([0.5000, 0.8808])
    """
    return Sigmoid.apply(floating("sigmoid", input))


class Tanh(Elementwise):
    """tanh(x); d/dx = 1 - tanh(x)^2."""

    formula = "tanh(x)"

    @staticmethod
    def forward(ctx, x):
        y = kernels.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return grad_output * (1.0 - y * y)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent, element by element.

    >>> nano.tanh(nano.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7616])
    """
    return Tanh.apply(floating("tanh", input))


class Exp(Elementwise):
    """exp(x); d/dx = exp(x)."""

    formula = "exp(x)"

    @staticmethod
    def forward(ctx, x):
        y = kernels.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return grad_output * y


def exp(input: Tensor) -> Tensor:
    """e to the power of input, element by element.

    >>> nano.exp(nano.tensor([0.0, 1.0]))
    tensor([1.0000, 2.7183])
    """
    return Exp.apply(floating("exp", input))


class Log(Elementwise):
    """log(x); d/dx = 1 / x."""

    formula = "log(x)"

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return kernels.log(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output / x


def log(input: Tensor) -> Tensor:
    """Natural logarithm, element by element: -inf at 0, NaN below.

    >>> nano.log(nano.tensor([1.0, 2.0]))
    tensor([0.0000, 0.6931])
    """
    return Log.apply(floating("log", input))


class Log1p(Elementwise):
    """log(1 + x); d/dx = 1 / (1 + x)."""

    formula = "log1p(x)"

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return kernels.log1p(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output / (x + 1.0)


def log1p(input: Tensor) -> Tensor:
    """log(1 + input), exact also for small input.

    >>> nano.log1p(nano.tensor([0.0, 1e-8]))
    tensor([0.0000e+00, 1.0000e-08])
    """
    return Log1p.apply(floating("log1p", input))


class Expm1(Elementwise):
    """exp(x) - 1; d/dx = exp(x)."""

    formula = "expm1(x)"

    @staticmethod
    def forward(ctx, x):
        y = kernels.expm1(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return grad_output * (y + 1.0)


def expm1(input: Tensor) -> Tensor:
    """exp(input) - 1, exact also for small input.

    >>> nano.expm1(nano.tensor([0.0, 1.0]))
    tensor([0.0000, 1.7183])
    """
    return Expm1.apply(floating("expm1", input))


class Sin(Elementwise):
    """sin(x); d/dx = cos(x)."""

    formula = "sin(x)"

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return kernels.sin(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * cos(x)


def sin(input: Tensor) -> Tensor:
    """Sine of input in radians, element by element.

    >>> nano.sin(nano.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8415])
    """
    return Sin.apply(floating("sin", input))


class Cos(Elementwise):
    """cos(x); d/dx = -sin(x)."""

    formula = "cos(x)"

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return kernels.cos(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * -sin(x)


def cos(input: Tensor) -> Tensor:
    """Cosine of input in radians, element by element.

    >>> nano.cos(nano.tensor([0.0, 1.0]))
    tensor([1.0000, 0.5403])
    """
    return Cos.apply(floating("cos", input))


class Sqrt(Elementwise):
    """y = sqrt(x); d/dx = 1 / (2 y)."""

    formula = "sqrt(x)"

    @staticmethod
    def forward(ctx, x):
        y = kernels.sqrt(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return grad_output / (y * 2.0)


def sqrt(input: Tensor) -> Tensor:
    """Square root, element by element: NaN below 0.

    >>> nano.sqrt(nano.tensor([4.0, 2.0]))
    tensor([2.0000, 1.4142])
    """
    return Sqrt.apply(floating("sqrt", input))


class Rsqrt(Elementwise):
    """y = 1 / sqrt(x); d/dx = -y^3 / 2."""

    formula = "1 / sqrt(x)"

    @staticmethod
    def forward(ctx, x):
        y = kernels.reciprocal(kernels.sqrt(x))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return grad_output * (y * y * y * -0.5)


def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(input), element by element.

    >>> nano.rsqrt(nano.tensor([4.0, 16.0]))
    tensor([0.5000, 0.2500])
    """
    return Rsqrt.apply(floating("rsqrt", input))


class Square(Elementwise):
    """x^2; d/dx = 2 x."""

    formula = "x * x"

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return kernels.square(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * (x * 2.0)


def square(input: Tensor) -> Tensor:
    """input * input, element by element. Booleans become int64, as in PyTorch.

    >>> nano.square(nano.tensor([-3.0, 2.0]))
    tensor([9., 4.])
    """
    if check_tensor("square", input)._data.dtype.kind == "b":
        input = input.long()
    return Square.apply(input)


class Abs(Elementwise):
    """|x|; d/dx = sign(x), 0 at 0."""

    formula = "abs(x)"

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return kernels.abs(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * x.sign()


def abs(input: Tensor) -> Tensor:
    """Absolute value, element by element.

    >>> nano.abs(nano.tensor([-3.0, 2.0]))
    tensor([3., 2.])
    """
    if check_tensor("abs", input)._data.dtype.kind == "b":
        raise DtypeError("abs", "booleans are not supported.")
    return Abs.apply(input)


class Neg(Elementwise):
    """-x; d/dx = -1."""

    formula = "-x"

    @staticmethod
    def forward(ctx, x):
        return kernels.negative(x)

    @staticmethod
    def backward(ctx, grad_output):
        return -grad_output


def neg(input: Tensor) -> Tensor:
    """-input, element by element.

    >>> nano.neg(nano.tensor([-3.0, 2.0]))
    tensor([ 3., -2.])
    """
    if check_tensor("neg", input)._data.dtype.kind == "b":
        raise DtypeError(
            "neg",
            "booleans cannot be negated with minus.",
            hint="To invert a mask, use ~ or logical_not().",
        )
    return Neg.apply(input)


def positive(input: Tensor) -> Tensor:
    """input itself: Python's unary plus. Not for booleans."""
    if check_tensor("positive", input)._data.dtype.kind == "b":
        raise DtypeError("positive", "booleans are not supported.")
    return input


class Reciprocal(Elementwise):
    """y = 1 / x; d/dx = -y^2."""

    formula = "1 / x"

    @staticmethod
    def forward(ctx, x):
        y = kernels.reciprocal(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return -grad_output * (y * y)


def reciprocal(input: Tensor) -> Tensor:
    """1 / input, element by element; integers become floating point.

    >>> nano.reciprocal(nano.tensor([4, 5]))
    tensor([0.2500, 0.2000])
    """
    return Reciprocal.apply(floating("reciprocal", input))


absolute, negative = abs, neg

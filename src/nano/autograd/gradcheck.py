"""Check derivatives against finite differences.

A gradient is compared along random directions: for a unit vector u and a random
weighting v of the outputs, v . (f(x + eps u) - f(x - eps u)) / (2 eps) must
equal (J^T v) . u. That costs two evaluations a direction, whatever the size
(the idea of HIPS autograd's ``check_grads``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import GradcheckError, InputError
from ..tensor import Tensor, wrap
from .engine import grad
from .grad_mode import enable_grad

__all__ = ["gradcheck", "gradgradcheck"]


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    directions: int = 2,
    seed: int = 0,
) -> bool:
    """Whether the derivative of ``func`` agrees with central differences.

    Args:
        func: takes ``inputs`` and returns a Tensor or several.
        inputs: those that require gradients must be float64.
        eps: the step of the differences.
        atol, rtol: how far the two may be apart. A central difference in float64
            with step 1e-6 has an error of about 1e-10 relative to the function's size.
        raise_exception: raise, instead of returning False.
        directions: how many random directions to try for each input.
        seed: of the directions.

    Raises:
        RuntimeError: naming the input and both values, if they disagree.

    >>> x = nano.tensor([0.5, 1.5], dtype=nano.float64, requires_grad=True)
    >>> nano.autograd.gradcheck(nano.exp, x)
    True
    """
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise InputError("gradcheck", "no input requires gradients: there is nothing to check.")
    for i in checked:
        if given[i]._data.dtype != np.float64:
            raise InputError(
                "gradcheck",
                f"input {i} is {given[i].dtype}; finite differences need float64.",
            )
    rng = np.random.default_rng(seed)
    with enable_grad():
        outputs = [y for y in _outputs(func(*given)) if y.requires_grad]
        if not outputs:
            raise GradcheckError("gradcheck", "no output requires gradients.")
        weights = [wrap(rng.standard_normal(y.shape)) for y in outputs]
        analytic = grad(
            outputs, [given[i] for i in checked], weights, allow_unused=True, retain_graph=True
        )
    differentiable = [i for i, y in enumerate(_outputs(func(*given))) if y.requires_grad]
    for i, gradient in zip(checked, analytic, strict=True):
        exact = np.zeros(given[i].shape) if gradient is None else gradient.detach()._data
        for _ in range(directions):
            u = rng.standard_normal(given[i].shape)
            u /= np.linalg.norm(u) or 1.0
            numeric = _slope(func, given, i, u, eps, weights, differentiable)
            expected = float(np.sum(exact * u))
            if not abs(numeric - expected) <= atol + rtol * abs(numeric):
                if not raise_exception:
                    return False
                raise GradcheckError(
                    "gradcheck",
                    f"the gradient of input {i} is wrong along a random direction: "
                    f"backward() says {expected:.8g}, finite differences say {numeric:.8g}.",
                    facts=_worst_element(func, given, i, exact, eps, weights, differentiable),
                )
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    **options: Any,
) -> bool:
    """:func:`gradcheck` of the gradient of ``func``: is its second derivative right?

    The gradient is checked as a function of the inputs and of the gradient that
    comes from above.
    """
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    rng = np.random.default_rng(options.get("seed", 0) + 1)
    outputs = [y for y in _outputs(func(*given)) if y.requires_grad]
    above = []
    for y in outputs:
        g = wrap(rng.standard_normal(y.shape))
        g.requires_grad = True
        above.append(g)
    count = len(given)

    def gradient(*arguments: Any) -> tuple[Tensor, ...]:
        xs = arguments[:count]
        wanted = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
        ys = [y for y in _outputs(func(*xs)) if y.requires_grad]
        got = grad(ys, wanted, list(arguments[count:]), create_graph=True, allow_unused=True)
        return tuple(g for g in got if g is not None)

    return gradcheck(gradient, [*given, *above], **options)


def _outputs(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [y for y in result if isinstance(y, Tensor)]


def _slope(
    func: Callable[..., Any],
    given: list[Any],
    position: int,
    direction: np.ndarray,
    eps: float,
    weights: list[Tensor],
    differentiable: list[int],
) -> float:
    """The derivative of the weighted outputs along a direction, by central differences."""
    values = []
    for sign in (1.0, -1.0):
        moved = list(given)
        moved[position] = wrap(given[position]._data + sign * eps * direction)
        moved[position]._requires_grad = True
        results = _outputs(func(*moved))
        values.append(
            sum(
                float(np.sum(results[k]._data * w._data))
                for k, w in zip(differentiable, weights, strict=True)
            )
        )
    return (values[0] - values[1]) / (2 * eps)


def _worst_element(
    func: Callable[..., Any],
    given: list[Any],
    position: int,
    exact: np.ndarray,
    eps: float,
    weights: list[Tensor],
    differentiable: list[int],
) -> str:
    """The element of the input where the two disagree most."""
    worst: tuple[float, tuple[int, ...], float] | None = None
    for index in np.ndindex(given[position].shape):
        u = np.zeros(given[position].shape)
        u[index] = 1.0
        numeric = _slope(func, given, position, u, eps, weights, differentiable)
        gap = abs(numeric - float(exact[index]))
        gap = np.inf if np.isnan(gap) else gap
        if worst is None or gap > worst[0]:
            worst = (gap, index, numeric)
    if worst is None:
        return ""
    _, index, numeric = worst
    return f"worst at {index}: backward() {float(exact[index]):.8g}, differences {numeric:.8g}"

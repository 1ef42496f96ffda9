"""The checker must find wrong derivatives, and say where."""

import numpy as np
import pytest

import nano
from nano.autograd import Function, gradcheck, gradgradcheck


class WrongAtOne(Function):
    """x^2, with a derivative that is wrong in one element."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        error = nano.zeros_like(x)
        error[1] = 0.5
        return grad_output * (2 * x + error)


class WrongSecond(Function):
    """x^2 with a right derivative whose own derivative is cut off."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * 2 * x.detach()


@pytest.fixture
def x():
    values = np.random.default_rng(0).uniform(1, 2, 4)
    return nano.tensor(values, requires_grad=True)


def test_right_derivatives_pass(x):
    assert gradcheck(lambda t: (t * t, nano.exp(t).sum()), x)
    assert gradgradcheck(lambda t: t**3, x)


def test_a_wrong_element_is_named(x):
    with pytest.raises(RuntimeError, match=r"input 0 is wrong.*\n.*worst at \(1,\)"):
        gradcheck(WrongAtOne.apply, x)
    assert not gradcheck(WrongAtOne.apply, x, raise_exception=False)


def test_a_wrong_second_derivative_is_found(x):
    assert gradcheck(WrongSecond.apply, x)
    with pytest.raises(RuntimeError, match="wrong"):
        gradgradcheck(WrongSecond.apply, x)


def test_what_it_needs():
    with pytest.raises(ValueError, match="float64"):
        gradcheck(nano.exp, nano.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="nothing to check"):
        gradcheck(nano.exp, nano.ones(2, dtype=nano.float64))
    with pytest.raises(RuntimeError, match="no output requires gradients"):
        gradcheck(lambda t: t.detach(), nano.ones(2, dtype=nano.float64, requires_grad=True))


def test_an_infinite_function_is_refused_with_its_element(x):
    with pytest.raises(RuntimeError, match=r"differences say nan.*\n.*worst at \(0,\)"):
        gradcheck(lambda t: t * float("inf"), x)

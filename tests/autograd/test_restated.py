"""Derivatives of formulas stated in elementary operators."""

import nano
from nano.autograd.restated import gradients_of


def product(a, b):
    return (a * a * b,)


def test_one_tensor_in_two_places_has_two_gradients():
    x = nano.tensor(3.0, requires_grad=True)
    one = nano.tensor(1.0)
    # d/da a^2 b = 2 a b and d/db = a^2, both at 3.
    assert [g.item() for g in gradients_of(product, (x, x), [one], (True, True))] == [18.0, 9.0]


def test_only_what_is_needed_is_given():
    x, y = (nano.tensor(v, requires_grad=True) for v in (3.0, 2.0))
    one = nano.tensor(1.0)
    assert gradients_of(product, (x, y), [one], (False, False)) == [None, None]
    first, second = gradients_of(product, (x, y), [one], (False, True))
    assert first is None
    assert second.item() == 9.0


def test_a_result_without_gradient_is_left_out():
    x = nano.tensor(3.0, requires_grad=True)
    constant = nano.tensor(5.0)
    one = nano.tensor(1.0)

    def formula(a, b):
        return b * 2, a * a

    (g, _) = gradients_of(formula, (x, constant), [one, one], (True, False))
    assert g.item() == 6.0
    assert gradients_of(lambda a: (constant,), (x,), [one], (True,)) == [None]


def test_it_is_recorded_where_gradients_are():
    x = nano.tensor(3.0, requires_grad=True)
    one = nano.tensor(1.0)
    (g, _) = gradients_of(product, (x, x), [one], (True, False))
    # 2 a b at a = b = x: its derivative sees both places.
    (again,) = nano.autograd.grad(g, x)
    assert again.item() == 12.0
    with nano.no_grad():
        (g, _) = gradients_of(product, (x, x), [one], (True, False))
    assert not g.requires_grad
    assert x.grad is None

"""Functions that users write, and what Context offers them."""

import gc
import weakref

import numpy as np
import pytest

import nano
from nano.autograd import Function
from nano.hook import add_hook, remove_hook


class Cube(Function):
    @staticmethod
    def forward(ctx, x, *, scale=1.0):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return scale * x**3

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * (3 * ctx.scale) * x**2


class MinMax(Function):
    """Two outputs, and a third that carries no gradient."""

    @staticmethod
    def forward(ctx, x):
        where = np.array([x.argmin(), x.argmax()])
        ctx.mark_non_differentiable(where)
        ctx.where, ctx.size = where, x.size
        return x.min(), x.max(), where

    @staticmethod
    def backward(ctx, grad_min, grad_max, grad_where):
        out = nano.zeros(ctx.size, dtype=grad_min.dtype)
        out[int(ctx.where[0])] = grad_min
        out[int(ctx.where[1])] = grad_max
        return out


def test_a_users_function():
    x = nano.tensor([1.0, 2.0], dtype=nano.float64, requires_grad=True)
    y = Cube.apply(x, scale=2.0)
    assert y.grad_fn.name() == "CubeBackward"
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 24.0]
    assert nano.autograd.gradcheck(lambda t: Cube.apply(t, scale=2.0), x)
    assert nano.autograd.gradgradcheck(lambda t: Cube.apply(t, scale=2.0), x)


def test_several_outputs():
    x = nano.tensor([3.0, 1.0, 2.0], requires_grad=True)
    low, high, where = MinMax.apply(x)
    assert low.requires_grad
    assert high.output_nr == 1
    assert not where.requires_grad
    (high * 2).backward()  # nobody used `low`: its gradient is zeros
    assert x.grad.tolist() == [2.0, 0.0, 0.0]


def test_unused_outputs_may_come_as_none():
    seen = []

    class Pair(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            seen.append((a, b))
            return b * 3

    x = nano.tensor(1.0, requires_grad=True)
    Pair.apply(x)[1].backward()
    assert seen[0][0] is None
    assert x.grad.item() == 3.0


def test_an_input_handed_back_is_a_tensor_of_its_own():
    class Same(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, grad_output):
            return grad_output * 10

    x = nano.tensor([1.0], requires_grad=True)
    y = Same.apply(x)
    assert y is not x
    y.sum().backward()
    assert x.grad.tolist() == [10.0]


def test_needs_input_grad():
    seen = []

    class Product(Function):
        @staticmethod
        def forward(ctx, x, y):
            seen.append(ctx.needs_input_grad)
            return x * y

        @staticmethod
        def backward(ctx, grad_output):
            return None, None

    a, b = nano.ones(2, requires_grad=True), nano.ones(2)
    Product.apply(a, b)
    with nano.no_grad():
        Product.apply(a, b)
    Product.apply(b, 2.0)
    assert seen == [(True, False), (False, False), (False, False)]


def test_many_inputs():
    class Total(Function):
        @staticmethod
        def forward(ctx, *arrays):
            assert len(ctx.needs_input_grad) == len(arrays)
            return sum(arrays)

        @staticmethod
        def backward(ctx, grad_output):
            return (grad_output,) * len(ctx.needs_input_grad)

    ones = [nano.ones(2, requires_grad=i % 2 == 0) for i in range(200)]
    with nano.no_grad():
        assert Total.apply(*ones).tolist() == [200.0, 200.0]
    Total.apply(*ones).sum().backward()
    assert ones[198].grad.tolist() == [1.0, 1.0]
    assert ones[199].grad is None


def test_saved_tensors_are_told_apart_though_they_share_memory():
    x = nano.tensor([2.0], dtype=nano.float64, requires_grad=True)
    y = x * x.detach()  # the derivative is the constant, not 2 x
    (g,) = nano.autograd.grad(y, x, nano.ones(1, dtype=nano.float64), create_graph=True)
    assert not g.requires_grad
    assert g.tolist() == [2.0]


def test_saved_0d_outputs_keep_their_history():
    x = nano.tensor(0.5, dtype=nano.float64, requires_grad=True)
    (first,) = nano.autograd.grad(nano.exp(x), x, create_graph=True)
    (second,) = nano.autograd.grad(first, x)
    assert second.item() == pytest.approx(np.exp(0.5), rel=1e-15)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda g: (g, g), "returned 2 gradients, expected 1"),
        (lambda g: nano.ones(5), r"returned shape \(5,\) for input 0, which has \(2,\)"),
        (lambda g: 3.0, "must return Tensors or None, got float"),
    ],
)
def test_a_wrong_backward_is_named(result, message):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad_output):
            return result(grad_output)

    x = nano.ones(2, requires_grad=True)
    with pytest.raises((RuntimeError, TypeError), match=rf"\[WrongBackward\].*{message}"):
        Wrong.apply(x).sum().backward()


def test_forward_must_return_arrays():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return [1, 2]

    with pytest.raises(TypeError, match=r"\[Wrong\] forward must return NumPy arrays, got list"):
        Wrong.apply(nano.ones(1))


def test_a_function_without_backward_says_so():
    class OneWay(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    y = OneWay.apply(nano.ones(1, requires_grad=True))
    with pytest.raises(RuntimeError, match=r"\[OneWay\] this operator has no derivative"):
        y.sum().backward()


def test_non_differentiable_operators_are_not_recorded():
    x = nano.ones(2, requires_grad=True)
    assert (x > 0).grad_fn is None
    assert x.argmax().grad_fn is None
    with pytest.raises(RuntimeError, match=r"\[FloorDivide\] this operator has no derivative"):
        (x // 2).sum().backward()


def test_integer_outputs_are_not_differentiable():
    class Count(Function):
        @staticmethod
        def forward(ctx, x):
            return np.asarray(x.size)

    assert not Count.apply(nano.ones(3, requires_grad=True)).requires_grad


def test_hooks_see_forward_and_backward_and_nest():
    calls = []

    def make(tag):
        def hook(function, inputs, attributes, proceed):
            is_operator = isinstance(function, type)
            calls.append((tag, function.__name__ if is_operator else function.name()))
            return proceed()

        return hook

    inner, outer = make("inner"), make("outer")
    x = nano.tensor(2.0, requires_grad=True)
    add_hook(inner)
    add_hook(outer)
    try:
        (x * x).backward()
    finally:
        remove_hook(inner)
        remove_hook(outer)
    # x's two gradients are added
    seen = ["Mul", "MulBackward0", "Mul", "Mul", "Add", "AccumulateGrad"]
    assert [name for tag, name in calls if tag == "inner"] == seen
    assert [name for tag, name in calls if tag == "outer"] == seen
    assert calls[0] == ("outer", "Mul")
    assert x.grad.item() == 4.0


def test_output_and_node_are_freed_without_the_cycle_collector():
    gc.disable()
    try:
        x = nano.ones(3, requires_grad=True)
        y = nano.exp(x)  # saves its own output
        node, output = weakref.ref(y.grad_fn), weakref.ref(y)
        del y
        assert node() is None
        assert output() is None
    finally:
        gc.enable()


def test_next_functions_and_names():
    x = nano.tensor(2.0, requires_grad=True)
    y = x * 3.0 + nano.exp(x)
    assert y.grad_fn.name() == "AddBackward0"
    (mul, _), (exp, _) = y.grad_fn.next_functions
    assert (mul.name(), exp.name()) == ("MulBackward0", "ExpBackward0")
    (leaf, number), (nothing, _) = mul.next_functions
    assert leaf.name() == "AccumulateGrad"
    assert leaf.variable is x
    assert number == 0
    assert nothing is None
    assert leaf.next_functions == ()


def test_a_saved_output_without_gradient_comes_back_without_one():
    seen = []

    class Largest(Function):
        @staticmethod
        def forward(ctx, x):
            where = np.asarray(x.argmax())
            ctx.mark_non_differentiable(where)
            ctx.save_for_backward(where)
            ctx.size = x.size
            return x.max(), where

        @staticmethod
        def backward(ctx, grad_output, _):
            (where,) = ctx.saved_tensors
            seen.append((where.dtype, where.requires_grad))
            out = nano.zeros(ctx.size)
            out[where] = grad_output
            return out

    x = nano.tensor([1.0, 3.0, 2.0], requires_grad=True)
    y, where = Largest.apply(x)
    y.backward(retain_graph=True)
    assert seen == [(nano.int64, False)]
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
    where.add_(1)
    with pytest.raises(RuntimeError, match=r"saved by LargestBackward · changed by add_"):
        y.backward()

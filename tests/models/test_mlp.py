"""The multilayer perceptron."""

import pytest

import nano
from nano import nn
from nano.models import MLP


def test_layers_and_shapes():
    model = MLP([8, 5, 3], nn.Tanh)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == ["Flatten", "Linear", "Tanh", "Linear"]
    assert model(nano.zeros(7, 2, 4)).shape == (7, 3)
    assert sum(p.numel() for p in model.parameters()) == 8 * 5 + 5 + 5 * 3 + 3


def test_computes_what_it_says():
    model = MLP([4, 6, 2])
    x = nano.randn(3, 4)
    first, second = model[1], model[3]
    hidden = (x @ first.weight.T + first.bias).relu()
    assert nano.allclose(model(x), hidden @ second.weight.T + second.bias, atol=1e-6)


def test_too_few_sizes():
    with pytest.raises(ValueError, match="at least two"):
        MLP([3])

"""nn.init: the right distribution, in place, by the generator."""

import math

import numpy as np
import pytest
import torch

import nano
from nano.nn import init

#: name, arguments, standard deviation and largest absolute value of a (200, 100) tensor.
DISTRIBUTIONS = [
    ("uniform_", {"a": -1.0, "b": 1.0}, 1 / math.sqrt(3), 1.0),
    ("normal_", {"std": 0.5}, 0.5, math.inf),
    ("trunc_normal_", {"std": 1.0, "a": -1.0, "b": 1.0}, 0.5396, 1.0),
    ("xavier_uniform_", {}, math.sqrt(2 / 300), math.sqrt(6 / 300)),
    ("xavier_normal_", {"gain": 2.0}, 2 * math.sqrt(2 / 300), math.inf),
    ("kaiming_uniform_", {"nonlinearity": "relu"}, math.sqrt(2 / 100), math.sqrt(6 / 100)),
    ("kaiming_uniform_", {"a": math.sqrt(5)}, math.sqrt(1 / 300), 0.1),
    ("kaiming_normal_", {"mode": "fan_out"}, math.sqrt(2 / 200), math.inf),
]


@pytest.mark.parametrize(("name", "options", "std", "largest"), DISTRIBUTIONS, ids=str)
def test_distributions(name, options, std, largest):
    t = nano.zeros(200, 100, requires_grad=True)
    g = nano.Generator().manual_seed(3)
    assert getattr(init, name)(t, **options, generator=g) is t
    values = t.detach().numpy().copy()
    # 20,000 draws: the standard deviation is known to about 0.5%, the mean to std / 141.
    assert values.std() == pytest.approx(std, rel=0.03)
    assert abs(values.mean()) < 4 * std / 141
    assert np.abs(values).max() <= largest * (1 + 1e-6)
    other = torch.zeros(200, 100)
    getattr(torch.nn.init, name)(other, **options)
    assert values.std() == pytest.approx(other.std().item(), rel=0.03)
    getattr(init, name)(t, **options, generator=nano.Generator().manual_seed(3))
    np.testing.assert_array_equal(t.detach().numpy(), values)
    assert t.is_leaf
    assert t._version == 2


def test_constants():
    t = nano.zeros(2, 3)
    assert init.ones_(t).tolist() == [[1.0] * 3] * 2
    assert init.constant_(t, 0.5).tolist() == [[0.5] * 3] * 2
    assert init.zeros_(t).tolist() == [[0.0] * 3] * 2
    assert init.eye_(t).tolist() == torch.nn.init.eye_(torch.zeros(2, 3)).tolist()


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (2, 3, 4)])
def test_orthogonal(shape):
    t = init.orthogonal_(nano.zeros(*shape, dtype=nano.float64), gain=2.0)
    m = t.numpy().reshape(shape[0], -1)
    product = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


GAINS = ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]


@pytest.mark.parametrize("name", GAINS)
@pytest.mark.parametrize("param", [None, 0.2])
def test_gains(name, param):
    ours, theirs = (m.calculate_gain(name, param) for m in (init, torch.nn.init))
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(
    "call",
    [
        lambda i, m: i.calculate_gain("sine"),
        lambda i, m: i.calculate_gain("leaky_relu", "a"),
        lambda i, m: i.eye_(m.zeros(3)),
        lambda i, m: i.xavier_uniform_(m.zeros(3)),
        lambda i, m: i.kaiming_normal_(m.zeros(3)),
        lambda i, m: i.kaiming_uniform_(m.zeros(3, 3), mode="fan"),
        lambda i, m: i.orthogonal_(m.zeros(3)),
    ],
)
def test_refusals(call):
    with pytest.raises(ValueError):
        call(torch.nn.init, torch)
    with pytest.raises(nano.errors.NanoError) as caught:
        call(init, nano)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_empty_tensors_warn(name):
    with pytest.warns(UserWarning, match="zero-element"):
        getattr(init, name)(nano.zeros(0, 3))


def test_own_limits():
    for call in (
        lambda: init.uniform_(nano.zeros(1), 1.0, 0.0),
        lambda: init.normal_(nano.zeros(1), std=-1.0),
        lambda: init.trunc_normal_(nano.zeros(1), a=1.0, b=-1.0),
    ):
        with pytest.raises(ValueError):
            call()

"""AlexNet beside the same network in PyTorch, whose ReLUs work in place."""

import pytest
import torch

import nano
from benchmarks import peers
from nano.models import alexnet

from . import beside


@pytest.fixture
def networks():
    """Without dropout: the two libraries draw different numbers."""
    torch.manual_seed(0)
    return beside.pair(alexnet(dropout=0.0), peers.alexnet(dropout=0.0))


def test_weights_have_the_same_names(networks):
    beside.check_state(*networks)
    beside.check_state(alexnet(7, 3), peers.alexnet(7, 3))


def test_outputs(networks):
    beside.check_forward(*networks, beside.images(4, 1, 28, 28)[0])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training(networks, dtype):
    beside.check_training(*networks, *beside.images(4, 1, 28, 28), dtype)


def test_dropout():
    """In training two passes differ; in evaluation they do not."""
    nano.manual_seed(0)
    model = alexnet()
    x = nano.from_numpy(beside.images(2, 1, 28, 28)[0])
    assert not nano.equal(model(x), model(x))
    model.eval()
    assert nano.equal(model(x), model(x))

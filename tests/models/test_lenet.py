"""LeNet beside the same network in PyTorch."""

import pytest
import torch

from benchmarks import peers
from nano.models import lenet

from . import beside


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return beside.pair(lenet(), peers.lenet())


def test_weights_have_the_same_names(networks):
    beside.check_state(*networks)


def test_outputs(networks):
    beside.check_forward(*networks, beside.images(16, 1, 28, 28)[0])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training(networks, dtype):
    beside.check_training(*networks, *beside.images(16, 1, 28, 28), dtype)


def test_colours_and_classes():
    torch.manual_seed(0)
    networks = beside.pair(lenet(7, 3), peers.lenet(7, 3))
    beside.check_state(*networks)
    beside.check_forward(*networks, beside.images(4, 3, 28, 28)[0])

"""The GPT of the benchmark: nano's and PyTorch's come from the same code and must agree."""

import numpy as np
import pytest
import torch

import nano
from benchmarks.gpt import gpt
from tests.models import beside

SIZES = {"vocabulary": 11, "width": 16, "heads": 2, "layers": 2, "length": 12}


@pytest.fixture
def networks():
    torch.manual_seed(0)
    ours = gpt(nano.nn, nano.nn.functional, **SIZES)
    theirs = gpt(torch.nn, torch.nn.functional, **SIZES)
    return beside.pair(ours, theirs)


@pytest.fixture
def tokens():
    return np.random.default_rng(0).integers(0, 11, (3, 12))


def test_weights_have_the_same_names(networks):
    beside.check_state(*networks)


def test_outputs(networks, tokens):
    beside.check_forward(*networks, tokens)
    beside.check_forward(*networks, tokens[:, :5].copy())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training(networks, tokens, dtype):
    labels = np.roll(tokens, -1, axis=1).ravel()
    beside.check_training(*networks, tokens, labels, dtype, kinks=False)


def test_no_token_sees_a_later_one(networks, tokens):
    changed = tokens.copy()
    changed[:, 6:] = (changed[:, 6:] + 1) % 11
    ours, _ = networks
    first, second = ours(nano.from_numpy(tokens)), ours(nano.from_numpy(changed))
    assert nano.equal(first[:, :6], second[:, :6])
    assert not nano.equal(first[:, 6:], second[:, 6:])

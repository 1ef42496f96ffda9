"""The embedding layer against PyTorch's."""

import numpy as np
import pytest
import torch

import nano
from nano import nn

TABLE = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
OPTIONS = [
    {},
    {"padding_idx": 1},
    {"padding_idx": -1},
    {"max_norm": 0.5},
    {"max_norm": 0.5, "norm_type": 1.0},
    {"scale_grad_by_freq": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_embedding_equals_pytorch(options):
    results, texts = [], []
    for m in (nano, torch):
        layer = m.nn.Embedding(5, 3, _weight=m.tensor(TABLE.copy()), **options)
        texts.append((repr(layer), list(layer.state_dict()), layer.padding_idx))
        y = layer(m.tensor([[0, 1, 1], [4, 4, 4]]))
        (y * y).sum().backward()
        results.append([y.detach(), layer.weight.grad, layer.weight.detach()])
    assert texts[0] == texts[1]
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5)


def test_rows_begin_normal_and_the_padding_zero():
    nano.manual_seed(0)
    weight = nn.Embedding(100, 50, padding_idx=3).weight.detach().numpy()
    assert not weight[3].any()
    # 4,950 draws: three standard deviations of the estimate are 0.03.
    assert abs(np.delete(weight, 3, 0).std() - 1) < 0.03
    assert nn.Embedding(2, 3, dtype=nano.float64).weight.dtype is nano.float64


def test_from_pretrained():
    table = nano.tensor(TABLE)
    layer = nn.Embedding.from_pretrained(table, padding_idx=1)
    theirs = torch.nn.Embedding.from_pretrained(torch.tensor(TABLE), padding_idx=1)
    assert repr(layer) == repr(theirs)
    assert layer.weight.requires_grad is theirs.weight.requires_grad is False
    assert layer.weight.data_ptr() == table.data_ptr()
    assert layer(nano.tensor([1])).tolist() == [TABLE[1].tolist()]
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.nn.Embedding(5, 3, padding_idx=5),
        lambda m: m.nn.Embedding(5, 3, padding_idx=-6),
        lambda m: m.nn.Embedding(4, 3, _weight=m.ones(5, 3)),
        lambda m: m.nn.Embedding.from_pretrained(m.ones(5)),
    ],
)
def test_refusals_as_in_pytorch(make):
    for m in (torch, nano):
        with pytest.raises(AssertionError):
            make(m)

"""The setting of float32 products' precision; what it does is tested with the kernels."""

import pytest
import torch

import nano
from nano.backends import precision


@pytest.fixture(autouse=True)
def as_before():
    yield
    for module in (nano, torch):
        module.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("name", ["highest", "high", "medium"])
def test_names_are_those_of_pytorch(name):
    for module in (torch, nano):
        module.set_float32_matmul_precision(name)
        assert module.get_float32_matmul_precision() == name
    assert precision.rounds_to_bfloat16() == (name == "medium")


def test_default():
    assert nano.get_float32_matmul_precision() == torch.get_float32_matmul_precision()


def test_other_names_have_no_effect_but_a_warning():
    nano.set_float32_matmul_precision("medium")
    torch.set_float32_matmul_precision("medium")
    with pytest.warns(UserWarning, match="'best' is not one of 'highest', 'high' or 'medium'"):
        nano.set_float32_matmul_precision("best")
    assert nano.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("value", [1, None, True])
def test_other_types(value):
    for module in (torch, nano):
        with pytest.raises(RuntimeError, match=f"expects a str, but got {type(value).__name__}"):
            module.set_float32_matmul_precision(value)

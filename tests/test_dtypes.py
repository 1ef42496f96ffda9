"""dtypes and promotion, against PyTorch's."""

import itertools
import pickle

import numpy as np
import pytest
import torch

import nano
from nano.dtypes import from_numpy_dtype, to_dtype

NAMES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
         "uint8", "bool"]  # fmt: skip
PAIRS = list(itertools.product(NAMES, NAMES))


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_promote_types(a, b):
    ours = nano.promote_types(getattr(nano, a), getattr(nano, b))
    theirs = torch.promote_types(getattr(torch, a), getattr(torch, b))
    assert f"torch.{ours.name}" == str(theirs)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_can_cast(a, b):
    ours = nano.can_cast(getattr(nano, a), getattr(nano, b))
    assert ours == torch.can_cast(getattr(torch, a), getattr(torch, b))


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("shapes", [((2,), ()), ((), (2,)), ((), ())], ids=str)
def test_result_type_with_0d_tensors(a, b, shapes):
    ours = [nano.ones(s, dtype=getattr(nano, d)) for s, d in zip(shapes, (a, b), strict=True)]
    theirs = [torch.ones(s, dtype=getattr(torch, d)) for s, d in zip(shapes, (a, b), strict=True)]
    assert str(nano.result_type(*ours))[5:] == str(torch.result_type(*theirs))[6:]
    assert str((ours[0] * ours[1]).dtype)[5:] == str((theirs[0] * theirs[1]).dtype)[6:]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [True, 3, 2.5], ids=str)
@pytest.mark.parametrize("shape", [(2,), ()], ids=str)
def test_result_type_with_numbers(name, number, shape):
    ours = nano.ones(shape, dtype=getattr(nano, name))
    theirs = torch.ones(shape, dtype=getattr(torch, name))
    assert str((ours * number).dtype)[5:] == str((theirs * number).dtype)[6:]
    assert str((number + ours).dtype)[5:] == str((number + theirs).dtype)[6:]


@pytest.mark.parametrize("name", NAMES)
def test_attributes(name):
    ours, theirs = getattr(nano, name), getattr(torch, name)
    assert ours.itemsize == theirs.itemsize
    assert ours.is_floating_point == theirs.is_floating_point
    assert ours.is_signed == theirs.is_signed or name == "bool"
    assert repr(ours) == f"nano.{name}"
    assert pickle.loads(pickle.dumps(ours)) is ours
    assert from_numpy_dtype(ours.numpy) is ours


def test_aliases():
    assert nano.float is nano.float32
    assert nano.double is nano.float64
    assert nano.long is nano.int64
    assert to_dtype("half") is nano.float16
    assert to_dtype(np.float32) is nano.float32
    assert to_dtype(float) is nano.float64
    assert to_dtype(int) is nano.int64


def test_default_dtype():
    assert nano.get_default_dtype() is nano.float32
    nano.set_default_dtype(nano.float64)
    try:
        assert nano.tensor([1.5]).dtype is nano.float64
        assert (nano.tensor([1]) / 2).dtype is nano.float64
        assert nano.tensor([1]).dtype is nano.int64
        assert repr(nano.tensor([1.5])) == "tensor([1.5000])"
    finally:
        nano.set_default_dtype(nano.float32)
    with pytest.raises(TypeError, match="floating-point"):
        nano.set_default_dtype(nano.int64)


def test_unknown_dtypes():
    with pytest.raises(TypeError, match="complex64"):
        nano.from_numpy(np.zeros(2, np.complex64))
    with pytest.raises(TypeError, match="expected a dtype"):
        to_dtype("float99")


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_conversion(source, target):
    values = [0.0, 1.0, 2.7, 100.0] + ([-1.5, -3.0] if "u" not in source + target else [])
    ours = nano.tensor(values).to(getattr(nano, source)).to(getattr(nano, target))
    theirs = torch.tensor(values).to(getattr(torch, source)).to(getattr(torch, target))
    assert str(ours.dtype)[5:] == str(theirs.dtype)[6:]
    assert ours.tolist() == theirs.tolist()

"""Checkpoints: what goes in comes out, and faults change nothing."""

import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import nano
from nano import checkpoint
from nano.errors import CheckpointError

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]
DTYPES += ["bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_every_dtype_and_shape(tmp_path, dtype, shape):
    values = np.random.default_rng(0).uniform(0, 9, shape)
    t = nano.tensor(values).to(getattr(nano, dtype))
    checkpoint.save(tmp_path / "a", {"t": t})
    tensors, metadata = checkpoint.load(tmp_path / "a")
    assert metadata == {}
    assert tensors["t"].dtype is t.dtype
    assert tensors["t"].shape == t.shape
    assert tensors["t"].numpy().tobytes() == t.numpy().tobytes()


def test_nan_infinity_and_layouts(tmp_path):
    a = np.array([[np.nan, np.inf, -0.0], [1.0, 2.0, 3.0]])
    given = {"a": a, "t": a.T, "back": a[::-1, ::2], "big": a.astype(">f8")}
    checkpoint.save(tmp_path / "a", given)
    tensors, _ = checkpoint.load(tmp_path / "a")
    for name, array in given.items():
        np.testing.assert_array_equal(tensors[name].numpy(), array)
    assert np.signbit(tensors["a"].numpy()[0, 2])


def test_loaded_tensors_can_be_written_to(tmp_path):
    checkpoint.save(tmp_path / "a", {"a": np.zeros(3)})
    t = checkpoint.load(tmp_path / "a")[0]["a"]
    t.numpy()[:] = 1
    assert checkpoint.load(tmp_path / "a")[0]["a"].tolist() == [0, 0, 0]


def test_metadata(tmp_path):
    metadata = {"lr": 0.1 + 0.2, "n": 2**80, "names": ["ä", None, True], "nan": float("inf")}
    checkpoint.save(tmp_path / "a", {}, metadata)
    assert checkpoint.load(tmp_path / "a") == ({}, metadata)


def test_other_programs_read_and_write_it(tmp_path):
    t = nano.tensor([1.5, 2.5]).to(nano.bfloat16)
    checkpoint.save(tmp_path / "a", {"t": t})
    theirs = safetensors.torch.load_file(tmp_path / "a")["t"]
    assert theirs.dtype == torch.bfloat16
    assert theirs.tolist() == [1.5, 2.5]
    safetensors.torch.save_file({"t": theirs}, tmp_path / "b", {"made": "elsewhere"})
    tensors, metadata = checkpoint.load(tmp_path / "b")
    assert tensors["t"].dtype is nano.bfloat16
    assert metadata == {"made": "elsewhere"}


def test_a_dtype_that_nano_has_not(tmp_path):
    safetensors.numpy.save_file({"t": np.zeros(2, np.uint32)}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="U32"):
        checkpoint.load(tmp_path / "a")
    with pytest.raises(TypeError, match="complex"):
        checkpoint.save(tmp_path / "b", {"t": np.zeros(2, complex)})
    assert not (tmp_path / "b").exists()


def test_cut_anywhere(tmp_path):
    file = tmp_path / "a"
    checkpoint.save(file, {"t": np.arange(6.0), "u": np.arange(3)}, {"epoch": 1})
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="cut short") as caught:
            checkpoint.load(file)
        assert str(file) in str(caught.value)


def test_a_flipped_bit_anywhere(tmp_path):
    file = tmp_path / "a"
    tensors, metadata = {"t": np.arange(3.0), "u": np.arange(2)}, {"epoch": 1}
    checkpoint.save(file, tensors, metadata)
    whole = file.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    padding = set(range(8 + len(whole[8 : 8 + header].rstrip()), 8 + header))
    for place in range(len(whole)):
        other = bytearray(whole)
        other[place] ^= 1
        file.write_bytes(other)
        if place in padding:
            continue
        with pytest.raises(CheckpointError):
            checkpoint.load(file)


def test_missing_or_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        checkpoint.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="nothing"):
        checkpoint.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save(tmp_path / "no" / "a", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save(tmp_path / "file" / "a", {})


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_fault_while_writing_keeps_the_previous_file(tmp_path, monkeypatch, step):
    file = tmp_path / "a"
    checkpoint.save(file, {"t": np.zeros(2)})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.save(file, {"t": np.ones(2)})
    monkeypatch.undo()
    assert checkpoint.load(file)[0]["t"].tolist() == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match=r"\[checkpoint.save\] metadata"):
        checkpoint.save(tmp_path / "a", {}, {"x": object()})
    assert not list(tmp_path.iterdir())


simple = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
nested = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.integers(), st.text(max_size=4)), inner, max_size=3),
    ),
    max_leaves=12,
)


@given(nested)
def test_flatten_and_back_is_exact(value):
    tensors, encoded = checkpoint.flatten(value, "x")
    back = checkpoint.unflatten(tensors, json.loads(json.dumps(encoded)))
    # repr tells 1 from 1.0 and True, 0.0 from -0.0, a list from a tuple, and shows all digits.
    assert repr(back) == repr(value)


def test_flatten_takes_tensors_out():
    state = {"state": {0: {"m": nano.tensor([1.0]), "a": np.zeros(2)}}, "groups": [{"lr": 0.1}]}
    tensors, encoded = checkpoint.flatten(state, "o")
    assert sorted(tensors) == ["o.state.0.a", "o.state.0.m"]
    back = checkpoint.unflatten(tensors, json.loads(json.dumps(encoded)))
    assert back["state"][0]["m"].tolist() == [1.0]
    assert isinstance(back["state"][0]["a"], np.ndarray)
    with pytest.raises(CheckpointError, match=r"o\.state\.0\.m"):
        checkpoint.unflatten({}, encoded)
    with pytest.raises(ValueError, match="object"):
        checkpoint.flatten({"x": object()}, "o")

"""Data sets, splits and the loader."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils import data as torch_data

import nano
from nano.data import DataLoader, Dataset, Digits, Subset, TensorDataset, random_split
from nano.errors import InputError


def numbers(n, width=3):
    x = np.arange(n * width, dtype=np.float32).reshape(n, width)
    return TensorDataset(nano.tensor(x), nano.tensor(np.arange(n)))


class Squares(Dataset):
    """A set whose samples are made one by one."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return nano.tensor([float(i)]), i * i


def seen(loader):
    return [batch[-1].tolist() for batch in loader]


def test_tensor_dataset_needs_equal_first_dimensions():
    with pytest.raises(RuntimeError, match="same first dimension"):
        TensorDataset(nano.tensor([1.0, 2.0]), nano.tensor([1.0]))
    with pytest.raises(TypeError):
        TensorDataset([1, 2])
    with pytest.raises(ValueError):
        TensorDataset()


@given(n=st.integers(0, 30), size=st.integers(1, 8), drop=st.booleans(), memory=st.booleans())
def test_batches_equal_pytorch(n, size, drop, memory):
    if n == 0 and memory:
        memory = False
    ours = DataLoader(numbers(n), size, drop_last=drop, in_memory=memory)
    theirs = torch_data.DataLoader(
        torch_data.TensorDataset(torch.arange(n)), batch_size=size, drop_last=drop
    )
    assert len(ours) == len(theirs)
    assert seen(ours) == [b[0].tolist() for b in theirs]


@pytest.mark.parametrize("in_memory", [False, True])
def test_the_generators_state_decides_the_order(in_memory):
    g = nano.Generator().manual_seed(7)
    loader = DataLoader(numbers(20), 6, shuffle=True, generator=g, in_memory=in_memory)
    state = g.get_state()
    first, second = seen(loader), seen(loader)
    assert first != second
    assert sorted(i for batch in first for i in batch) == list(range(20))
    g.set_state(state)
    assert seen(loader) == first
    assert seen(loader) == second


def test_the_order_is_drawn_when_the_pass_begins():
    g = nano.Generator().manual_seed(7)
    loader = DataLoader(numbers(20), 6, shuffle=True, generator=g)
    state = g.get_state()
    expected = seen(loader)
    g.set_state(state)
    batches = iter(loader)
    g.manual_seed(99)
    assert [b[-1].tolist() for b in batches] == expected


def test_shuffling_without_a_generator_uses_the_default_one():
    loader = DataLoader(numbers(20), 20, shuffle=True)
    nano.manual_seed(1)
    first = seen(loader)
    nano.manual_seed(1)
    assert seen(loader) == first


@pytest.mark.parametrize(
    "data",
    [numbers(11), Subset(numbers(30), list(range(25, 3, -2))), Squares(11), list(range(11))],
    ids=["tensors", "subset", "other", "bare"],
)
def test_in_memory_gives_the_same_batches(data):
    one, other = DataLoader(data, 4), DataLoader(data, 4, in_memory=True)
    for a, b in zip(one, other, strict=True):
        assert type(a) is type(b)
        for x, y in zip(a, b, strict=True):
            assert x.dtype is y.dtype
            np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_writing_into_a_batch_leaves_the_data_alone():
    data = numbers(4)
    for x, _ in DataLoader(data, 4, in_memory=True):
        x.numpy()[:] = -1
    assert data.tensors[0].numpy().min() == 0


def test_sampler_and_collate_fn():
    loader = DataLoader(Squares(5), 2, sampler=[4, 0, 2], collate_fn=lambda s: [v for _, v in s])
    assert list(loader) == [[16, 0], [4]]
    assert len(loader) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"batch_size": 2.0},
        {"shuffle": True, "sampler": [0]},
        {"in_memory": True, "collate_fn": list},
    ],
)
def test_wrong_arguments(arguments):
    with pytest.raises(InputError, match="DataLoader"):
        DataLoader(numbers(4), **arguments)


def test_in_memory_refuses_what_has_a_history():
    x = nano.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match="requires gradients"):
        DataLoader(TensorDataset(x), in_memory=True)


def test_collating_unequal_shapes_and_unknown_things():
    with pytest.raises(RuntimeError, match="same shape"):
        nano.data.default_collate([nano.tensor([1.0]), nano.tensor([1.0, 2.0])])
    with pytest.raises(TypeError, match="object"):
        nano.data.default_collate([object()])


def test_collating_dicts():
    batch = nano.data.default_collate([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
    assert batch["a"].tolist() == [1, 2]
    assert batch["b"] == ["x", "y"]


@given(
    n=st.integers(1, 200),
    parts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_fractions_split_as_in_pytorch(n, parts):
    fractions = [p / sum(parts) for p in parts]
    assume(sum(fractions) <= 1)  # PyTorch refuses a sum that rounding left above 1
    ours = random_split(range(n), fractions, nano.Generator())
    # An empty part makes PyTorch warn; sizes are what is compared.
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch_data.random_split(range(n), fractions)
    assert [len(p) for p in ours] == [len(p) for p in theirs]
    assert sorted(i for p in ours for i in p.indices) == list(range(n))


def test_split_by_lengths_is_repeatable():
    parts = [random_split(range(10), [7, 3], nano.Generator().manual_seed(5)) for _ in range(2)]
    assert parts[0][0].indices == parts[1][0].indices
    assert [len(p) for p in parts[0]] == [7, 3]


@pytest.mark.parametrize("lengths", [[7, 4], [0.5, 0.6], [11, -1], [1.5, -0.5], [0.5]])
def test_lengths_that_do_not_add_up(lengths):
    with pytest.raises(ValueError, match="add up"):
        random_split(range(10), lengths)


def test_subset_index_out_of_range():
    with pytest.raises(IndexError):
        Subset(range(10), [1, 2])[2]
    assert Subset(range(10), [1, 2])[-1] == 2


def test_digits_split():
    train, held_out = Digits(train=True), Digits(train=False)
    assert (len(train), len(held_out)) == (1437, 360)
    images, labels = held_out.tensors
    assert images.shape == (360, 1, 8, 8)
    assert images.dtype is nano.float32
    assert labels.dtype is nano.int64
    assert images.numpy().min() == 0
    assert images.numpy().max() == 1
    everything = np.bincount(train.tensors[1].numpy()) + np.bincount(labels.numpy())
    assert everything.sum() == 1797
    share = np.bincount(labels.numpy()) / everything
    assert abs(share - 0.2).max() < 0.01
    # No image is in both parts.
    both = np.concatenate([train.tensors[0].numpy(), images.numpy()])
    assert len(np.unique(both.reshape(1797, -1), axis=0)) == 1797


@pytest.mark.parametrize("in_memory", [False, True])
def test_what_a_sampler_must_not_give(in_memory):
    for sampler, error in (([0.5], TypeError), (3, TypeError), ([0, 4], IndexError)):
        with pytest.raises(error) as caught:
            list(DataLoader(numbers(4), 2, sampler=sampler, in_memory=in_memory))
        assert isinstance(caught.value, nano.errors.NanoError)
    loader = DataLoader(numbers(4), 2, sampler=[-1, np.int64(0)], in_memory=in_memory)
    assert seen(loader) == [[3, 0]]
    with pytest.raises(IndexError, match="there are 4 samples, got index 4"):
        DataLoader(Subset(numbers(4), [4]), in_memory=True)
    with pytest.raises(TypeError, match=r"nano\.Generator"):
        DataLoader(numbers(4), generator=3)


def test_passes_within_passes():
    loader = DataLoader(numbers(5), 2, shuffle=True, in_memory=True)
    for outer in loader:
        assert sorted(i for batch in seen(loader) for i in batch) == list(range(5))
        assert len(outer[1]) <= 2


def test_collating_as_pytorch_does():
    from collections import namedtuple

    Pair = namedtuple("Pair", "x y")
    collate = nano.data.default_collate
    for samples in ([1.0, 2.0], [1, 2], [True, False], [np.float32(1), np.float32(2)], [1, 2.5]):
        expected = torch_data.default_collate(samples)
        assert str(collate(samples).dtype).removeprefix("nano.") == str(expected.dtype)[6:]
        assert collate(samples).tolist() == expected.tolist()
    batch = collate([Pair(1, 2), Pair(3, 4)])
    assert isinstance(batch, Pair)
    assert batch.y.tolist() == [2, 4]
    x = nano.ones(2, requires_grad=True)
    collate([x, x]).sum().backward()
    assert x.grad.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="same number of elements"):
        collate([(1, 2), (1,)])
    with pytest.raises(KeyError, match="one has no 'a'"):
        collate([{"a": 1}, {"b": 1}])


def test_lengths_that_are_no_numbers():
    with pytest.raises(ValueError, match="add up"):
        random_split(range(10), [float("nan"), 1.0])
    with pytest.raises(TypeError, match="str"):
        random_split(range(10), [3, "a"])

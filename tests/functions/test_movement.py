"""Views: order of dimensions, shape, expansion, parts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nano

from .harness import EVERY, WIDE, Case, assert_same, operator_tests


def case(name, call, shape=(2, 3, 4), dtypes=WIDE, **options):
    return Case(name, call, shapes=[shape], dtypes=dtypes, **options)


CASES = [
    case("transpose", lambda m, x: m.transpose(x, 0, -1), dtypes=EVERY),
    case("swapaxes", lambda m, x: x.swapaxes(1, 2)),
    case("permute", lambda m, x: m.permute(x, (2, 0, -2)), dtypes=EVERY),
    case("permute varargs", lambda m, x: x.permute(1, 2, 0)),
    case("movedim", lambda m, x: m.movedim(x, (0, 1), (-1, 0))),
    case("movedim one", lambda m, x: m.movedim(x, 0, 2)),
    case("t", lambda m, x: m.t(x), (2, 3)),
    case("t vector", lambda m, x: x.t(), (3,)),
    case("T", lambda m, x: x.T, (2, 3)),
    case("mT", lambda m, x: x.mT),
    case("reshape", lambda m, x: m.reshape(x, (4, -1)), dtypes=EVERY),
    case("reshape varargs", lambda m, x: x.reshape(3, 8)),
    case("reshape after transpose", lambda m, x: x.transpose(0, 2).reshape(-1)),
    case("view", lambda m, x: x.view(6, -1), layouts=False),
    case("view_as", lambda m, x: x.view_as(m.zeros(4, 6)), layouts=False),
    case("reshape_as", lambda m, x: x.reshape_as(m.zeros(4, 6))),
    case("flatten", lambda m, x: m.flatten(x)),
    case("flatten some", lambda m, x: m.flatten(x, 1, 2)),
    case("flatten one", lambda m, x: m.flatten(x, 1, 1)),
    case("flatten 0-d", lambda m, x: m.flatten(x), ()),
    case("unflatten", lambda m, x: m.unflatten(x, -1, (2, -1))),
    case("squeeze", lambda m, x: m.squeeze(x), (1, 3, 1)),
    case("squeeze dim", lambda m, x: m.squeeze(x, -1), (1, 3, 1)),
    case("squeeze dims", lambda m, x: m.squeeze(x, (0, 1)), (1, 3, 1)),
    case("squeeze none", lambda m, x: m.squeeze(x, 0), (2, 3)),
    case("unsqueeze", lambda m, x: m.unsqueeze(x, -1), (2, 3)),
    case("unsqueeze front", lambda m, x: x.unsqueeze(0), ()),
    case("expand", lambda m, x: x.expand(2, 3, 4), (3, 1), dtypes=EVERY),
    case("expand minus", lambda m, x: x.expand(2, -1, 4), (3, 1)),
    case("expand 0-d", lambda m, x: x.expand(2, 3), ()),
    case("expand to nothing", lambda m, x: x.expand(0, 3), (1, 3)),
    case("expand_as", lambda m, x: x.expand_as(m.zeros(2, 3)), (3,)),
    case("broadcast_to", lambda m, x: m.broadcast_to(x, (2, 3)), (1, 3)),
    case("narrow", lambda m, x: m.narrow(x, 1, 1, 2)),
    case("narrow back", lambda m, x: m.narrow(x, -1, -2, 2)),
    case("select", lambda m, x: m.select(x, 1, -1)),
    case("select vector", lambda m, x: m.select(x, 0, 1), (3,)),
    case("diagonal", lambda m, x: m.diagonal(x), (3, 4)),
    case("diagonal offset", lambda m, x: m.diagonal(x, -1, 0, 2)),
    case("diagonal outside", lambda m, x: m.diagonal(x, 7), (3, 4)),
    case("as_strided", lambda m, x: m.as_strided(x, (2, 2), (3, 1)), (6,), layouts=False),
    case(
        "as_strided overlaps",
        lambda m, x: x.as_strided((3, 3), (1, 2), 1),
        (8,),
        layouts=False,
        dtypes=("float64", "float32", "bfloat16"),
    ),
    case(
        "as_strided of a view",
        lambda m, x: (x * 1).transpose(0, 1)[1].as_strided((2, 2), (1, 4), 2),
        (3, 4),
        layouts=False,
        grad=False,  # of what lies outside the view: none, as in PyTorch; see below
    ),
    *[case(f"nothing {n}", lambda m, x, n=n: getattr(x, n)(0, 1), (0, 3)) for n in ("transpose",)],
]

TestMovement = operator_tests(CASES)

VIEWS = [
    lambda x: x.transpose(0, 1),
    lambda x: x.permute(2, 0, 1),
    lambda x: x.T,
    lambda x: x.reshape(-1),
    lambda x: x.view(6, 4),
    lambda x: x.flatten(),
    lambda x: x.unsqueeze(0),
    lambda x: x.squeeze(),
    lambda x: x.narrow(0, 1, 1),
    lambda x: x.select(1, 0),
    lambda x: x.diagonal(),
    lambda x: x.as_strided((2, 2), (1, 2)),
    lambda x: x[1, ..., None, 1:],
]


@pytest.mark.parametrize("view", VIEWS)
def test_views_share_memory_and_version(view):
    x = nano.arange(24.0).reshape(2, 3, 4).clone()
    v = view(x)
    v.zero_()
    theirs = torch.arange(24.0).reshape(2, 3, 4).clone()
    if view is VIEWS[2]:
        theirs.permute(2, 1, 0).zero_()
    else:
        view(theirs).zero_()
    assert x.tolist() == theirs.tolist()
    assert x._storage is v._storage
    assert x._storage.version == 1


def test_expanded_tensors_cannot_be_written():
    for m in (nano, torch):
        x = m.ones(1, 3).expand(2, 3)
        for write in (
            lambda x: x.add_(1),
            lambda x: x.__setitem__(slice(None), 2.0),
        ):
            with pytest.raises(RuntimeError):
                write(x)
        x[0].mul_(3)
        assert x.tolist() == [[3.0] * 3] * 2


def test_as_strided_gives_no_gradient_to_what_its_input_does_not_show():
    grads = []
    for m in (nano, torch):
        x = m.ones(3, 4, requires_grad=True)
        (x * 1)[1].as_strided((2, 3), (3, 1), 3).sum().backward()
        grads.append(x.grad.tolist())
    assert grads[0] == grads[1] == [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]


BAD = {
    "transpose": lambda m: m.zeros(2, 3).transpose(0, 2),
    "permute dup": lambda m: m.zeros(2, 3).permute(0, 0),
    "permute few": lambda m: m.zeros(2, 3).permute(0),
    "permute range": lambda m: m.zeros(2, 3).permute(0, 2),
    "movedim dup": lambda m: m.zeros(2, 3).movedim((0, 0), (0, 1)),
    "movedim length": lambda m: m.zeros(2, 3).movedim((0, 1), (0,)),
    "t": lambda m: m.zeros(2, 3, 4).t(),
    "mT": lambda m: m.zeros(2).mT,
    "reshape": lambda m: m.zeros(2, 3).reshape(4),
    "reshape two": lambda m: m.zeros(2, 3).reshape(-1, -1),
    "reshape -2": lambda m: m.zeros(2, 3).reshape(-2),
    "reshape unknown": lambda m: m.zeros(0, 3).reshape(0, -1),
    "reshape float": lambda m: m.zeros(2, 3).reshape(6.0),
    "view copy": lambda m: m.zeros(2, 3).t().view(6),
    "view size": lambda m: m.zeros(2, 3).view(7),
    "flatten": lambda m: m.zeros(2, 3).flatten(1, 0),
    "flatten range": lambda m: m.zeros(2, 3).flatten(2),
    "unflatten": lambda m: m.zeros(4).unflatten(0, (3, 2)),
    "squeeze": lambda m: m.zeros(1, 2).squeeze(2),
    "squeeze dup": lambda m: m.zeros(1, 2).squeeze((0, 0)),
    "unsqueeze": lambda m: m.zeros(1, 2).unsqueeze(3),
    "expand": lambda m: m.zeros(2).expand(3),
    "expand new": lambda m: m.zeros(2).expand(-1, 2),
    "expand fewer": lambda m: m.zeros(2, 2).expand(2),
    "narrow": lambda m: m.zeros(4).narrow(0, 3, 2),
    "narrow start": lambda m: m.zeros(4).narrow(0, 5, 0),
    "narrow length": lambda m: m.zeros(4).narrow(0, 0, -1),
    "select": lambda m: m.zeros(4).select(0, 4),
    "select 0-d": lambda m: m.zeros(()).select(0, 0),
    "diagonal": lambda m: m.zeros(4).diagonal(),
    "diagonal same": lambda m: m.zeros(4, 4).diagonal(0, 1, 1),
    "as_strided": lambda m: m.zeros(4).as_strided((3,), (2,)),
    "as_strided negative": lambda m: m.zeros(4).as_strided((3,), (-1,)),
    "as_strided length": lambda m: m.zeros(4).as_strided((3,), (1, 1)),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_pytorchs(name):
    with pytest.raises(Exception) as theirs:
        BAD[name](torch)
    with pytest.raises(type(theirs.value)) as ours:
        BAD[name](nano)
    assert isinstance(ours.value, nano.errors.NanoError)


def test_view_with_a_dtype_reads_the_same_bytes():
    x = nano.tensor([1.0, -2.0])
    assert x.view(nano.int32).tolist() == torch.tensor([1.0, -2.0]).view(torch.int32).tolist()


def test_shrink_undoes_pad():
    x = nano.arange(6.0).reshape(2, 3)
    assert nano.shrink(nano.pad(x, (1, 2, 3, 4)), ((3, 5), (1, 4))).tolist() == x.tolist()
    assert nano.shrink(x, (None, (1, 1))).shape == (2, 0)
    with pytest.raises(IndexError, match=r"bounds \(1, 4\) lie outside dimension 1"):
        nano.shrink(x, (None, (1, 4)))
    with pytest.raises(RuntimeError, match="1 bounds given for 2"):
        nano.shrink(x, ((0, 1),))


@given(
    shape=st.lists(st.integers(0, 4), max_size=4).map(tuple),
    data=st.data(),
)
def test_permute_and_reshape_of_any_shape(shape, data):
    dims = data.draw(st.permutations(range(len(shape))))
    a = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    ours, theirs = nano.tensor(a).permute(dims), torch.tensor(a).permute(dims)
    assert_same(ours, theirs, (0, 0))
    assert_same(ours.reshape(a.size), theirs.reshape(a.size), (0, 0))
    try:
        theirs.view(a.size)
    except RuntimeError:
        if ours.is_contiguous(memory_format=nano.channels_last):
            # nano's exception: such memory is what convolutions leave, so view() copies it.
            assert_same(ours.view(a.size), theirs.reshape(a.size), (0, 0))
        else:
            with pytest.raises(RuntimeError, match="copy"):
                ours.view(a.size)
    else:
        assert ours.view(a.size).tolist() == theirs.reshape(-1).tolist()

"""What a tensor is: its making, its attributes, its text, and its way to Python and NumPy."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nano
from nano.storage import content_token
from nano.tensor import wrap

NAMES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
         "uint8", "bool"]  # fmt: skip


def pair(a, dtype=None):
    return (
        nano.tensor(a, dtype=dtype and getattr(nano, dtype)),
        torch.tensor(a, dtype=dtype and getattr(torch, dtype)),
    )


def text_of(torch_tensor):
    return repr(torch_tensor).replace("torch.", "nano.").replace("size=(", "size=(")


class TestMaking:
    @pytest.mark.parametrize(
        "data",
        [3, 2.5, True, [1, 2], [1.0, 2], [True, False], [[1, 2], [3, 4]], [], [[]], [1, 2.5, True],
         np.arange(3, dtype=np.int16), np.float32(2), np.ones((2, 0)), [np.float64(1.5), 2]],
        ids=repr,
    )  # fmt: skip
    def test_dtype_and_values_equal_pytorch(self, data):
        ours, theirs = pair(data)
        assert str(ours.dtype)[5:] == str(theirs.dtype)[6:]
        assert ours.shape == tuple(theirs.shape)
        assert ours.tolist() == theirs.tolist()

    @pytest.mark.parametrize(
        "data",
        [
            [np.ones(2), np.ones(2)],
            [np.ones(2, np.float32), np.ones(2)],
            ([1.5, 2.0], [np.float64(1), 2.0]),
            [1, np.float64(2)],
            [np.float32(1), 2.0],
            [np.float16(1), 2.5],
            [np.int32(1), 2.5],
        ],
        ids=str,
    )
    @pytest.mark.filterwarnings("ignore:Creating a tensor from a list:UserWarning")  # PyTorch's
    def test_lists_that_hold_numpys_float64(self, data):
        assert str(nano.tensor(data).dtype)[5:] == str(torch.tensor(data).dtype)[6:]

    @pytest.mark.parametrize("wide", [0, 1])
    def test_lists_that_hold_a_float64_tensor(self, wide):
        for m in (nano, torch):
            data = [2, 3.5]
            data[wide] = m.tensor(1.0, dtype=m.float64)
            assert m.tensor(data).dtype == m.float64

    def test_lists_of_tensors(self):
        t = nano.tensor([nano.tensor(1.0), nano.tensor(2.0)])
        assert t.tolist() == [1.0, 2.0]

    def test_tensor_copies_and_from_numpy_shares(self):
        a = np.zeros(2, np.float32)
        copied, shared, as_t = nano.tensor(a), nano.from_numpy(a), nano.as_tensor(a)
        a[0] = 5.0
        assert copied.tolist() == [0.0, 0.0]
        assert shared.tolist() == as_t.tolist() == [5.0, 0.0]
        shared.numpy()[1] = 7.0
        assert a[1] == 7.0
        t = nano.ones(1)
        assert nano.as_tensor(t) is t

    def test_byte_order_is_made_native(self):
        t = nano.from_numpy(np.array([1.0, 2.0], ">f4"))
        assert (t + nano.ones(2)).tolist() == [2.0, 3.0]

    @pytest.mark.parametrize(
        ("make", "error"),
        [
            (lambda m: m.tensor([[1, 2], [3]]), ValueError),
            (lambda m: m.tensor("abc"), TypeError),
            (lambda m: m.tensor([None]), (TypeError, RuntimeError)),
            (lambda m: m.tensor([1], requires_grad=True), RuntimeError),
            (lambda m: m.from_numpy([1, 2]), TypeError),
            (lambda m: m.from_numpy(np.zeros(3, "f4,u2")["f0"]), ValueError),
            (lambda m: m.as_tensor(np.zeros(3, "f4,u2")["f0"]), ValueError),
            (lambda m: m.tensor([1.0], device="nonsense"), RuntimeError),
        ],
    )
    def test_bad_data(self, make, error):
        with pytest.raises(error):
            make(torch)
        with pytest.raises(error, match=r"^\["):
            make(nano)

    def test_tensor_class(self):
        t = nano.Tensor([1, 2])
        assert t.dtype is nano.float32
        assert isinstance(t, nano.Tensor)


class TestAttributes:
    def test_sizes(self):
        ours, theirs = nano.zeros(2, 3, 4), torch.zeros(2, 3, 4)
        assert ours.size() == ours.shape == (2, 3, 4)
        assert ours.size(-1) == theirs.size(-1) == 4
        assert ours.numel() == theirs.numel()
        assert ours.dim() == ours.ndim == theirs.ndim
        assert ours.stride() == theirs.stride()
        assert ours.T.stride() == (1, 4, 12)
        assert ours.nbytes == theirs.nbytes
        assert len(ours) == 2
        assert ours.is_contiguous()
        assert not ours.transpose(0, 1).is_contiguous()
        assert ours.device == nano.device("cpu")
        assert str(ours.device) == "device(type='cpu')"

    def test_only_the_cpu(self):
        assert nano.ones(1).to("cpu").tolist() == [1.0]
        with pytest.raises(RuntimeError, match="CPU only, got 'cuda'"):
            nano.ones(1).to("cuda")

    def test_conversions(self):
        t = nano.tensor([1.7, 0.0])
        assert t.long().tolist() == [1, 0]
        assert t.bool().tolist() == [True, False]
        assert t.double().dtype is nano.float64
        assert t.float() is t
        assert t.to(nano.float16).dtype is nano.float16
        assert t.to(t.double()).dtype is nano.float64
        assert t.type_as(t.long()).dtype is nano.int64
        assert t.to(t.dtype, copy=True) is not t

    def test_gradient_through_a_conversion(self):
        x = nano.ones(2, requires_grad=True)
        (x.double() * 3).sum().backward()
        assert x.grad.dtype is nano.float32
        assert x.grad.tolist() == [3.0, 3.0]
        assert not x.long().requires_grad

    def test_detach_and_data_share_memory(self):
        x = nano.ones(2, requires_grad=True)
        x.detach()[0] = 5.0
        x.data[1] = 6.0
        assert x.tolist() == [5.0, 6.0]
        x.data = nano.zeros(2)
        assert x.tolist() == [0.0, 0.0]
        assert x.requires_grad


class TestPython:
    def test_numbers(self):
        assert nano.tensor(2.5).item() == 2.5
        assert type(nano.tensor([3]).item()) is int
        assert type(nano.tensor(True).item()) is bool
        assert nano.tensor(1.5, dtype=nano.bfloat16).item() == 1.5
        assert float(nano.tensor(2.5)) == 2.5
        assert int(nano.tensor(2.5)) == 2
        assert [10, 20, 30][nano.tensor(1)] == 20
        assert f"{nano.tensor(2.5):.2f}" == "2.50"

    @pytest.mark.parametrize(
        ("run", "error"),
        [
            (lambda t: t.item(), RuntimeError),
            (lambda t: bool(t), RuntimeError),
            (lambda t: float(t), (RuntimeError, TypeError, ValueError)),
            (lambda t: [0, 1][t], TypeError),
            (lambda t: len(t.sum()), TypeError),
            (lambda t: list(t.sum()), TypeError),
            (lambda t: t.requires_grad_().numpy(), RuntimeError),
            (lambda t: np.asarray(t.requires_grad_()), RuntimeError),
        ],
    )
    def test_refusals(self, run, error):
        with pytest.raises(error):
            run(torch.ones(2))
        with pytest.raises(error, match=r"^\["):
            run(nano.ones(2))

    def test_iteration_and_membership(self):
        x = nano.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        a, b = x
        (a * b).sum().backward()
        assert x.grad.tolist() == [[3.0, 4.0], [1.0, 2.0]]
        assert 3.0 in x
        assert 9.0 not in x

    def test_numpy_meets_tensor(self):
        t = nano.ones(2)
        assert isinstance(np.ones(2, np.float32) * 2 + np.asarray(t), np.ndarray)
        assert np.asarray(t) is not None
        assert np.sum(t.numpy()) == 2.0
        assert np.array(t, dtype=np.float64).dtype == np.float64

    def test_hash_is_identity(self):
        a, b = nano.ones(2), nano.ones(2)
        assert len({a, b}) == 2
        assert {a: 1}[a] == 1

    def test_copies(self):
        x = nano.ones(2, requires_grad=True)
        (x * 2).sum().backward()
        y = copy.deepcopy(x)
        assert y.requires_grad
        assert y.grad.tolist() == [2.0, 2.0]
        with nano.no_grad():
            y[0] = 9.0
        assert x.tolist() == [1.0, 1.0]
        z = pickle.loads(pickle.dumps(x))
        assert z.requires_grad
        assert z.tolist() == [1.0, 1.0]
        with pytest.raises(RuntimeError, match="leaf"):
            copy.deepcopy(x * 2)

    def test_attributes_of_ones_own(self):
        t = nano.ones(1)
        t.note = "mine"
        assert t.note == "mine"


class TestText:
    @pytest.mark.parametrize("dtype", NAMES)
    @pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 2, 2), (1, 0, 2)], ids=str)
    def test_dtypes_and_shapes(self, dtype, shape):
        a = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 5
        ours, theirs = pair(a.astype(np.float64), dtype)
        assert repr(ours) == text_of(theirs)

    @pytest.mark.parametrize(
        "values",
        [
            [1.0, 2.0], [1.5, -2.25], [1e-5, 1.0], [1e10, 1.0], [1e8, 2e8], [0.0, 0.0],
            [float("nan"), 1.0], [float("inf"), -float("inf")], [float("nan")], [1e-8], [123456.0],
            [0.1, 1000.0], [0.001, 1.5], [1.0, float("inf"), 2.5], [-0.0],
            list(range(30)), [i / 7 for i in range(30)], [[i * 0.5 for i in range(20)]] * 3,
        ],
        ids=lambda v: str(v)[:30],
    )  # fmt: skip
    def test_values(self, values):
        ours, theirs = pair(values)
        assert repr(ours) == text_of(theirs)

    @pytest.mark.parametrize("shape", [(1001,), (40, 40), (3, 400), (12, 12, 12), (1, 7, 200)])
    def test_summaries(self, shape):
        a = np.arange(np.prod(shape)).reshape(shape)
        for scaled in (a, a / 10):
            ours, theirs = pair(scaled)
            assert repr(ours) == text_of(theirs)

    def test_history(self):
        ours, theirs = nano.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        assert repr(ours) == text_of(theirs)
        assert repr(ours * 2) == text_of(theirs * 2)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=12)
    )
    def test_any_floats(self, values):
        ours, theirs = pair(values)
        assert repr(ours) == text_of(theirs)

    def test_options(self):
        x = nano.tensor([1.23456, 2.0])
        with nano.printoptions(precision=2):
            assert repr(x) == "tensor([1.23, 2.00])"
        with nano.printoptions(sci_mode=True):
            assert repr(x) == "tensor([1.2346e+00, 2.0000e+00])"
        assert repr(x) == "tensor([1.2346, 2.0000])"
        with pytest.raises(ValueError, match="no option 'width'"):
            nano.set_printoptions(width=3)


def test_what_python_and_pytorch_refuse():
    several, leaf = nano.ones(2), nano.ones(2, requires_grad=True)
    for call, kind in (
        (lambda: float(several), ValueError),
        (lambda: int(several), ValueError),
        (lambda: several.size(1), IndexError),
        (lambda: several.stride(-2), IndexError),
        (lambda: setattr(several, "grad", several), RuntimeError),
        (lambda: setattr(leaf, "data", nano.tensor([1, 2])), RuntimeError),
        (lambda: several.fill_(nano.ones(1)), RuntimeError),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert isinstance(caught.value, nano.errors.NanoError)


def test_fill_with_a_tensor_carries_the_gradient():
    value = nano.tensor(2.0, requires_grad=True)
    nano.zeros(3).fill_(value).sum().backward()
    assert value.grad.item() == 3.0


@pytest.mark.parametrize(
    "run",
    [
        lambda m: m.ones(2)["a"],
        lambda m: m.ones(2).__setitem__("a", 1),
        lambda m: "a" in m.ones(2),
        lambda m: None in m.ones(2),
        lambda m: m.ones(1, requires_grad=True).backward([1.0]),
        lambda m: m.ones(2).fill_("a"),
        lambda m: m.ones(2, dtype=m.int32).masked_fill(m.tensor(True), 2**70),
        lambda m: m.ones(2, dtype=m.int32).fill_(2**70),
    ],
)
def test_errors_are_of_pytorchs_types(run):
    with pytest.raises(Exception) as theirs:
        run(torch)
    with pytest.raises(theirs.type, match=r"^\["):
        run(nano)


class TestContentToken:
    """While it stays, kernels use what they made of the content: it must not stay too long."""

    def make(self, kind):
        if kind == "Parameter":
            return nano.nn.Parameter(nano.ones(2, 3))
        t = nano.ones(2, 3)
        return copy.deepcopy(nano.nn.Parameter(t)) if kind == "copy" else t

    @pytest.mark.parametrize("kind", ["Tensor", "Parameter", "copy"])
    def test_it_stays_while_nobody_writes(self, kind):
        t = self.make(kind)
        token = content_token(t)
        (t * 2).sum()
        assert token is not None
        assert content_token(t) == token

    @pytest.mark.parametrize("kind", ["Tensor", "Parameter", "copy"])
    def test_it_moves_when_the_content_may_have_changed(self, kind):
        t = self.make(kind)
        token = content_token(t)
        writes = [
            lambda: t.zero_(),
            lambda: t.view(-1)[2:].add_(1),
            lambda: t.data.add_(1),
            lambda: t.detach().numpy().fill(3),
            lambda: np.asarray(t.detach()).fill(4),
        ]
        for write in writes:
            with nano.no_grad():
                write()
            before, token = token, content_token(t)
            assert token is not None
            assert token != before

    @pytest.mark.parametrize("kind", ["Tensor", "Parameter", "copy"])
    @pytest.mark.parametrize(
        "hold",
        [
            lambda t: t.detach().numpy(),
            lambda t: t.detach().numpy()[1:],
            lambda t: memoryview(t.detach().numpy()),
            lambda t: t.data,
            lambda t: t.data.view(-1),
            lambda t: t.detach().T,
        ],
    )
    def test_there_is_none_while_somebody_holds_the_memory(self, kind, hold):
        t = self.make(kind)
        held = hold(t)
        assert content_token(t) is None
        del held
        assert content_token(t) is not None

    def test_there_is_none_for_the_memory_of_others(self):
        array = np.ones(3, np.float32)
        t = nano.from_numpy(array)
        assert content_token(t) is None
        assert content_token(nano.nn.Parameter(t)) is None
        raw = bytearray(8)
        assert content_token(wrap(np.frombuffer(raw, np.float32))) is None

    def test_other_data_has_another_one(self):
        p = nano.nn.Parameter(nano.ones(2))
        before = content_token(p)
        p.data = nano.zeros(2)
        assert content_token(p) != before

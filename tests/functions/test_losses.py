"""Losses against PyTorch."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st

import nano
import nano.nn.functional as F

from .harness import Case, operator_tests

WIDE = ("float64", "float32")
REDUCTIONS = ("mean", "sum", "none")


def loss(name, arrays, *, title="", dtypes=WIDE, weights=None, grad=True, **extra):
    """A case for each reduction; the arrays are the positional arguments.

    ``weights`` gives the shapes of weights by name. They are constants: PyTorch has no
    derivative for them either.
    """
    rng = np.random.default_rng(7)
    drawn = {n: rng.uniform(0.5, 2.0, shape) for n, shape in (weights or {}).items()}

    def case(reduction):
        def call(m, *tensors):
            named = {n: m.tensor(w).to(tensors[0].dtype) for n, w in drawn.items()}
            function = getattr(m.nn.functional, name)
            return function(*tensors, reduction=reduction, **named, **extra)

        title_ = f"{name} {title} {reduction}"
        return Case(title_, call, arrays=arrays, dtypes=dtypes, grad=grad)

    return [case(r) for r in REDUCTIONS]


def normal(*shapes):
    return lambda rng: [rng.normal(size=s) for s in shapes]


def probabilities(*shapes):
    return lambda rng: [rng.uniform(0.05, 0.95, s) for s in shapes]


def labelled(shape, ignored=None, dtype=np.int64):
    """Logits of ``shape`` and labels; every other one is ``ignored``, if that is given."""

    def draw(rng):
        target_shape = shape[:1] + shape[2:] if len(shape) > 1 else ()
        classes = shape[1] if len(shape) > 1 else shape[0]
        target = np.asarray(rng.integers(0, classes, target_shape)).astype(dtype)
        if ignored is not None:
            target.reshape(-1)[::2] = ignored
        return [rng.normal(size=shape), target]

    return draw


def soft(shape):
    def draw(rng):
        e = np.exp(rng.normal(size=shape))
        return [rng.normal(size=shape), e / e.sum(1, keepdims=True)]

    return draw


CASES = [
    *loss("mse_loss", normal((3, 4), (3, 4)), dtypes=(*WIDE, "float16", "bfloat16")),
    *loss("mse_loss", normal((), ()), title="0-d"),
    *loss("mse_loss", normal((0, 3), (0, 3)), title="empty", grad=False),
    *loss("l1_loss", normal((3, 4), (3, 4))),
    *loss("l1_loss", normal((), ()), title="0-d"),
    *loss("binary_cross_entropy", probabilities((3, 4), (3, 4))),
    *loss("binary_cross_entropy", probabilities((), ()), title="0-d"),
    *loss(
        "binary_cross_entropy",
        probabilities((3, 4), (3, 4)),
        title="weight",
        weights={"weight": (4,)},
    ),
    *loss("binary_cross_entropy_with_logits", normal((3, 4), (3, 4))),
    *loss("binary_cross_entropy_with_logits", normal((), ()), title="0-d"),
    *loss(
        "binary_cross_entropy_with_logits",
        probabilities((3, 4), (3, 4)),
        title="weights",
        weights={"weight": (3, 1), "pos_weight": (4,)},
    ),
    *itertools.chain.from_iterable(
        [
            *loss(name, labelled((5, 3)), dtypes=(*WIDE, "float16", "bfloat16")),
            *loss(name, labelled((5, 3), dtype=np.uint8), title="uint8"),
            *loss(name, labelled((3,)), title="one sample"),
            *loss(name, labelled((2, 3, 4, 5)), title="4-d"),
            *loss(name, labelled((2, 3, 4)), title="3-d weight", weights={"weight": (3,)}),
            *loss(name, labelled((5, 3)), title="weight", weights={"weight": (3,)}),
            *loss(name, labelled((5, 3), ignored=-100), title="ignored"),
            *loss(
                name,
                labelled((5, 3), ignored=1),
                title="ignored class weight",
                weights={"weight": (3,)},
                ignore_index=1,
            ),
        ]
        for name in ("nll_loss", "cross_entropy")
    ),
    *loss("cross_entropy", labelled((5, 3)), title="smooth", label_smoothing=0.1),
    *loss(
        "cross_entropy",
        labelled((2, 3, 4), ignored=2),
        title="smooth weight ignored",
        weights={"weight": (3,)},
        label_smoothing=0.3,
        ignore_index=2,
    ),
    *loss("cross_entropy", labelled((3,)), title="smooth one", label_smoothing=0.1),
    *loss("cross_entropy", soft((4, 3)), title="soft"),
    *loss("cross_entropy", soft((2, 3, 4)), title="soft 3-d"),
    *loss("cross_entropy", normal((3,), (3,)), title="soft one"),
    *loss(
        "cross_entropy",
        soft((2, 3, 4)),
        title="soft smooth weight",
        weights={"weight": (3,)},
        label_smoothing=0.2,
    ),
]

TestLosses = operator_tests(CASES)


def both(call):
    """The result of ``call`` for nano and for PyTorch, as arrays."""
    return [np.asarray(call(m).detach().numpy()) for m in (nano, torch)]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_all_labels_ignored(reduction, smoothing):
    ours_in, theirs_in = nano.ones(3, 4, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    ours = F.cross_entropy(ours_in, nano.tensor([-100] * 3), **options)
    theirs = TF.cross_entropy(theirs_in, torch.tensor([-100] * 3), **options)
    np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
    ours.sum().backward()
    theirs.sum().backward()
    np.testing.assert_array_equal(ours_in.grad.numpy(), theirs_in.grad.numpy())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_empty_batch(reduction, smoothing):
    ours, theirs = both(
        lambda m: m.nn.functional.cross_entropy(
            m.zeros(0, 4),
            m.zeros(0, dtype=m.int64),
            reduction=reduction,
            label_smoothing=smoothing,
        )
    )
    np.testing.assert_array_equal(ours, theirs)


def test_ignored_positions_may_hold_anything():
    bad = [[float("-inf"), float("nan")], [-0.5, -1.0]]
    ours, theirs = both(
        lambda m: m.nn.functional.nll_loss(m.tensor(bad), m.tensor([-100, 0]), reduction="sum")
    )
    assert ours == theirs == np.float32(0.5)


def test_large_logits_do_not_overflow():
    logits = [[1000.0, -1000.0], [-1e30, 1e30]]
    for target in ([0, 1], [1, 0]):
        ours, theirs = both(
            lambda m, target=target: m.nn.functional.cross_entropy(
                m.tensor(logits), m.tensor(target), reduction="none"
            )
        )
        np.testing.assert_allclose(ours, theirs)
    ours, theirs = both(
        lambda m: m.nn.functional.binary_cross_entropy_with_logits(
            m.tensor([1e4, -1e4, 0.0, 90.0]), m.tensor([0.0, 1.0, 0.5, 1.0]), reduction="none"
        )
    )
    # The last is a denormal number, which PyTorch takes as 0 after some of its operators ran.
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=float(np.finfo(np.float32).tiny))


def test_logarithms_are_clamped_at_minus_100():
    values, targets = [0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]
    grads = []
    for m in (nano, torch):
        x = m.tensor(values, requires_grad=True)
        losses = m.nn.functional.binary_cross_entropy(x, m.tensor(targets), reduction="none")
        losses.sum().backward()
        grads.append((losses.detach().numpy(), x.grad.numpy()))
    np.testing.assert_array_equal(grads[0][0], [100.0, 100.0, 0.0, 0.0])
    for ours, theirs in zip(*grads, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss"])
def test_broadcasting_warns_as_in_pytorch(name):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4)).astype("f"), rng.normal(size=(1, 4)).astype("f")
    grads = []
    for m in (nano, torch):
        x, y = m.tensor(a, requires_grad=True), m.tensor(b, requires_grad=True)
        with pytest.warns(UserWarning, match=r"(?i)using a target size"):
            value = getattr(m.nn.functional, name)(x, y)
        value.backward()
        grads.append([value.detach().numpy(), x.grad.numpy(), y.grad.numpy()])
    for ours, theirs in zip(*grads, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    with (
        pytest.warns(UserWarning, match="target size"),
        pytest.raises(RuntimeError, match=rf"\[{name}\] input \(3, 4\) and target \(2, 4\)"),
    ):
        getattr(F, name)(nano.ones(3, 4), nano.ones(2, 4))


@pytest.mark.parametrize(
    ("ours", "theirs"), [("float32", "float64"), ("float32", "int64"), ("float16", "float32")]
)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss"])
def test_mixed_dtypes(name, ours, theirs):
    result = getattr(F, name)(
        nano.ones(2, dtype=getattr(nano, ours)), nano.ones(2, dtype=getattr(nano, theirs))
    )
    expected = getattr(TF, name)(
        torch.ones(2, dtype=getattr(torch, ours)), torch.ones(2, dtype=getattr(torch, theirs))
    )
    assert str(result.dtype).split(".")[1] == str(expected.dtype).split(".")[1]


X, Y = [[0.1, 0.2, 0.3, 0.4]] * 3, [0, 1, 2]
REFUSED = [
    ("nll_loss", lambda m: (m.tensor(X), m.tensor(Y, dtype=m.int32)), {}),
    ("nll_loss", lambda m: (m.tensor(X), m.tensor([0.0, 1.0, 2.0])), {}),
    ("nll_loss", lambda m: (m.tensor(X), m.tensor([0, 1])), {}),
    ("nll_loss", lambda m: (m.tensor(X), m.tensor([0, 1, 4])), {}),
    ("nll_loss", lambda m: (m.tensor(X), m.tensor([0, -1, 3])), {}),
    ("nll_loss", lambda m: (m.tensor(1.0), m.tensor(0)), {}),
    ("nll_loss", lambda m: (m.zeros(3, 4, 5), m.zeros(3, 6, dtype=m.int64)), {}),
    ("nll_loss", lambda m: (m.tensor(X), m.tensor(Y), m.ones(3)), {}),
    ("nll_loss", lambda m: (m.tensor(X), m.tensor(Y), m.ones(4, dtype=m.float64)), {}),
    ("nll_loss", lambda m: (m.tensor(X), m.tensor(Y), m.ones(4, requires_grad=True)), {}),
    ("nll_loss", lambda m: (m.tensor(X), m.tensor(Y)), {"reduction": "none of these"}),
    ("cross_entropy", lambda m: (m.tensor(X), m.tensor([0, 1, 4])), {}),
    ("cross_entropy", lambda m: (m.tensor(X), m.tensor([0, 1, 4])), {"label_smoothing": 0.1}),
    ("cross_entropy", lambda m: (m.tensor(X), m.tensor([0, 1])), {}),
    ("cross_entropy", lambda m: (m.tensor(X), m.zeros(3, 4, dtype=m.int64)), {}),
    ("cross_entropy", lambda m: (m.tensor(X), m.tensor(X)), {"ignore_index": 0}),
    ("cross_entropy", lambda m: (m.tensor(X), m.tensor(Y)), {"label_smoothing": 1.5}),
    ("mse_loss", lambda m: (m.tensor([1]), m.tensor([1])), {}),
    ("mse_loss", lambda m: (m.tensor(X), m.tensor(X)), {"reduction": "avg"}),
    ("binary_cross_entropy", lambda m: (m.tensor([1.5]), m.tensor([1.0])), {}),
    ("binary_cross_entropy", lambda m: (m.tensor([float("nan")]), m.tensor([1.0])), {}),
    ("binary_cross_entropy", lambda m: (m.tensor([0.5]), m.tensor([-1.0])), {}),
    ("binary_cross_entropy", lambda m: (m.tensor([0.5]), m.tensor(1.0)), {}),
    ("binary_cross_entropy", lambda m: (m.tensor([0.5]), m.tensor([1])), {}),
    ("binary_cross_entropy", lambda m: (m.tensor(X), m.tensor(X), m.ones(3)), {}),
    ("binary_cross_entropy_with_logits", lambda m: (m.tensor(X), m.tensor(X[0])), {}),
    ("binary_cross_entropy_with_logits", lambda m: (m.tensor(X), m.tensor(X), m.ones(3)), {}),
    ("binary_cross_entropy_with_logits", lambda m: (m.tensor([1.0]), m.tensor([1])), {}),
]


@pytest.mark.parametrize(("name", "arguments", "options"), REFUSED)
def test_refused_with_the_type_that_pytorch_raises(name, arguments, options):
    with pytest.raises(Exception) as theirs:
        getattr(TF, name)(*arguments(torch), **options)
    builtin = next(
        t for t in (IndexError, ValueError, TypeError, RuntimeError) if isinstance(theirs.value, t)
    )
    with pytest.raises(builtin) as ours:
        getattr(F, name)(*arguments(nano), **options)
    assert isinstance(ours.value, nano.errors.NanoError)


def test_a_wrong_label_is_named():
    with pytest.raises(IndexError, match=r"target 4 is out of bounds: there are 4 classes"):
        F.cross_entropy(nano.tensor(X), nano.tensor([0, 1, 4]))
    with pytest.raises(IndexError, match="target -1 is out of bounds"):
        F.cross_entropy(nano.tensor(X), nano.tensor([0, 1, -1]))


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(0, 4),
    classes=st.integers(1, 4),
    more=st.lists(st.integers(0, 3), max_size=2),
    reduction=st.sampled_from(REDUCTIONS),
    weighted=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 1000),
)
def test_cross_entropy_of_any_shape(batch, classes, more, reduction, weighted, smoothing, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(batch, classes, *more))
    target = rng.integers(-1, classes, (batch, *more))
    weight = rng.uniform(0.5, 2, classes)
    results = []
    for m in (nano, torch):
        x = m.tensor(logits, requires_grad=True)
        y = m.nn.functional.cross_entropy(
            x,
            m.tensor(target),
            m.tensor(weight) if weighted else None,
            ignore_index=-1,
            reduction=reduction,
            label_smoothing=smoothing,
        )
        y.sum().backward()
        results.append((y.detach().numpy(), x.grad.numpy()))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)

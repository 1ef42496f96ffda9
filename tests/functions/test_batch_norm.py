"""Batch normalisation against PyTorch; its residual and activation against separate operators."""

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import nano
import nano.nn.functional as F

from .harness import WIDE, Case, operator_tests, to_array, to_nano

PARAMETERS = [(3,), (3,)]
IMAGES = [(2, 3, 2, 4), *PARAMETERS]


def train(m, x, weight=None, bias=None, **options):
    return m.nn.functional.batch_norm(x, None, None, weight, bias, training=True, **options)


def infer(m, x, weight=None, bias=None):
    mean = m.tensor([0.5, -1.0, 2.0], dtype=getattr(m, str(x.dtype).split(".")[1]))
    return m.nn.functional.batch_norm(x, mean, mean.abs() + 1, weight, bias)


def composed(m, x, weight, bias, residual, activation="relu", training=True):
    """act(norm(x) + residual): in one call in nano, of three operators in PyTorch."""
    mean, var = (None, None) if training else (m.zeros_like(bias).detach(), m.ones_like(bias))
    if m is torch:
        y = TF.batch_norm(x, mean, var, weight, bias, training)
        y = y if residual is None else y + residual
        return y.relu() if activation else y
    return F.batch_norm(
        *(x, mean, var, weight, bias, training), residual=residual, activation=activation
    )


CASES = [
    Case("images", train, shapes=IMAGES),
    Case("rows", train, shapes=[(5, 3), *PARAMETERS]),
    Case("sequences", train, shapes=[(4, 3, 2), *PARAMETERS]),
    Case("no parameters", train, shapes=[(4, 3, 2)]),
    Case("no bias", train, shapes=[(4, 3, 2), (3,)]),
    Case("no weight", lambda m, x, b: train(m, x, None, b), shapes=[(4, 3, 2), (3,)]),
    Case("large eps", lambda m, *t: train(m, *t, eps=0.5), shapes=IMAGES),
    Case("inference", infer, shapes=IMAGES),
    Case("inference no parameters", infer, shapes=[(2, 3)]),
    # 16-bit floats are left out: PyTorch rounds after each of its operators.
    Case("residual and relu", composed, shapes=[*IMAGES, IMAGES[0]], dtypes=WIDE),
    Case("relu", lambda m, *t: composed(m, *t, None), shapes=IMAGES, dtypes=WIDE),
    Case(
        "residual",
        lambda m, *t: composed(m, *t, activation=None),
        shapes=[*IMAGES, IMAGES[0]],
        dtypes=WIDE,
    ),
    Case(
        "inference residual and relu",
        lambda m, *t: composed(m, *t, training=False),
        shapes=[*IMAGES, IMAGES[0]],
        dtypes=WIDE,
    ),
    *[
        Case(f"empty {shape}", train, shapes=[shape], gradgrad=False)
        for shape in ((0, 3), (2, 3, 0), (2, 0, 3))
    ],
]

TestBatchNorm = operator_tests(CASES)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_running_statistics(dtype):
    data = np.random.default_rng(0).normal(2, 3, (4, 3, 5)).astype("float32")
    results = []
    for m in (nano, torch):
        d = getattr(m, dtype)
        mean, var = m.zeros(3, dtype=d), m.ones(3, dtype=d)
        x = m.tensor(data).to(d)
        for momentum in (0.1, 0.25, 1, 0.0):
            m.nn.functional.batch_norm(x, mean, var, training=True, momentum=momentum)
        results.append((to_array(mean), to_array(var), mean._version))
    (mean, var, version), (mean2, var2, _) = results
    # One rounding of the dtype for each update.
    tolerance = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}[dtype]
    np.testing.assert_allclose(mean, mean2, rtol=tolerance)
    np.testing.assert_allclose(var, var2, rtol=tolerance)
    assert version == 4


def test_running_statistics_of_nothing_stay():
    mean, var = nano.zeros(3), nano.ones(3)
    assert F.batch_norm(nano.ones(0, 3), mean, var, training=True).shape == (0, 3)
    assert mean.tolist() == [0.0] * 3
    assert var.tolist() == [1.0] * 3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_float32_parameters_with_16_bit_input(dtype, training):
    rng = np.random.default_rng(0)
    data = rng.normal(1, 2, (4, 3, 5)).astype("float32")
    scale = rng.uniform(0.5, 2, 3).astype("float32")
    results = []
    for m in (nano, torch):
        x = m.tensor(data).to(getattr(m, dtype)).requires_grad_()
        mean, var = m.zeros(3), m.ones(3)
        w, b = m.tensor(scale, requires_grad=True), m.tensor(scale, requires_grad=True)
        y = m.nn.functional.batch_norm(x, mean, var, w, b, training)
        (y.float() ** 2).sum().backward()
        results.append((y, x.grad, w.grad, b.grad, mean, var))
    for ours, theirs in zip(*results, strict=True):
        assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
        # The gradient at y is rounded to 16 bits before the sums over 20 elements.
        np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=2e-2, atol=6e-2)


@pytest.mark.parametrize("parameters", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_mixed_dtypes_are_refused_as_in_pytorch(dtype, parameters):
    outcomes = []
    for m in (nano, torch):
        x = m.ones(4, 3, dtype=getattr(m, dtype))
        p = m.ones(3, dtype=getattr(m, parameters))
        try:
            y = m.nn.functional.batch_norm(x, p.clone(), p.clone(), p, p)
        except RuntimeError:
            outcomes.append("refused")
        else:
            outcomes.append(str(y.dtype).split(".")[1])
    assert outcomes[0] == outcomes[1]


def test_parameters_of_two_dtypes_are_refused():
    half, single = nano.ones(3, dtype=nano.bfloat16), nano.ones(3)
    with pytest.raises(RuntimeError, match=r"\[batch_norm\] weight is nano.bfloat16.*float32"):
        F.batch_norm(nano.ones(4, 3, dtype=nano.bfloat16), single, single, half, single)


def _o(m, n=3):
    return m.ones(n)


REFUSALS = {
    "no statistics": lambda m, f: f(m.ones(4, 3), None, None),
    "no variance": lambda m, f: f(m.ones(4, 3), _o(m), None),
    "one of two": lambda m, f: f(m.ones(4, 3), _o(m), None, training=True),
    "one value": lambda m, f: f(m.ones(1, 3, 1, 1), None, None, training=True),
    "one row": lambda m, f: f(m.ones(1, 3), None, None, training=True),
    "1-d": lambda m, f: f(m.ones(3), _o(m), _o(m)),
    "0-d": lambda m, f: f(m.tensor(1.0), _o(m), _o(m)),
    "integers": lambda m, f: f(m.ones(4, 3).long(), _o(m), _o(m)),
    "weight": lambda m, f: f(m.ones(4, 3), _o(m), _o(m), _o(m, 2)),
    "bias": lambda m, f: f(m.ones(4, 3), _o(m), _o(m), None, _o(m, 2)),
    "running_mean": lambda m, f: f(m.ones(4, 3), _o(m, 2), _o(m)),
    "requires grad": lambda m, f: f(m.ones(4, 3), _o(m).requires_grad_(), _o(m)),
    "momentum": lambda m, f: f(m.ones(4, 3), _o(m), _o(m), training=True, momentum=None),
    "eps": lambda m, f: f(m.ones(4, 3), _o(m), _o(m), training=True, eps=0.0),
    "no tensor": lambda m, f: f([[1.0]], _o(m), _o(m)),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_as_in_pytorch(name):
    with pytest.raises(Exception) as theirs:
        REFUSALS[name](torch, TF.batch_norm)
    # nano's errors are subclasses of PyTorch's; no numbers have been changed.
    with pytest.raises(theirs.type, match=r"\[batch_norm\]"):
        REFUSALS[name](nano, F.batch_norm)


def test_a_refused_call_changes_no_statistics():
    mean, var = nano.zeros(3), nano.ones(3)
    with pytest.raises(ValueError, match="expected more than 1 value per channel"):
        F.batch_norm(nano.ones(1, 3), mean, var, training=True)
    assert (mean._version, var._version) == (0, 0)


def test_residual_and_activation_are_checked():
    x = nano.ones(4, 3)
    with pytest.raises(ValueError, match='activation must be None or "relu"'):
        train(nano, x, activation="tanh")
    with pytest.raises(RuntimeError, match="residual must have the input's shape"):
        train(nano, x, residual=nano.ones(3))


@pytest.mark.parametrize("training", [True, False])
def test_images_stay_channels_last(training):
    memory = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("float32")
    x = nano.from_numpy(memory.transpose(0, 3, 1, 2)).requires_grad_()
    y = F.batch_norm(x, nano.zeros(3), nano.ones(3), training=training, activation="relu")
    assert y.stride() == x.stride() == (60, 1, 15, 3)
    y.sum().backward()
    (dx,) = nano.autograd.grad(
        F.batch_norm(x, nano.zeros(3), nano.ones(3), training=training).sum(), x
    )
    assert dx.stride() == x.stride()


def test_statistics_changed_before_backward_are_noticed():
    x = nano.ones(4, 3, requires_grad=True)
    mean, var = nano.zeros(3), nano.ones(3)
    y = F.batch_norm(x, mean, var)
    mean.add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_nan_spreads_through_the_activation():
    x = np.ones((3, 2), "float32")
    x[0, 0] = np.nan
    y = train(nano, nano.tensor(x), activation="relu")
    assert np.isnan(y.numpy()[:, 0]).all()
    assert not np.isnan(y.numpy()[:, 1]).any()


def test_third_derivative():
    # Beside elementary operators: the second derivative of PyTorch's batch_norm takes the
    # statistics for constants, so that its third is wrong.
    x = np.random.default_rng(0).normal(size=(4, 2))

    def elementary(t):
        return (t - t.mean(0)) / (t.var(0, correction=0) + 1e-5).sqrt()

    results = []
    for m, norm in ((nano, lambda t: train(nano, t)), (torch, elementary)):
        t = m.tensor(x, requires_grad=True)
        y = (norm(t) ** 3).sum()
        for _ in range(3):
            (g,) = m.autograd.grad(y, t, create_graph=True)
            y = (g * g).sum()
        results.append(to_array(g))
    ours, theirs = results
    # Squares of squares: rounding errors are large beside the small elements.
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())


def test_one_tensor_as_input_and_residual():
    x = to_nano(np.random.default_rng(0).normal(size=(4, 3)), "float64", True)
    assert nano.autograd.gradgradcheck(
        lambda t: F.batch_norm(t, None, None, training=True, residual=t, activation="relu"), [x]
    )

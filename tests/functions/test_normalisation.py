"""Layer, group, instance and root-mean-square normalisation against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import nano
import nano.nn.functional as F

from .harness import Case, operator_tests, to_array


def layer(m, x, weight=None, bias=None, **options):
    shape = (3, 4) if x.ndim > 2 else (x.shape[-1],)
    return m.nn.functional.layer_norm(x, shape, weight, bias, **options)


def group(m, x, *parameters):
    return m.nn.functional.group_norm(x, 2, *parameters)


def rms(m, x, *weight, **options):
    return m.nn.functional.rms_norm(x, x.shape[-1:], *weight, **options)


def instance(m, x, weight=None, bias=None):
    return m.nn.functional.instance_norm(x, None, None, weight, bias)


def instance_by_running(m, x):
    mean = m.tensor([0.5, -1.0, 2.0], dtype=getattr(m, str(x.dtype).split(".")[1]))
    return m.nn.functional.instance_norm(x, mean, mean.abs() + 1, use_input_stats=False)


CASES = [
    Case("layer", layer, shapes=[(2, 4), (4,), (4,)]),
    Case("layer two dims", layer, shapes=[(2, 3, 4), (3, 4), (3, 4)]),
    Case("layer four dims", layer, shapes=[(2, 2, 3, 4), (3, 4), (3, 4)]),
    Case("layer one sample", layer, shapes=[(4,), (4,), (4,)]),
    Case("layer alone", layer, shapes=[(3, 4)]),
    Case("layer no bias", layer, shapes=[(3, 4), (4,)]),
    Case("layer no weight", lambda m, x, b: layer(m, x, None, b), shapes=[(3, 4), (4,)]),
    Case("layer no weight, one", lambda m, x, b: layer(m, x, None, b), shapes=[(4,), (4,)]),
    Case("layer large eps", lambda m, *t: layer(m, *t, eps=0.5), shapes=[(3, 4)]),
    Case("layer no samples", layer, shapes=[(0, 4), (4,), (4,)], gradgrad=False),
    Case("layer no elements", layer, shapes=[(2, 0), (0,), (0,)], gradgrad=False),
    Case("group", group, shapes=[(2, 4, 3), (4,), (4,)]),
    Case("group images", group, shapes=[(2, 4, 2, 3), (4,), (4,)]),
    Case("group rows", group, shapes=[(3, 4), (4,)]),
    Case("group no samples", group, shapes=[(0, 4, 3), (4,)], gradgrad=False),
    Case("rms", rms, shapes=[(2, 4), (4,)]),
    Case("rms alone", rms, shapes=[(2, 3, 4)]),
    Case("rms eps", lambda m, *t: rms(m, *t, eps=0.5), shapes=[(2, 4)]),
    Case("instance", instance, shapes=[(2, 3, 4), (3,), (3,)]),
    Case("instance images", instance, shapes=[(2, 3, 2, 3)]),
    Case("instance by running", instance_by_running, shapes=[(2, 3, 4)]),
]

TestNormalisation = operator_tests(CASES)


@pytest.mark.parametrize("use_input_stats", [True, False])
def test_running_statistics_of_instances(use_input_stats):
    data = np.random.default_rng(0).normal(2, 3, (4, 3, 5)).astype("float32")
    results = []
    for m in (nano, torch):
        mean, var = m.zeros(3), m.ones(3)
        for _ in range(2):
            y = m.nn.functional.instance_norm(
                m.tensor(data), mean, var, use_input_stats=use_input_stats, momentum=0.3
            )
        results.append((y, mean, var))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["layer", "group"])
def test_float32_parameters_with_16_bit_input(dtype, kind):
    data = np.random.default_rng(0).normal(1, 2, (3, 4)).astype("float32")
    results = []
    for m in (nano, torch):
        x = m.tensor(data).to(getattr(m, dtype)).requires_grad_()
        w, b = m.tensor([0.5, 1.0, 2.0, 3.0], requires_grad=True), m.ones(4, requires_grad=True)
        y = layer(m, x, w, b) if kind == "layer" else group(m, x, w, b)
        (y.float() ** 2).sum().backward()
        results.append((y, x.grad, w.grad, b.grad))
    for ours, theirs in zip(*results, strict=True):
        assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
        # The gradient at y is rounded to 16 bits before the sums.
        np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=2e-2, atol=6e-2)


@pytest.mark.parametrize("kind", ["layer", "group"])
@pytest.mark.parametrize("parameters", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_mixed_dtypes_are_refused_as_in_pytorch(dtype, parameters, kind):
    outcomes = []
    for m in (nano, torch):
        x = m.ones(3, 4, dtype=getattr(m, dtype))
        p = m.ones(4, dtype=getattr(m, parameters))
        try:
            y = layer(m, x, p, p) if kind == "layer" else group(m, x, p, p)
        except RuntimeError:
            outcomes.append("refused")
        else:
            outcomes.append(str(y.dtype).split(".")[1])
    assert outcomes[0] == outcomes[1]


def test_rms_norm_promotes_the_weight_as_pytorch():
    # PyTorch's result has the input's dtype, whatever the weight's; it warns of it.
    for a, b in (("bfloat16", "float32"), ("float32", "bfloat16")):
        x, w = nano.ones(2, dtype=getattr(nano, a)), nano.ones(2, dtype=getattr(nano, b))
        assert str(rms(nano, x, w).dtype) == f"nano.{a}"


REFUSALS = {
    "layer_norm": [
        lambda m, f: f(m.ones(2, 4), (3,)),
        lambda m, f: f(m.ones(2, 4), (2, 2, 4)),
        lambda m, f: f(m.ones(2, 4), ()),
        lambda m, f: f(m.ones(2, 4), 4),
        lambda m, f: f(m.ones(2, 4), (2, 4), m.ones(4)),
        lambda m, f: f(m.ones(2, 4), (2, 4), None, m.ones(4)),
        lambda m, f: f(m.ones(2, 4).long(), (4,)),
        lambda m, f: f([[1.0]], (1,)),
    ],
    "group_norm": [
        lambda m, f: f(m.ones(2, 4), 3),
        lambda m, f: f(m.ones(4), 2),
        lambda m, f: f(m.ones(1, 4), 4),
        lambda m, f: f(m.ones(2, 4), 2, m.ones(3)),
        lambda m, f: f(m.ones(2, 4), 2, None, m.ones(3)),
        lambda m, f: f(m.ones(2, 4).long(), 2),
    ],
    "instance_norm": [
        lambda m, f: f(m.ones(2, 3)),
        lambda m, f: f(m.ones(2, 3, 1, 1)),
        lambda m, f: f(m.ones(2, 3, 4), use_input_stats=False),
        lambda m, f: f(m.ones(2, 3, 4), m.ones(2), m.ones(2)),
    ],
    "rms_norm": [
        lambda m, f: f(m.ones(2, 4), (3,)),
        lambda m, f: f(m.ones(2, 4), (4,), m.ones(3)),
        lambda m, f: f(m.ones(2, 4).long(), (4,)),
    ],
}


@pytest.mark.parametrize(
    ("name", "number"), [(n, i) for n, calls in REFUSALS.items() for i in range(len(calls))]
)
def test_refusals_as_in_pytorch(name, number):
    call = REFUSALS[name][number]
    with pytest.raises(Exception) as theirs:
        call(torch, getattr(TF, name))
    with pytest.raises(theirs.type, match=rf"\[{name}\]"):
        call(nano, getattr(F, name))

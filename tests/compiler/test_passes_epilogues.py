"""What is joined to a product, what must not be, and that the numbers stay."""

import numpy as np
import pytest

import nano
from nano import nn
from nano.backends import is_available
from nano.compiler.epilogues import epilogues, fold_batch_norm
from nano.compiler.program import Program
from nano.nn import functional as F

from .both import REORDERED, check, normal
from .test_passes import graph_of, names

pytestmark = pytest.mark.skipif(not is_available("onednn"), reason="needs oneDNN")

#: A program for each of two runs is all that a function is watched for.
_STEPS = 5


def conv(channels_in=8, channels_out=16, bias=True, stride=1):
    layer = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=bias)
    return layer


def images(i=0, channels=8):
    return normal(4, channels, 12, 12, seed=i).to(memory_format=nano.channels_last)


def joined(function, *tensors):
    """The names of a graph's nodes after both passes, and its result."""
    with nano.no_grad():
        graph = graph_of(function, *tensors)
        fold_batch_norm(graph)
        graph.check()
        epilogues(graph)
        graph.check()
        expected = function(*tensors)
        got = Program(graph, "f").run(*tensors)
    for a, b in zip(*[x if isinstance(x, tuple) else (x,) for x in (got, expected)], strict=True):
        assert a._data.strides == b._data.strides
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=REORDERED, atol=REORDERED)
    return names(graph)


def trained(norm):
    """A normalisation whose statistics and parameters are not those it was made with."""
    for i, t in enumerate((norm.running_mean, norm.running_var, norm.weight, norm.bias)):
        drawn = np.random.default_rng(i).random(t.shape, np.float32)
        with nano.no_grad():
            t.copy_(nano.from_numpy(drawn + 0.5))
    return norm.eval()


# Activations and additions ------------------------------------------------------------------


@pytest.mark.parametrize(
    "activation",
    [
        *(nano.relu, nano.tanh, nano.sigmoid, F.silu, F.gelu),
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: F.leaky_relu(x, 0.2),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_activations(activation, bias):
    layer = conv(bias=bias)
    assert joined(lambda x: activation(layer(x)), images()) == ["Conv2dEpilogue"]
    wide = nn.Linear(128, 160, bias=bias)
    assert joined(lambda x: activation(wide(x)), normal(256, 128)) == ["MatMulEpilogue"]


def test_a_residual_and_an_activation():
    layer = conv(8, 8)
    for function in (lambda x: nano.relu(layer(x) + x), lambda x: nano.relu(x + layer(x))):
        assert joined(function, images()) == ["Conv2dEpilogue"]


def test_a_residual_that_is_made_later():
    first, second = conv(), conv()

    def function(x):
        y = first(x)
        return nano.relu(y + second(x).exp())

    assert joined(function, images()) == ["Conv2d", "Exp", "Conv2dEpilogue"]


def test_the_sum_of_two_convolutions():
    first, second = conv(), conv()
    found = joined(lambda x: nano.relu(first(x) + second(x)), images())
    assert sorted(found) == ["Conv2d", "Conv2dEpilogue"]


def test_an_activation_ends_it():
    layer = conv(8, 8)
    assert joined(lambda x: nano.relu(layer(x)) + x, images()) == ["Conv2dEpilogue", "Add"]


def test_products_with_a_bias():
    weight, bias = normal(128, 160, seed=1), normal(160, seed=2)
    assert joined(lambda x: nano.relu(x @ weight + bias), normal(256, 128)) == ["MatMulEpilogue"]
    # What is added along the rows is no bias.
    column = normal(256, 1, seed=3)
    assert joined(lambda x: x @ weight + column, normal(256, 128)) == ["MatMul", "Add"]


def test_batches():
    layer = nn.Linear(64, 96)
    assert joined(lambda x: F.gelu(layer(x)), normal(4, 128, 64)) == ["MatMulEpilogue"]
    y = normal(4, 96, 96, seed=1)
    assert joined(lambda x: nano.relu(x @ y), normal(4, 96, 96)) == ["MatMulEpilogue"]


def test_bfloat16():
    layer = nn.Linear(128, 160).to(nano.bfloat16)
    x = normal(256, 128).to(nano.bfloat16)
    with nano.no_grad():
        graph = graph_of(lambda x: nano.relu(layer(x)), x)
        epilogues(graph)
        # Rounded once in both: a ReLU rounds nothing.
        assert (Program(graph, "f").run(x) == nano.relu(layer(x))).all()
    assert names(graph) == ["MatMulEpilogue"]


# What is left -------------------------------------------------------------------------------


def test_results_that_others_read_are_left():
    layer = conv()
    assert joined(lambda x: (nano.relu(y := layer(x)), y), images()) == ["Conv2d", "Relu"]

    def sliced(x):
        y = layer(x)
        return nano.relu(y), y[0].sum()

    assert "Conv2dEpilogue" not in joined(sliced, images())


def test_what_is_written_is_left():
    layer = conv()

    def function(x):
        y = layer(x)
        y[0].mul_(2)
        return nano.relu(y)

    assert "Conv2dEpilogue" not in joined(function, images())


def test_an_operand_that_changes_between():
    layer, kept = conv(8, 8), images(1)

    def function(x):
        y = layer(kept)
        kept.copy_(x)
        return nano.relu(y)

    with nano.no_grad():
        graph = graph_of(function, images())
        epilogues(graph)
    assert "Conv2dEpilogue" not in names(graph)


def test_small_products_and_float64_are_left():
    layer = nn.Linear(4, 4)
    assert joined(lambda x: nano.relu(layer(x)), normal(2, 4)) == ["Linear", "Relu"]
    exact = nn.Linear(128, 160).double()
    x = normal(256, 128, dtype=np.float64)
    assert joined(lambda x: nano.relu(exact(x)), x) == ["Linear", "Relu"]


def test_residuals_of_another_shape_are_left():
    layer = conv()
    offset = normal(1, 16, 1, 1)
    assert joined(lambda x: layer(x) + offset, images()) == ["Conv2d", "Add"]


def test_nan_is_seen():
    layer, x = conv(), images()
    x[0, 0, 0, 0] = float("nan")
    compiled = nano.compile(lambda x: nano.relu(layer(x)), without="native")
    with nano.no_grad():
        results = [compiled(x) for _ in range(3)]
    assert "Conv2dEpilogue" in compiled.source()
    assert np.array_equal(np.isnan(results[2].numpy()), np.isnan(results[0].numpy()))


# Batch normalisation ------------------------------------------------------------------------


def _scale(bias, affine):
    """The operators that make scale and bias."""
    first = ["Add", "Rsqrt", *["Mul"] * affine, *["Sub"] * bias]
    return [*first, "Mul", "Sub" if affine else "Neg"]


def test_scales_come_first_and_become_one_function():
    layers = [conv(8, 8), conv(8, 8)]
    norms = [trained(nn.BatchNorm2d(8)) for _ in layers]

    def function(x):
        for layer, norm in zip(layers, norms, strict=True):
            x = norm(layer(x), activation="relu")
        return x

    found = joined(function, images())
    assert found == [*_scale(True, True) * 2, "Conv2dEpilogue", "Conv2dEpilogue"]


def test_statistics_that_change_first():
    layer, norm = conv(8, 8), trained(nn.BatchNorm2d(8))

    def function(x):
        norm.running_mean.add_(1)
        return norm(layer(x)), norm(x)

    with nano.no_grad():
        graph = graph_of(function, images())
        fold_batch_norm(graph)
    assert "BatchNormInference" in names(graph)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_folded(bias, affine):
    layer, norm = conv(bias=bias), nn.BatchNorm2d(16, affine=affine).eval()
    if affine:
        trained(norm)
    residual = images(5, 16)
    for function in (
        lambda x: norm(layer(x)),
        lambda x: nano.relu(norm(layer(x))),
        lambda x: nano.relu(norm(layer(x)) + residual),
        lambda x: norm(layer(x), residual=residual, activation="relu"),
    ):
        assert joined(function, images()) == [*_scale(bias, affine), "Conv2dEpilogue"]


def test_batch_norm_after_a_linear_layer():
    layer, norm = nn.Linear(128, 160), trained(nn.BatchNorm1d(160))
    found = joined(lambda x: nano.relu(norm(layer(x))), normal(256, 128))
    assert found == [*_scale(True, True), "MatMulEpilogue"]
    # Of (n, length, channels), its channels are not the layer's.
    other = trained(nn.BatchNorm1d(4))
    found = joined(lambda x: other(layer(x)), normal(64, 4, 128))
    assert found == ["Linear", "BatchNormInference"]


def test_batch_norm_in_training_is_left():
    layer, norm = conv(), nn.BatchNorm2d(16)
    assert "BatchNorm" in joined(lambda x: norm(layer(x)) * 1, images())


def test_statistics_and_weights_may_change_between_calls():
    def make():
        model = nn.Sequential(conv(), trained(nn.BatchNorm2d(16)), nn.ReLU()).eval()

        def function(x):
            with nano.no_grad():
                return model(x)

        return function, model

    def between(i, model):
        with nano.no_grad():
            model[0].weight.mul_(1.1)
            model[1].running_mean.add_(0.25 * i)
            model[1].running_var.mul_(1.5)
            model[1].weight.neg_()

    compiled = check(make, lambda i: (images(i),), steps=8, between=between, without="native")
    assert "Conv2dEpilogue" in compiled.source()


def test_a_small_residual_network():
    def make():
        model = nano.models.ResNet([1, 1], [16, 32], 10).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                trained(module)

        def function(x):
            with nano.inference_mode():
                return model(x)

        return function, model

    # Three layers after each other, each with factors up to 1.5.
    compiled = check(
        make, lambda i: (images(i, 3),), steps=_STEPS, tolerance=4 * REORDERED, without="native"
    )
    assert "BatchNormInference" not in compiled.source()
    assert "with batch norm, residual, relu" in str(compiled.report())


# Training -----------------------------------------------------------------------------------


def test_a_relu_in_training():
    """Its derivative reads its result; that of GELU reads what it is of, which must be kept."""

    def make():
        model = nn.Sequential(conv(), nn.ReLU(), conv(16, 16), nn.GELU(), nn.Flatten())
        model.append(nn.Linear(16 * 144, 10))
        optimizer = nano.optim.SGD(model.parameters(), lr=0.05)

        def step(x):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step, (model, optimizer)

    compiled = check(make, lambda i: (images(i),), steps=_STEPS, without="native")
    found = names(compiled.graph())
    assert found.count("Conv2dEpilogue") == 1
    assert found.count("Conv2d") == 1
    assert "ReluBackward" in " ".join(found)


@pytest.mark.parametrize("channels", [16, 64])
def test_the_gradient_of_a_bfloat16_weight_is_not_rounded(channels):
    """Its float32 sums are what the parameter gets, where eager mode rounds them to 8 bits."""

    def make():
        net = nn.Sequential(conv(8, channels), nn.ReLU(), conv(channels, channels), nn.ReLU())

        def step(x):
            net.zero_grad()
            with nano.autocast():
                y = net(x)
            y.float().square().sum().backward()
            return y.detach()

        return step, net

    def scaled(result, net):
        for p in net.parameters():
            p.grad /= p.grad.abs().max()

    # Half of the last of 8 bits, of each number and of the largest, by which all are divided.
    compiled = check(
        make,
        lambda i: (normal(16, 8, 16, 16, seed=i).to(memory_format=nano.channels_last),),
        steps=_STEPS,
        outside=scaled,
        tolerance=2**-8,
        without="native",
    )
    found = names(compiled.graph())
    assert found.count("Conv2dWeightSums") == 2
    assert "Conv2dWeight" not in found
    assert str(compiled.report()).count("with the cast to float32") == 2


def test_a_weight_gradient_in_bfloat16_that_others_read_is_left():
    weight = normal(16, 8, 3, 3).requires_grad_()

    def step(x):
        low = weight.to(nano.bfloat16)
        (grad,) = nano.autograd.grad(F.conv2d(x.to(nano.bfloat16), low).float().sum(), low)
        return grad.float(), grad

    graph = graph_of(step, images())
    epilogues(graph)
    graph.check()
    assert "Conv2dWeight" in names(graph)

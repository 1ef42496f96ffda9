"""Every name of the first list exists, and takes PyTorch's argument names."""

import inspect

import numpy as np
import pytest
import torch

import nano

UNARY = """relu sigmoid tanh exp log sin cos sqrt square abs neg sign reciprocal log1p expm1 floor
    ceil round"""
BINARY = "add sub mul div pow matmul maximum minimum"
COMPARISON = """eq ne lt le gt ge isclose allclose equal logical_and logical_or logical_xor
    logical_not bitwise_and bitwise_or bitwise_xor bitwise_not"""
MOVEMENT = """transpose permute reshape flatten squeeze unsqueeze broadcast_to flip as_strided cat
    stack split chunk"""
REDUCTION = """sum mean max min amax amin prod var std median argmax argmin all any logsumexp"""
CHOICE = "softmax log_softmax clamp clip where masked_fill gather einsum"
CREATION = """tensor as_tensor from_numpy zeros ones full empty eye arange linspace rand randn
    randint zeros_like ones_like full_like empty_like rand_like randn_like randint_like"""
TENSOR = """shape ndim dtype device requires_grad grad grad_fn is_leaf data T numel size dim detach
    clone item tolist numpy to backward retain_grad register_hook requires_grad_ float double long
    cpu bool view expand __array__ __len__ __iter__ __getitem__ __setitem__ __bool__ __float__
    __int__ __repr__"""
DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
TOP = """get_default_dtype set_default_dtype promote_types result_type can_cast manual_seed
    Generator get_rng_state set_rng_state no_grad enable_grad set_grad_enabled inference_mode"""
AUTOGRAD = """Function backward grad gradcheck gradgradcheck detect_anomaly set_detect_anomaly"""
MODULE = """parameters named_parameters buffers named_buffers children named_children modules
    named_modules apply train eval zero_grad state_dict load_state_dict register_forward_hook
    register_forward_pre_hook register_buffer register_parameter add_module requires_grad_ to cpu"""
LAYERS = """Module Parameter Sequential Linear Flatten Identity Dropout ReLU Sigmoid Tanh GELU
    Softmax LogSoftmax SiLU BatchNorm1d BatchNorm2d BatchNorm3d LayerNorm GroupNorm RMSNorm
    Embedding Dropout1d Dropout2d MSELoss L1Loss NLLLoss CrossEntropyLoss BCELoss
    BCEWithLogitsLoss Conv1d Conv2d ConvTranspose1d ConvTranspose2d MaxPool1d MaxPool2d AvgPool1d
    AvgPool2d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d"""
CONVOLUTION = """conv1d conv2d conv_transpose1d conv_transpose2d max_pool1d max_pool2d avg_pool1d
    adaptive_avg_pool1d"""
FUNCTIONAL = """relu sigmoid tanh gelu softmax log_softmax softmin dropout dropout1d dropout2d silu
    batch_norm layer_norm group_norm instance_norm rms_norm embedding linear mse_loss l1_loss
    nll_loss cross_entropy binary_cross_entropy binary_cross_entropy_with_logits pad one_hot
    normalize scaled_dot_product_attention avg_pool2d adaptive_avg_pool2d adaptive_max_pool1d
    adaptive_max_pool2d conv1d conv2d conv_transpose1d conv_transpose2d max_pool1d max_pool2d
    avg_pool1d adaptive_avg_pool1d"""
INIT = """uniform_ normal_ trunc_normal_ constant_ ones_ zeros_ eye_ xavier_uniform_ xavier_normal_
    kaiming_uniform_ kaiming_normal_ orthogonal_ calculate_gain"""
OPTIM = "SGD Adam AdamW RMSprop Adagrad Muon"
SCHEDULES = """LRScheduler LambdaLR MultiplicativeLR StepLR MultiStepLR ConstantLR LinearLR
    ExponentialLR PolynomialLR CosineAnnealingLR CosineAnnealingWarmRestarts OneCycleLR CyclicLR
    SequentialLR ChainedScheduler ReduceLROnPlateau"""
OWN = "pad shrink uniform gaussian normal kaiming_uniform view expand"

#: Python's operators: with a reflected and an in-place form, and without.
ARITHMETIC = "add sub mul truediv floordiv mod pow matmul and or xor"
UNREFLECTED = "neg pos abs invert eq ne lt le gt ge"

OPERATORS = " ".join([UNARY, BINARY, COMPARISON, MOVEMENT, REDUCTION, CHOICE])


@pytest.mark.parametrize("name", f"{OPERATORS} {CREATION} {CONVOLUTION} {TOP} {DTYPES}".split())
def test_functions(name):
    assert hasattr(torch, name)
    assert hasattr(nano, name)


@pytest.mark.parametrize("name", OWN.split())
def test_functions_of_nano_alone(name):
    assert callable(getattr(nano, name))
    assert getattr(nano, name).__doc__


@pytest.mark.parametrize("name", f"{OPERATORS} {TENSOR}".split())
def test_methods(name):
    assert hasattr(nano.Tensor, name) == hasattr(torch.Tensor, name)


@pytest.mark.parametrize("name", f"{UNARY} {BINARY} {COMPARISON} clamp clip masked_fill".split())
def test_in_place_methods(name):
    assert hasattr(nano.Tensor, f"{name}_") == hasattr(torch.Tensor, f"{name}_")


@pytest.mark.parametrize("name", ARITHMETIC.split())
def test_reflected_and_in_place_operators(name):
    for form in ("", "r", "i"):
        method = f"__{form}{name}__"
        assert hasattr(nano.Tensor, method) >= hasattr(torch.Tensor, method), method


@pytest.mark.parametrize("name", UNREFLECTED.split())
def test_other_operators(name):
    assert hasattr(nano.Tensor, f"__{name}__")


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("autograd", AUTOGRAD),
        ("nn", LAYERS),
        ("nn.functional", FUNCTIONAL),
        ("nn.init", INIT),
        ("nn.Module", MODULE),
        ("optim", OPTIM),
        ("optim.lr_scheduler", SCHEDULES),
    ],
)
def test_names_of_the_other_parts(place, names):
    ours, theirs = nano, torch
    for step in place.split("."):
        ours, theirs = getattr(ours, step), getattr(theirs, step)
    for name in names.split():
        assert hasattr(theirs, name), f"{place}.{name}"
        assert hasattr(ours, name), f"{place}.{name}"


# Argument names ---------------------------------------------------------------------------

#: PyTorch keeps these for old code, or for machinery that nano does not have.
LEFT_OUT = {"size_average", "reduce", "_stacklevel", "out", "args", "kwargs", "input", "self"}


#: PyTorch's own that are written in C++ and have no signature to compare with.
IN_C = (
    *("gelu", "linear", "one_hot", "scaled_dot_product_attention"),
    *("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"),
    *("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d"),
)


def _parameters(function):
    return [p for p in inspect.signature(function).parameters.values() if p.name not in LEFT_OUT]


@pytest.mark.parametrize(
    "name",
    [f"nn.{n}" for n in LAYERS.split() if n not in ("Module", "Sequential")]
    + [f"nn.init.{n}" for n in INIT.split()]
    + [f"nn.functional.{n}" for n in FUNCTIONAL.split() if n not in IN_C]
    + [f"optim.{n}" for n in OPTIM.split()]
    + [f"optim.lr_scheduler.{n}" for n in SCHEDULES.split()]
    + ["autograd.grad", "nn.Module.named_parameters", "nn.Module.register_buffer"]
    + ["optim.Optimizer.zero_grad", "optim.Optimizer.step", "optim.Optimizer.load_state_dict"]
    + ["Tensor.backward", "nn.Module.zero_grad", "nn.Module.train", "nn.Module.get_submodule"],
)
def test_signatures(name):
    ours, theirs = nano, torch
    for step in name.split("."):
        ours, theirs = getattr(ours, step), getattr(theirs, step)
    have = {p.name: p for p in _parameters(ours)}
    wanted = [
        p for p in _parameters(theirs) if not (name.endswith("mse_loss") and p.name == "weight")
    ]
    wanted = [p for p in wanted if not (name.endswith("l1_loss") and p.name == "weight")]
    for p in wanted:
        assert p.name in have, f"{name} has no argument {p.name}"
        assert have[p.name].default == p.default, f"{name}: {p.name}"
    order = [p.name for p in wanted if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [n for n in have if n in order] == order


#: Calls as PyTorch documents them; ``m`` is nano or torch, ``x`` a (2, 3) tensor.
CALLS = """
m.sum(x, 1, True)
m.sum(input=x, dim=1, keepdim=True, dtype=m.float64)
x.sum(axis=0, keepdims=True)
m.mean(x, (0, 1))
x.mean(dim=[0], keepdim=True)
m.prod(x, 1, True)
m.prod(x, dim=0)
x.max(1, True).values
m.max(input=x, dim=0).indices
m.max(x, other=-x)
x.min(dim=-1)[1]
m.amax(x, dim=(0, 1), keepdim=True)
x.amin(1)
x.argmax(dim=1, keepdim=True)
x.argmin()
x.var(1, unbiased=False)
x.var(1, False, True)
m.var(x, dim=1, correction=0, keepdim=True)
x.std(False)
m.std(x, (0, 1), correction=2)
x.median(dim=1, keepdim=True).values
x.median()
x.all(1, True)
m.any(x, dim=0)
m.logsumexp(x, 1, True)
m.logsumexp(input=x, dim=(0, 1))
x.clamp(max=1)
m.clamp(x, min=0, max=0.5)
x.clip(0)
m.clamp(x, min=m.zeros(3))
x.split([1, 2], dim=1)[1]
m.split(x, split_size_or_sections=2, dim=1)[0]
x.split(split_size=2)[0]
x.chunk(chunks=2, dim=1)[0]
m.cat(tensors=[x, x], dim=1)
m.stack([x, x], dim=-1)
x.permute(dims=(1, 0))
m.permute(x, (1, 0))
m.transpose(x, dim0=0, dim1=1)
x.permute(1, 0)
x.reshape(shape=(3, 2))
m.reshape(input=x, shape=(6,))
x.view(size=(6,))
x.view(3, 2)
x.view(dtype=m.int32)
m.flatten(x, start_dim=0, end_dim=-1)
x.unsqueeze(dim=0).squeeze(dim=(0,))
x[:1].expand(size=(4, 3))
m.broadcast_to(x, size=(2, 2, 3))
m.flip(x, dims=(0, 1))
x.flip(0, 1)
m.as_strided(x, size=(2, 2), stride=(1, 2), storage_offset=1)
x.T
x.as_strided((2,), (1,))
m.add(input=x, other=x, alpha=2)
x.sub(1, alpha=0.5)
m.div(x, 2, rounding_mode="floor")
m.pow(x, exponent=2)
x.mul(other=2)
m.matmul(x, other=x.T)
m.maximum(input=x, other=-x)
m.isclose(x, x, rtol=1e-5, atol=1e-8, equal_nan=True)
m.eq(input=x, other=1)
x.ge(other=0)
m.where(condition=x > 0, input=x, other=0.0)
x.masked_fill(mask=x > 0, value=1)
x.round(decimals=1)
m.gather(input=x, dim=1, index=m.tensor([[0], [1]]))
m.einsum("ij,kj->ik", x, x)
m.softmax(x, dim=1, dtype=m.float64)
x.log_softmax(dim=-1)
F.softmax(input=x, dim=0)
m.zeros(size=(2, 3))
m.ones(2, dtype=m.int64)
m.full(size=(2,), fill_value=1.5)
m.eye(n=2, m=3)
m.arange(start=1, end=7, step=2)
m.linspace(start=0, end=1, steps=5)
m.full_like(x, fill_value=2)
m.zeros_like(input=x, dtype=m.int64)
m.ones_like(x)
m.tensor(data=[1, 2], dtype=m.float64)
m.rand(size=(2, 0))
m.randn(2, 0)
m.randint(low=1, high=2, size=(3,))
m.randint(1, (3,))
F.cross_entropy(x, m.tensor([0, 2]), label_smoothing=0.1, ignore_index=1, reduction="sum")
F.nll_loss(input=x, target=m.tensor([0, 2]), weight=m.ones(3))
F.relu(x.clone(), inplace=True)
F.binary_cross_entropy_with_logits(x, (x > 0).float(), pos_weight=m.ones(3), weight=m.ones(3))
F.mse_loss(input=x, target=-x, reduction="none")
F.pad(x, pad=(1, 1), mode="constant", value=2)
F.gelu(x, approximate="tanh")
F.linear(input=x, weight=x, bias=m.ones(2))
F.one_hot(m.tensor([1]), 3)
m.conv1d(input=x, weight=m.ones(2, 1, 2), bias=m.ones(2), padding=1, dilation=1, groups=2)
m.conv1d(x, m.ones(1, 2, 3), None, 1, 1, 1, 1)
m.conv2d(input=x[None], weight=m.ones(1, 1, 1, 3), bias=m.ones(1), stride=1, padding="same")
m.conv_transpose1d(x, m.ones(2, 1, 3), None, 2, 1, 1, 2, 1)
m.conv_transpose2d(x[None], m.ones(1, 2, 2, 2), stride=2, output_padding=1, dilation=(1, 2))
F.max_pool2d(x[None], 2, stride=1, padding=1, dilation=1, ceil_mode=True, return_indices=True)[1]
F.max_pool1d(x, kernel_size=2, stride=1)
m.max_pool2d(x[None], 2, 1, 1, 1, True)
F.avg_pool1d(x, 2, 1, 1, True, False)
F.avg_pool2d(x[None], kernel_size=2, stride=1, padding=1, divisor_override=3)
F.adaptive_avg_pool2d(x[None], output_size=(1, 2))
F.adaptive_max_pool2d(x[None], 1, return_indices=True)[1]
x.to(device="cpu", dtype=m.float64, copy=True)
x.clone()
x.to(m.int64)
x.to(float)
"""


@pytest.mark.parametrize("call", CALLS.strip().splitlines())
def test_calls(call):
    values = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    results = []
    for m in (nano, torch):
        names = {"m": m, "F": m.nn.functional, "x": m.tensor(values)}
        results.append(eval(call, names))
    ours, theirs = results
    assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    assert ours.shape == tuple(theirs.shape)
    # The same arithmetic in another order: a few units in the last place of float32.
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)

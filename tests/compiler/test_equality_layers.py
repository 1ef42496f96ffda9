"""Every layer, trained and used: compiled equals eager over 20 calls."""

from contextlib import nullcontext

import numpy as np
import pytest

import nano
from nano import nn
from nano.nn import functional as F

from .both import check, normal

LAYERS = {
    "Linear": (lambda: nn.Linear(5, 3), (4, 5)),
    "Linear no bias": (lambda: nn.Linear(5, 3, bias=False), (2, 4, 5)),
    "Linear row": (lambda: nn.Linear(5, 3), (5,)),
    "Flatten": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (2, 3, 4)),
    "Identity": (lambda: nn.Sequential(nn.Identity(), nn.Linear(3, 2)), (2, 3)),
    "ReLU": (nn.ReLU, (3, 4)),
    "ReLU in place": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), (3, 4)),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.2), (3, 4)),
    "Sigmoid": (nn.Sigmoid, (3, 4)),
    "Tanh": (nn.Tanh, (3, 4)),
    "GELU": (nn.GELU, (3, 4)),
    "GELU tanh": (lambda: nn.GELU("tanh"), (3, 4)),
    "SiLU": (nn.SiLU, (3, 4)),
    "SiLU in place": (lambda: nn.Sequential(nn.Linear(4, 4), nn.SiLU(inplace=True)), (3, 4)),
    "Softmax": (lambda: nn.Softmax(1), (3, 4)),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), (3, 4)),
    "Dropout": (lambda: nn.Dropout(0.3), (30, 4)),
    "Dropout in place": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3, inplace=True)),
        (3, 4),
    ),
    "Dropout1d": (lambda: nn.Dropout1d(0.3), (3, 4, 2)),
    "Dropout2d": (lambda: nn.Dropout2d(0.3), (3, 4, 2, 2)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (6, 4)),
    "BatchNorm1d sequences": (lambda: nn.BatchNorm1d(4, affine=False), (6, 4, 5)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (2, 3, 4, 4)),
    "BatchNorm2d relu": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), (2, 3, 4, 4)),
    "BatchNorm2d average": (lambda: nn.BatchNorm2d(3, momentum=None), (2, 3, 4, 4)),
    "BatchNorm2d forgets": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (2, 3, 4, 4)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(2), (2, 2, 2, 3, 2)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (2, 4, 3, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (2, 3, 4)),
    "RMSNorm": (lambda: nn.RMSNorm(4), (2, 3, 4)),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3, padding=1), (2, 3, 8)),
    "Conv2d": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 8, 8)),
    "Conv2d groups": (lambda: nn.Conv2d(4, 4, 3, groups=2, bias=False), (2, 4, 6, 6)),
    "Conv2d reflect": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 6, 6)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(3, 2, 3), (2, 3, 6)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2), (2, 3, 4, 4)),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), (2, 3, 8)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1), (2, 3, 8, 8)),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), (2, 3, 8)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (2, 3, 8, 8)),
    "MaxPool2d overlap": (lambda: nn.MaxPool2d(3, 2, 1), (2, 3, 8, 8)),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(3), (2, 3, 8)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 6, 6)),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(2), (2, 3, 8)),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(2), (2, 3, 6, 6)),
    "Sequential": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), (3, 4)),
}


def test_every_layer_is_here():
    here = " ".join(LAYERS) + " Embedding ModuleDict ModuleList Module Parameter"
    here += " ".join(LOSSES)
    for name in nn.__all__:
        if name[0].isupper():
            assert name in here, name


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
def test_layers(name, mode):
    build, shape = LAYERS[name]

    def make():
        layer = build().train(mode != "eval")

        def use(x):
            if mode == "no_grad":
                with nano.no_grad():
                    return layer(x)
            for p in layer.parameters():
                p.grad = None
            y = layer(x)
            (y * y).sum().backward()
            with nano.no_grad():
                for p in layer.parameters():
                    p.sub_(p.grad * 0.01)
            return y.detach()

        return use, layer

    grad = mode != "no_grad"
    check(make, lambda i: (normal(*shape, seed=i).requires_grad_(grad),))


def test_training_and_evaluation_in_turn():
    def make():
        net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())

        def use(x):
            for p in net.parameters():
                p.grad = None
            y = net(x)
            y.square().mean().backward()
            return y.detach()

        return use, net

    # A program is for the mode that it was made in; both stay.
    check(
        make,
        lambda i: (normal(2, 2, 5, 5, seed=i),),
        between=lambda i, net: net.train(i % 8 < 4),
        kinds=2,
    )


def test_embedding():
    def make():
        layer = nn.Embedding(7, 3, padding_idx=2)

        def use(index):
            layer.weight.grad = None
            y = layer(index)
            y.square().sum().backward()
            return y.detach()

        return use, layer

    check(make, lambda i: (nano.tensor(np.random.default_rng(i).integers(0, 7, (4, 5))),))


def test_containers():
    def make():
        parts = nn.ModuleDict({"first": nn.Linear(3, 3), "second": nn.Linear(3, 3)})
        several = nn.ModuleList([nn.Linear(3, 3), nn.Tanh()])

        def use(x):
            y = parts["second"](parts["first"](x))
            for part in several:
                y = part(y)
            y.sum().backward()
            return y.detach()

        return use, [parts, several]

    check(make, lambda i: (normal(2, 3, seed=i),))


LOSSES = {
    "MSELoss": (nn.MSELoss, "numbers"),
    "L1Loss": (lambda: nn.L1Loss(reduction="sum"), "numbers"),
    "BCEWithLogitsLoss": (lambda: nn.BCEWithLogitsLoss(pos_weight=nano.ones(3) * 2), "shares"),
    "BCELoss": (lambda: nn.BCELoss(reduction="none"), "shares"),
    "NLLLoss": (lambda: nn.NLLLoss(weight=nano.tensor([2.0, 1.0, 3.0])), "labels"),
    "CrossEntropyLoss": (nn.CrossEntropyLoss, "labels"),
    "CrossEntropyLoss smoothed": (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), "labels"),
    "CrossEntropyLoss ignoring": (lambda: nn.CrossEntropyLoss(ignore_index=2), "labels"),
    "CrossEntropyLoss weighted": (
        lambda: nn.CrossEntropyLoss(weight=nano.tensor([2.0, 1.0, 3.0])),
        "labels",
    ),
    "CrossEntropyLoss shares": (nn.CrossEntropyLoss, "shares"),
}


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses(name):
    build, kind = LOSSES[name]

    def make():
        loss = build()

        def use(x, target):
            y = loss(x, target)
            y.sum().backward()
            return y.detach()

        return use, loss

    def arguments(i):
        rng = np.random.default_rng(i)
        target = {
            "numbers": rng.normal(size=(4, 3)).astype("float32"),
            "shares": rng.uniform(0.1, 0.9, (4, 3)).astype("float32"),
            "labels": rng.integers(0, 3, 4),
        }[kind]
        x = rng.uniform(0.1, 0.9, (4, 3)).astype("float32")
        return nano.tensor(x, requires_grad=True), nano.tensor(target)

    check(make, arguments)


@pytest.mark.parametrize("place", ["inside", "outside"])
@pytest.mark.parametrize(
    ("dtype", "without"), [("bfloat16", ()), ("bfloat16", "epilogues"), ("float16", ())]
)
def test_autocast(place, dtype, without):
    """With epilogues, the gradient of a bfloat16 weight is not rounded to 8 bits."""

    def region(here):
        return nano.autocast(dtype=getattr(nano, dtype)) if here == place else nullcontext()

    def make():
        net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        head = nn.Linear(36, 3)

        def use(x):
            for p in (*net.parameters(), *head.parameters()):
                p.grad = None
            with region("inside"):
                y = head(net(x))
            loss = F.mse_loss(y.float(), y.detach().float() * 0.5)
            loss.backward()
            return y.detach(), loss.detach()

        return use, [net, head]

    tolerance = 2**-8 if dtype == "bfloat16" and not without else None
    with region("outside"):
        check(make, lambda i: (normal(2, 2, 5, 5, seed=i),), tolerance=tolerance, without=without)

"""Residual networks beside the same networks in PyTorch, and torchvision's names."""

import pytest
import torch

import nano
from benchmarks import peers
from nano.models import ResNet, resnet18, resnet20, resnet32, resnet34, resnet44, resnet56
from nano.models.resnet import BasicBlock

from . import beside


def small(side, stem, projection):
    """Three stages of few channels: the code of all networks, in little time."""
    arguments = ([1, 2, 1], [8, 12, 16], 10, stem)
    make = ResNet if side == "nano" else peers.ResNet
    return make(*arguments, projection=projection)


@pytest.fixture(params=["cifar-identity", "cifar-projection", "imagenet-projection"])
def networks(request):
    stem, shortcut = request.param.split("-")
    torch.manual_seed(0)
    return beside.pair(*[small(side, stem, shortcut == "projection") for side in ("nano", "torch")])


def test_weights_have_the_same_names(networks):
    beside.check_state(*networks)


def test_outputs(networks):
    beside.check_forward(*networks, beside.images(4, 3, 32, 32)[0])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training(networks, dtype):
    beside.check_training(*networks, *beside.images(8, 3, 32, 32), dtype)


def test_odd_sizes(networks):
    beside.check_forward(*networks, beside.images(3, 3, 37, 29)[0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (resnet20, peers.resnet20),
        (lambda: resnet18(10, "cifar"), lambda: peers.resnet18(10, "cifar")),
    ],
    ids=["resnet20", "resnet18"],
)
def test_whole_networks(ours, theirs):
    torch.manual_seed(0)
    networks = beside.pair(ours(), theirs())
    beside.check_state(*networks)
    beside.check_forward(*networks, beside.images(2, 3, 32, 32)[0])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training_of_resnet18(dtype):
    torch.manual_seed(0)
    networks = beside.pair(resnet18(10, "cifar"), peers.resnet18(10, "cifar"))
    beside.check_training(*networks, *beside.images(4, 3, 32, 32), dtype)


def test_names_and_shapes_of_torchvision():
    """Its checkpoints can be loaded: these are the names in them, in their order."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight": (64, 3, 7, 7)}

    def add_norm(name, channels):
        for part in norm:
            expected[f"{name}.{part}"] = () if part == "num_batches_tracked" else (channels,)

    add_norm("bn1", 64)
    width = 64
    for stage, channels in enumerate([64, 128, 256, 512], start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            expected[f"{name}.conv1.weight"] = (channels, width, 3, 3)
            add_norm(f"{name}.bn1", channels)
            expected[f"{name}.conv2.weight"] = (channels, channels, 3, 3)
            add_norm(f"{name}.bn2", channels)
            if width != channels:
                expected[f"{name}.downsample.0.weight"] = (channels, width, 1, 1)
                add_norm(f"{name}.downsample.1", channels)
            width = channels
    expected |= {"fc.weight": (1000, 512), "fc.bias": (1000,)}
    got = {name: tuple(value.shape) for name, value in resnet18().state_dict().items()}
    assert list(got.items()) == list(expected.items())
    assert len(got) == 122


@pytest.mark.parametrize(
    ("make", "layers"),
    [(resnet18, 18), (resnet20, 20), (resnet32, 32), (resnet34, 34), (resnet44, 44),
     (resnet56, 56)],
)  # fmt: skip
def test_layers_are_as_many_as_the_name_says(make, layers):
    """Convolutions and linear layers, but for the shortcuts', which the papers do not count."""
    weights = [n for n, p in make().named_parameters() if p.ndim > 1 and "downsample" not in n]
    assert len(weights) == layers


def test_the_shortcut_without_weights():
    """Every second pixel, zeros before and after the old channels; and the input itself."""
    x = nano.randn(2, 4, 6, 6)
    shortcut = BasicBlock(4, 8, 2, projection=False).shortcut(x)
    assert shortcut.shape == (2, 8, 3, 3)
    assert nano.equal(shortcut[:, 2:6], x[:, :, ::2, ::2])
    assert shortcut[:, :2].abs().sum().item() == shortcut[:, 6:].abs().sum().item() == 0
    assert BasicBlock(4, 4, 1, projection=False).shortcut(x) is x


def test_unknown_stem():
    with pytest.raises(ValueError, match="stem must be"):
        ResNet([1], [8], 10, stem="mnist")

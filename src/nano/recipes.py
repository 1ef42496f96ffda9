"""Recipes: all that one training run needs, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from . import models, nn, optim
from .data import (
    CIFAR10,
    MNIST,
    Compose,
    DataLoader,
    Digits,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    read_digit,
    read_photograph,
)
from .data.cifar10 import CIFAR10_MEAN, CIFAR10_STD
from .data.mnist import MNIST_MEAN, MNIST_STD
from .nn import functional as F
from .random import Generator, manual_seed
from .tensor import Tensor, wrap
from .train import OneCycle, Trainer

__all__ = ["RECIPES", "Recipe"]

_HELD_OUT_BATCH = 1000


@dataclass(frozen=True)
class Recipe:
    """A model, its data, and how the one learns the other.

    Attributes:
        title: of the data, for people.
        network: the model's name, for people.
        load: from a folder (or None) and ``train`` to a data set. That to train on may change
            its images at random each time they are asked for, with its ``transform``.
        takes_folder: whether the data lies in files, so that a folder can be given.
        classes: the names of the labels.
        model: makes the network, with weights drawn from the default generator.
        optimizer: from parameters and a learning rate, which then follows
            :class:`~nano.train.OneCycle`, which reaches it after the part ``warm_up`` of all
            steps.
        picture: from a file to pixels from 0 to 1 that look like those of the data set:
            (h, w) in grey or (h, w, 3).
        normalise: from such pixels, as a batch of images, to what the model takes.
        epochs, batch_size, lr, seed: the defaults of a run.
        loss: of outputs and labels, the mean over the batch.
        views: from a batch of images to batches that show the same things otherwise, so that the
            guesses for all can be averaged; None where there are none.
    """

    name: str
    title: str
    network: str
    load: Callable[[str | None, bool], Any]
    takes_folder: bool
    classes: tuple[str, ...]
    model: Callable[[], nn.Module]
    optimizer: Callable[[Iterable[nn.Parameter], float], optim.Optimizer]
    picture: Callable[[str], NDArray]
    normalise: Callable[[Tensor], Tensor]
    epochs: int
    batch_size: int
    lr: float
    seed: int = 0
    warm_up: float = 0.3
    loss: nn.Module = field(default_factory=nn.CrossEntropyLoss)
    views: Callable[[Tensor], list[Tensor]] | None = None

    def loader(
        self, data: Any, batch_size: int = _HELD_OUT_BATCH, shuffle: Generator | None = None
    ) -> DataLoader:
        """Batches of ``data``; in a new order each time if there is a generator."""
        return DataLoader(data, batch_size, shuffle is not None, generator=shuffle, in_memory=True)

    def images(self, pixels: NDArray) -> Tensor:
        """The pixels of one picture, as a batch for the model."""
        height, width = pixels.shape[:2]
        planes = pixels.reshape(1, height, width, -1).transpose(0, 3, 1, 2)
        return self.normalise(wrap(planes))

    def trainer(
        self,
        train_data: Any,
        held_out_data: Any,
        *,
        batch_size: int,
        lr: float,
        seed: int,
        **options: Any,
    ) -> Trainer:
        """A Trainer of a fresh model; ``options`` are the Trainer's own."""
        manual_seed(seed)
        model = self.model()
        optimizer = self.optimizer(model.parameters(), lr)
        rates = [group["lr"] for group in optimizer.param_groups]
        callbacks = [OneCycle(rates, self.warm_up), *options.pop("callbacks", [])]
        return Trainer(
            model,
            optimizer,
            self.loss,
            self.loader(train_data, batch_size, Generator().manual_seed(seed)),
            self.loader(held_out_data),
            callbacks=callbacks,
            **options,
        )


# Parts that recipes share -----------------------------------------------------------------


def _adamw(parameters: Iterable[nn.Parameter], lr: float) -> optim.Optimizer:
    return optim.AdamW(parameters, lr=lr, weight_decay=1e-2)


def _sgd(parameters: Iterable[nn.Parameter], lr: float) -> optim.Optimizer:
    return optim.SGD(parameters, lr, momentum=0.9, weight_decay=5e-4, nesterov=True)


def _muon(parameters: Iterable[nn.Parameter], lr: float) -> optim.Optimizer:
    """Muon for the weights of the convolutions; all else moves by the momentum alone."""
    parameters = list(parameters)
    kernels = [p for p in parameters if p.ndim == 4]
    others = [p for p in parameters if p.ndim != 4]
    plain = {"params": others, "orthogonalize": False, "lr": 25 * lr, "weight_decay": 2e-4}
    return optim.Muon([{"params": kernels}, plain], lr, momentum=0.9)


def _digits(folder: str | None, train: bool) -> Digits:
    return Digits(train)


def _digits_model() -> nn.Module:
    def activation() -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Dropout(0.1))

    return models.MLP((64, 128, 64, 10), activation)


def _shifted_mnist(folder: str | None, train: bool) -> MNIST:
    """MNIST; to train on, with each digit moved by up to two pixels."""
    data = MNIST(folder, train)
    if train:
        data.transform = RandomCrop(MNIST.size, padding=2, fill=-MNIST_MEAN / MNIST_STD)
    return data


_normalise_colours = Normalize(CIFAR10_MEAN, CIFAR10_STD)


def _augmented_cifar10(folder: str | None, train: bool) -> CIFAR10:
    """CIFAR-10; to train on, moved by up to four pixels and mirrored, as K. He et al. 2015 do.

    What comes in at the border mirrors the image, where they have black: black borders, which
    the images to be told apart later have not, move the statistics of the normalisations.
    """
    crop = RandomCrop(CIFAR10.size, padding=4, padding_mode="reflect")
    moved = [crop, RandomHorizontalFlip()] if train else []
    transform = Compose([*moved, _normalise_colours])
    return CIFAR10(folder, train, download=folder is None, transform=transform)


def _ten_views(images: Tensor) -> list[Tensor]:
    """Images as they are, moved by a pixel to the four sides, and the mirror images of all five.

    Source: A. Krizhevsky, I. Sutskever and G. E. Hinton, "ImageNet classification with deep
    convolutional neural networks", NeurIPS 2012, section 4.1: four corners and the centre.
    """
    height, width = images.shape[2:]
    larger = F.pad(images, (1, 1, 1, 1), mode="reflect")
    places = (1, 1), (0, 1), (2, 1), (1, 0), (1, 2)
    moved = [larger[:, :, y : y + height, x : x + width] for y, x in places]
    return [*moved, *[x.flip(3) for x in moved]]


#: What all recipes for MNIST have in common.
_MNIST: dict[str, Any] = {
    "title": "MNIST handwritten digits (28 x 28)",
    "takes_folder": True,
    "classes": MNIST.classes,
    "picture": read_digit,
    "normalise": Normalize(MNIST_MEAN, MNIST_STD),
    "batch_size": 128,
}

#: The recipes by name.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="digits",
            title="handwritten digits of scikit-learn (8 x 8)",
            network="MLP",
            load=_digits,
            takes_folder=False,
            classes=Digits.classes,
            model=_digits_model,
            optimizer=_adamw,
            picture=partial(read_digit, size=8, box=8, by_mass=False),
            normalise=Normalize(0.0, 1.0),
            epochs=30,
            batch_size=32,
            lr=5e-3,
        ),
        Recipe(
            name="mnist",
            network="MLP",
            load=MNIST,
            model=partial(models.MLP, (784, 256, 128, 10)),
            optimizer=_adamw,
            epochs=5,
            lr=3e-3,
            **_MNIST,
        ),
        Recipe(
            name="lenet",
            network="LeNet",
            load=_shifted_mnist,
            model=models.lenet,
            optimizer=_adamw,
            epochs=8,
            lr=5e-3,
            **_MNIST,
        ),
        Recipe(
            name="alexnet",
            network="AlexNet",
            load=_shifted_mnist,
            model=models.alexnet,
            optimizer=_sgd,
            epochs=5,
            lr=0.05,
            **_MNIST,
        ),
        Recipe(
            name="resnet20",
            title="CIFAR-10 photographs (32 x 32)",
            network="ResNet-20",
            load=_augmented_cifar10,
            takes_folder=True,
            classes=CIFAR10.classes,
            model=models.resnet20,
            optimizer=_muon,
            picture=partial(read_photograph, size=CIFAR10.size),
            normalise=_normalise_colours,
            epochs=40,
            batch_size=128,
            lr=0.018,
            warm_up=0.15,
            views=_ten_views,
        ),
    )
}

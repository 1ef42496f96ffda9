"""Recipes: all that one training run needs, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import nn, optim
from .data import MNIST, DataLoader, Digits, TensorDataset
from .data.mnist import MNIST_MEAN, MNIST_STD
from .models import MLP
from .random import Generator, manual_seed
from .train import OneCycle, Trainer

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A model, its data, and how the one learns the other.

    Attributes:
        title: for people.
        load: from a folder (or None) and ``train`` to a data set.
        takes_folder: whether the data lies in files, so that a folder can be given.
        sizes: of the MLP.
        epochs, batch_size, lr, weight_decay, seed: the defaults of a run; AdamW with the
            learning rate of :class:`~nano.train.OneCycle`.
        dropout: in training, before each linear layer but the first.
        picture: arguments of :func:`~nano.data.read_digit` that make a picture look like
            those of the data set.
        mean, std: how the data set's pixels are normalised.
    """

    name: str
    title: str
    load: Callable[[str | None, bool], TensorDataset]
    takes_folder: bool
    sizes: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    dropout: float
    picture: dict[str, Any]
    mean: float = 0.0
    std: float = 1.0
    seed: int = 0

    def model(self) -> nn.Module:
        """The network, with weights drawn from the default generator."""

        def activation() -> nn.Module:
            return nn.Sequential(nn.ReLU(), nn.Dropout(self.dropout))

        return MLP(self.sizes, activation if self.dropout else nn.ReLU)

    def loader(
        self, data: TensorDataset, batch_size: int, shuffle: Generator | None = None
    ) -> DataLoader:
        """Batches of ``data``; in a new order each time if there is a generator."""
        return DataLoader(data, batch_size, shuffle is not None, generator=shuffle, in_memory=True)

    def trainer(
        self,
        train_data: TensorDataset,
        held_out_data: TensorDataset,
        *,
        batch_size: int,
        lr: float,
        seed: int,
        **options: Any,
    ) -> Trainer:
        """A Trainer of a fresh model; ``options`` are the Trainer's own."""
        manual_seed(seed)
        model = self.model()
        optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=self.weight_decay)
        callbacks = [OneCycle(lr), *options.pop("callbacks", [])]
        return Trainer(
            model,
            optimizer,
            nn.CrossEntropyLoss(),
            self.loader(train_data, batch_size, Generator().manual_seed(seed)),
            self.loader(held_out_data, 1000),
            callbacks=callbacks,
            **options,
        )


#: The recipes by name.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="digits",
            title="handwritten digits of scikit-learn (8 x 8)",
            load=lambda folder, train: Digits(train),
            takes_folder=False,
            sizes=(64, 128, 64, 10),
            epochs=30,
            batch_size=32,
            lr=5e-3,
            weight_decay=1e-2,
            dropout=0.1,
            picture={"size": 8, "box": 8, "by_mass": False},
        ),
        Recipe(
            name="mnist",
            title="MNIST handwritten digits (28 x 28)",
            load=lambda folder, train: MNIST(folder, train),
            takes_folder=True,
            sizes=(784, 256, 128, 10),
            epochs=5,
            batch_size=128,
            lr=3e-3,
            weight_decay=1e-2,
            dropout=0.0,
            picture={"size": 28, "box": 20, "by_mass": True},
            mean=MNIST_MEAN,
            std=MNIST_STD,
        ),
    )
}

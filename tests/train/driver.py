"""A tiny training run, for tests that stop and kill it: ``python driver.py OUT EPOCHS``.

The model draws random numbers in training (dropout), so that a resume that did not bring
back their state would be found out.
"""

import sys
from pathlib import Path

import numpy as np

import nano
from nano import nn, optim
from nano.data import DataLoader, TensorDataset
from nano.train import Callback, OneCycle, Trainer


class Noise(nn.Module):
    """Multiplies by random numbers of the default generator in training."""

    def forward(self, x):
        if not self.training:
            return x
        noise = nano.default_generator.numpy.random(x.shape, dtype=np.float32)
        return x * nano.tensor(noise)


def make_trainer(out, own_generator=True, optimizer="Adam", callbacks=()):
    """The same run each time: data, model and seeds are fixed."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    train = TensorDataset(nano.tensor(x[:70]), nano.tensor(y[:70]))
    held_out = TensorDataset(nano.tensor(x[70:]), nano.tensor(y[70:]))
    nano.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), Noise(), nn.Linear(8, 2))
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    generator = nano.Generator().manual_seed(5) if own_generator else None
    return Trainer(
        model,
        getattr(optim, optimizer)(model.parameters(), lr=0.02, **options),
        nn.CrossEntropyLoss(),
        DataLoader(train, 8, shuffle=True, generator=generator, in_memory=True),
        DataLoader(held_out, 8, in_memory=True),
        callbacks=[OneCycle(0.02), *callbacks],
        out=out,
    )


class Announce(Callback):
    """Says when training has begun."""

    def on_batch_end(self, trainer):
        print(trainer.step, flush=True)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    trainer = make_trainer(folder, callbacks=[Announce()])
    if (folder / "last.safetensors").exists():
        trainer.load(folder / "last.safetensors")
    trainer.fit(int(sys.argv[2]))

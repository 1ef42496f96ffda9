"""Eager nano beside eager PyTorch: ``python -m benchmarks.eager``.

The same code runs on both; only the module differs. A ratio below 1 means that
nano takes less time.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
from collections.abc import Callable
from typing import Any

from benchmarks.duel import THREADS, duel

#: Case and the ratio that issue #2 asks for; None where it asks for none.
TARGETS: dict[str, float | None] = {
    "add 4x16, gradients on": 1.0,
    "mul 4x16, gradients on": None,
    "relu 4x16, gradients on": None,
    "linear 4x16 -> 16, gradients on": None,
    "MLP 2-16-16-2, batch 4, step": 1.0,
    "MLP 784-256-128-10, batch 128, step": 1.15,
}


def cases(side: str) -> dict[str, Callable[[], Any]]:
    """The cases, on ``nano`` or ``torch``."""
    m = importlib.import_module(side)
    if side == "torch":
        m.set_num_threads(THREADS)
    m.manual_seed(0)
    a, b = m.randn(4, 16, requires_grad=True), m.randn(4, 16, requires_grad=True)
    w, c = m.randn(16, 16, requires_grad=True), m.randn(16, requires_grad=True)
    linear = importlib.import_module(f"{side}.nn.functional").linear
    return {
        "add 4x16, gradients on": lambda: a + b,
        "mul 4x16, gradients on": lambda: a * b,
        "relu 4x16, gradients on": lambda: m.relu(a),
        "linear 4x16 -> 16, gradients on": lambda: linear(a, w, c),
        "MLP 2-16-16-2, batch 4, step": training_step(m, side, [2, 16, 16, 2], 4),
        "MLP 784-256-128-10, batch 128, step": training_step(m, side, [784, 256, 128, 10], 128),
    }


def training_step(m: Any, side: str, sizes: list[int], batch: int) -> Callable[[], Any]:
    """Forward, cross-entropy, backward, and an SGD step with momentum."""
    nn = importlib.import_module(f"{side}.nn")
    optim = importlib.import_module(f"{side}.optim")
    layers: list[Any] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(n_in, n_out)] + ([nn.ReLU()] if i < len(sizes) - 2 else [])
    model = nn.Sequential(*layers)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loss_function = nn.CrossEntropyLoss()
    x = m.randn(batch, sizes[0])
    y = m.randint(0, sizes[-1], (batch,))

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    results = duel("benchmarks.eager", list(TARGETS), rounds=args.rounds)
    print(f"{'case':38} {'nano':>10} {'PyTorch':>10} {'ratio':>6}  at most")
    for case, (ours, theirs, ratio) in results.items():
        target = TARGETS[case]
        verdict = "" if target is None else f"{target:.2f} {'ok' if ratio <= target else 'MISSED'}"
        print(f"{case:38} {ours * 1e6:7.2f} us {theirs * 1e6:7.2f} us {ratio:6.2f}  {verdict}")


if __name__ == "__main__":
    main()

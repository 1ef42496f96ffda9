"""The training steps that are timed: forward, loss, backward, optimizer; and two inferences.

Each case is built for a *side*: a library with its options, such as ``torch+channels_last``.
``nano+compile`` compiles the whole step, ``torch+compile`` the model, as their users do.
Both libraries keep their defaults, but for two threads. nano's images lie channels-last, as
its data loader gives them; those of PyTorch as it gives them (n, c, h, w), or channels-last
with the model.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.duel import THREADS
from benchmarks.flops import count
from benchmarks.gpt import LENGTH, VOCABULARY, gpt

#: Rows and columns of the product that shows what the processor can do.
PRODUCT = 2048
PRODUCT_CASE = "product"


@dataclass(frozen=True)
class Case:
    """A network, and the shape of what it is given.

    Attributes:
        title: as it stands in the table.
        network: ``mlp``, ``lenet`` ...: a function of ``benchmarks.peers``.
        shape: of the input; of integers for ``gpt``.
        required: how many times as long PyTorch must take.
        required_bf16: the same under autocast; None where nothing is asked.
        required_compiled: the same of nano's compiled step, beside the best form of all peers.
        required_compiled_bf16: that under autocast.
        sizes: of the layers of a multilayer perceptron.
        training: False for inference.
    """

    title: str
    network: str
    shape: tuple[int, ...]
    required: float
    required_bf16: float | None = None
    required_compiled: float | None = None
    required_compiled_bf16: float | None = None
    sizes: tuple[int, ...] = ()
    training: bool = True

    @property
    def images(self) -> bool:
        """Whether there is an order of channels to choose."""
        return len(self.shape) == 4


CASES = {
    "mlp-small": Case("MLP 2-16-16-2, 4", "mlp", (4, 2), 1.2, None, 6.0, sizes=(2, 16, 16, 2)),
    "mlp": Case(
        "MLP 784-256-128-10, 128", "mlp", (128, 784), 1.2, None, 1.7, sizes=(784, 256, 128, 10)
    ),
    "lenet": Case("LeNet, MNIST, 128", "lenet", (128, 1, 28, 28), 2.0, 1.5, 3.0),
    "alexnet": Case("AlexNet, MNIST, 128", "alexnet", (128, 1, 28, 28), 1.2, 1.3, 1.3),
    "resnet20": Case("ResNet-20, CIFAR-10, 128", "resnet20", (128, 3, 32, 32), 1.3, 1.3, 1.6),
    "resnet18": Case("ResNet-18, CIFAR-10, 64", "resnet18", (64, 3, 32, 32), 1.15, 1.5, 1.35, 2.0),
    "gpt": Case("GPT 4x128, 16x128, AdamW", "gpt", (16, LENGTH), 1.0, None, 1.4),
    "resnet18-1": Case(
        "ResNet-18 inference, 1", "resnet18", (1, 3, 32, 32), 1.2, 1.2, training=False
    ),
    "resnet18-64": Case(
        "ResNet-18 inference, 64", "resnet18", (64, 3, 32, 32), 1.2, 1.2, training=False
    ),
}


def missing(side: str) -> str | None:
    """Why a side cannot be measured; None if it can."""
    library, *options = side.split("+")
    if importlib.util.find_spec(library) is None:
        return f"{library} is not installed"
    if "bf16" in options and not hasattr(importlib.import_module(library), "autocast"):
        return f"{library} has no autocast"
    return None


class Steps(dict[str, Callable[[], Any]]):
    """The cases of a side, built when they are asked for; only the last one is kept."""

    def __init__(self, side: str) -> None:
        super().__init__()
        self.side = side

    def __missing__(self, name: str) -> Callable[[], Any]:
        self.clear()
        self[name] = build(self.side, name)
        return self[name]


def cases(side: str) -> Steps:
    """What :mod:`benchmarks.duel` asks for."""
    return Steps(side)


def build(side: str, name: str) -> Callable[[], Any]:
    """A function that does one step of the case ``name`` on ``side``."""
    library, *options = side.split("+")
    if library == "jax":
        from benchmarks.jaxpeers import build as build_jax

        return build_jax(name)
    m = importlib.import_module(library)
    m.set_num_threads(THREADS)
    m.manual_seed(0)
    half = "bf16" in options
    if name == PRODUCT_CASE:
        a = m.ones(PRODUCT, PRODUCT, dtype=m.bfloat16 if half else m.float32)
        return lambda: a @ a
    case = CASES[name]
    model, x, labels = network(library, case)
    if case.images and (library == "nano" or "channels_last" in options):
        x = x.to(memory_format=m.channels_last)
        if library == "torch":
            model = model.to(memory_format=m.channels_last)

    def mixed() -> Any:
        if not half:
            return nullcontext()
        return m.autocast("cpu", m.bfloat16) if library == "torch" else m.autocast(dtype=m.bfloat16)

    if library == "torch" and "compile" in options:
        model = m.compile(model)
    compiled = library == "nano" and "compile" in options
    if not case.training:
        return _inference(m, model, x, mixed, compiled)
    return _training(m, model, x, labels, mixed, case.network == "gpt", compiled)


def network(library: str, case: Case) -> tuple[Any, Any, Any]:
    """The model, its input and the labels, the same for both libraries."""
    m = importlib.import_module(library)
    nn = importlib.import_module(f"{library}.nn")
    x, labels = data(case)
    if case.network == "gpt":
        model = gpt(nn, importlib.import_module(f"{library}.nn.functional"))
    else:
        models = importlib.import_module("nano.models" if library == "nano" else "benchmarks.peers")
        if case.network == "mlp":
            model = models.MLP(case.sizes) if library == "nano" else models.mlp(case.sizes)
        elif case.network == "resnet18":
            model = models.resnet18(num_classes=10, stem="cifar")
        else:
            model = getattr(models, case.network)()
    return model, m.from_numpy(x), m.from_numpy(labels)


def data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Input and labels of a case, drawn from a fixed seed."""
    rng = np.random.default_rng(0)
    if case.network == "gpt":
        tokens = rng.integers(0, VOCABULARY, (case.shape[0], case.shape[1] + 1))
        return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])
    x = rng.standard_normal(case.shape, dtype=np.float32)
    return x, rng.integers(0, case.sizes[-1] if case.sizes else 10, case.shape[0])


def _training(
    m: Any, model: Any, x: Any, labels: Any, mixed: Callable[[], Any], adamw: bool, compiled: bool
) -> Callable[[], Any]:
    cross_entropy = m.nn.functional.cross_entropy
    if adamw:
        optimizer = m.optim.AdamW(model.parameters(), lr=3e-4)
    else:
        optimizer = m.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    labels = labels.flatten()

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        with mixed():
            scores = model(x)
            loss = cross_entropy(scores.view(-1, scores.shape[-1]), labels)
        loss.backward()
        optimizer.step()
        return loss

    run = m.compile(step) if compiled else step
    return lambda: run(x, labels)


def _inference(
    m: Any, model: Any, x: Any, mixed: Callable[[], Any], compiled: bool
) -> Callable[[], Any]:
    model.eval()

    def step(x: Any) -> Any:
        with m.inference_mode(), mixed():
            return model(x)

    run = m.compile(step) if compiled else step
    return lambda: run(x)


def flops(name: str) -> int:
    """Floating-point operations of a step, see :mod:`benchmarks.flops`."""
    if name == PRODUCT_CASE:
        return 2 * PRODUCT**3
    case = CASES[name]
    model, x, _ = network("nano", case)
    return count(model, x, case.training)

"""The networks in plain JAX, a whole training step compiled by ``jax.jit``; no AlexNet.

Images are (n, h, w, c) and weights (h, w, in, out), which JAX's processor back end prefers.
Parameters, momenta and running statistics are donated to the step, so that it may update
them in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.gpt import HEADS, LAYERS, LENGTH, VOCABULARY, WIDTH
from benchmarks.steps import CASES, PRODUCT, PRODUCT_CASE, Case, data

NETWORKS = ("mlp", "lenet", "resnet20", "resnet18", "gpt")
_MOMENTUM = 0.1  # of the running statistics


class Variables:
    """Gives a network its variables by name: drawn in the first pass, looked up afterwards.

    Attributes:
        parameters: trained.
        statistics: running means and variances; ``seen`` collects their next values.
    """

    def __init__(self, parameters: dict | None, statistics: dict | None, training: bool) -> None:
        self.drawing = parameters is None
        self.parameters = parameters or {}
        self.statistics = statistics or {}
        self.training = training
        self.seen: dict[str, Any] = {}
        self.rng = np.random.default_rng(0)

    def normal(self, name: str, shape: tuple[int, ...], scale: float) -> Any:
        """A parameter drawn with deviation ``scale``."""
        if self.drawing:
            drawn = self.rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
            self.parameters[name] = jnp.asarray(drawn)
        return self.parameters[name]

    def constant(self, name: str, size: int, value: float) -> Any:
        """A parameter that starts from ``value``."""
        if self.drawing:
            self.parameters[name] = jnp.full(size, value, jnp.float32)
        return self.parameters[name]

    def linear(
        self, name: str, x: Any, out: int, scale: float | None = None, bias: bool = True
    ) -> Any:
        """x W + b."""
        n = x.shape[-1]
        y = x @ self.normal(f"{name}.w", (n, out), scale or n**-0.5)
        return y + self.constant(f"{name}.b", out, 0.0) if bias else y

    def conv(
        self, name: str, x: Any, out: int, size: int = 3, stride: int = 1, padding: int = 1
    ) -> Any:
        """A convolution without bias."""
        shape = (size, size, x.shape[-1], out)
        w = self.normal(f"{name}.w", shape, (2 / (size * size * out)) ** 0.5)
        return lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def batch_norm(self, name: str, x: Any) -> Any:
        """Batch normalisation, with running statistics."""
        c = x.shape[-1]
        if self.drawing:
            self.statistics[name] = (jnp.zeros(c), jnp.ones(c))
        mean, var = before = self.statistics[name]
        if self.training:
            axes = tuple(range(x.ndim - 1))
            mean, var = x.mean(axes), x.var(axes)
            n = x.size // c
            now = (mean, var * (n / (n - 1)))
            self.seen[name] = tuple(
                (1 - _MOMENTUM) * old + _MOMENTUM * lax.stop_gradient(new)
                for old, new in zip(before, now, strict=True)
            )
        weight, bias = self.constant(f"{name}.w", c, 1.0), self.constant(f"{name}.b", c, 0.0)
        return (x - mean) * lax.rsqrt(var + 1e-5) * weight + bias

    def layer_norm(self, name: str, x: Any) -> Any:
        """Layer normalisation over the last axis."""
        c = x.shape[-1]
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        weight, bias = self.constant(f"{name}.w", c, 1.0), self.constant(f"{name}.b", c, 0.0)
        return (x - mean) * lax.rsqrt(var + 1e-5) * weight + bias


def _max_pool(x: Any) -> Any:
    window = (1, 2, 2, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def mlp(v: Variables, x: Any, sizes: tuple[int, ...]) -> Any:
    """``nano.models.MLP``."""
    for i, out in enumerate(sizes[1:]):
        x = v.linear(f"{i}", x if i == 0 else jax.nn.relu(x), out)
    return x


def lenet(v: Variables, x: Any) -> Any:
    """``nano.models.LeNet``."""
    x = _max_pool(jax.nn.relu(v.batch_norm("bn1", v.conv("conv1", x, 6, 5, padding=2))))
    x = _max_pool(jax.nn.relu(v.batch_norm("bn2", v.conv("conv2", x, 16, 5, padding=0))))
    x = x.reshape(x.shape[0], -1)
    x = jax.nn.relu(v.linear("fc1", x, 120))
    return v.linear("fc3", jax.nn.relu(v.linear("fc2", x, 84)), 10)


def _resnet(v: Variables, x: Any, blocks: int, channels: tuple[int, ...], projection: bool) -> Any:
    x = jax.nn.relu(v.batch_norm("bn1", v.conv("conv1", x, channels[0])))
    for i, out in enumerate(channels):
        for j in range(blocks):
            name, stride, new = f"{i}.{j}", 2 if i and not j else 1, out - x.shape[-1]
            shortcut = x
            if new and projection:
                shortcut = v.conv(f"{name}.conv3", x, out, 1, stride, padding=0)
                shortcut = v.batch_norm(f"{name}.bn3", shortcut)
            elif new:
                wide = ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2))
                shortcut = jnp.pad(x[:, ::stride, ::stride], wide)
            y = v.conv(f"{name}.conv1", x, out, stride=stride)
            y = jax.nn.relu(v.batch_norm(f"{name}.bn1", y))
            y = v.batch_norm(f"{name}.bn2", v.conv(f"{name}.conv2", y, out))
            x = jax.nn.relu(y + shortcut)
    return v.linear("fc", x.mean((1, 2)), 10)


def resnet20(v: Variables, x: Any) -> Any:
    """``nano.models.resnet20``."""
    return _resnet(v, x, 3, (16, 32, 64), projection=False)


def resnet18(v: Variables, x: Any) -> Any:
    """``nano.models.resnet18`` with the stem for CIFAR-10."""
    return _resnet(v, x, 2, (64, 128, 256, 512), projection=True)


def gpt(v: Variables, tokens: Any) -> Any:
    """:func:`benchmarks.gpt.gpt`."""
    n, t = tokens.shape
    token = v.normal("token", (VOCABULARY, WIDTH), 0.02)
    x = token[tokens] + v.normal("position", (LENGTH, WIDTH), 0.02)[:t]
    for i in range(LAYERS):
        qkv = v.linear(f"{i}.qkv", v.layer_norm(f"{i}.ln1", x), 3 * WIDTH, 0.02)
        q, k, w = jnp.split(qkv.reshape(n, t, HEADS, -1), 3, axis=-1)
        y = jax.nn.dot_product_attention(q, k, w, is_causal=True).reshape(n, t, WIDTH)
        x = x + v.linear(f"{i}.proj", y, WIDTH, 0.02)
        y = v.linear(f"{i}.up", v.layer_norm(f"{i}.ln2", x), 4 * WIDTH, 0.02)
        x = x + v.linear(f"{i}.down", jax.nn.gelu(y, approximate=False), WIDTH, 0.02)
    return v.linear("head", v.layer_norm("ln", x), VOCABULARY, 0.02, bias=False)


def build(name: str) -> Callable[[], Any]:
    """A function that does one compiled step of a case, and waits for it."""
    if name == PRODUCT_CASE:
        a = jnp.ones((PRODUCT, PRODUCT))
        product = jax.jit(lambda a: a @ a)
        return lambda: product(a).block_until_ready()
    case = CASES[name]
    x, labels = data(case)
    if case.images:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    x, labels = jnp.asarray(x), jnp.asarray(labels.ravel())
    network = {"mlp": mlp, "lenet": lenet, "resnet20": resnet20, "resnet18": resnet18, "gpt": gpt}[
        case.network
    ]

    def forward(v: Variables, x: Any) -> Any:
        return network(v, x, case.sizes) if case.sizes else network(v, x)

    first = Variables(None, None, case.training)
    forward(first, x)
    if not case.training:
        run = jax.jit(lambda p, s, x: forward(Variables(p, s, False), x))
        return lambda: run(first.parameters, first.statistics, x).block_until_ready()
    return _training(case, forward, first, x, labels)


def _training(
    case: Case, forward: Callable[..., Any], first: Variables, x: Any, labels: Any
) -> Callable[[], Any]:
    def loss(parameters: dict, statistics: dict) -> Any:
        v = Variables(parameters, statistics, True)
        scores = forward(v, x).reshape(len(labels), -1)
        logs = jax.nn.log_softmax(scores)
        return -jnp.take_along_axis(logs, labels[:, None], 1).mean(), v.seen

    update = _adamw if case.network == "gpt" else _sgd

    def step(parameters: dict, statistics: dict, state: Any) -> Any:
        (value, seen), grads = jax.value_and_grad(loss, has_aux=True)(parameters, statistics)
        parameters, state = update(parameters, grads, state)
        return parameters, seen, state, value

    compiled = jax.jit(step, donate_argnums=(0, 1, 2))
    zeros = jax.tree.map(jnp.zeros_like, first.parameters)
    moments = (zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros(()))
    state = moments if case.network == "gpt" else zeros
    kept = [first.parameters, first.statistics, state]

    def run() -> Any:
        *kept[:], value = compiled(*kept)  # the old ones have been given away
        return value.block_until_ready()

    return run


def _sgd(parameters: dict, grads: dict, momenta: dict) -> Any:
    momenta = jax.tree.map(lambda m, g: 0.9 * m + g, momenta, grads)
    return jax.tree.map(lambda p, m: p - 0.01 * m, parameters, momenta), momenta


def _adamw(parameters: dict, grads: dict, state: Any) -> Any:
    first, second, t = state
    t = t + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)

    def move(p: Any, m: Any, v: Any) -> Any:
        p = p * (1 - 3e-4 * 0.01)
        return p - 3e-4 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return jax.tree.map(move, parameters, first, second), (first, second, t)

"""A network of nano beside the same network in PyTorch: weights, outputs, gradients, training.

A small image network and its peer get the same weights and inputs; then everything that a
training step produces is compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import nano

#: Of two tensors, the norm of the difference relative to the norm of PyTorch's.
#: Sums of thousands of terms, done in another order, layer upon layer: some tens of the
#: dtype's spacing.
TOLERANCE = {"float64": 1e-11, "float32": 1e-5}
#: Gradients in float32 of networks with ReLUs and maxima: where two values are equal but for
#: rounding, the other one may win, and a gradient gains or loses a whole term. PyTorch's own
#: float32 gradients lie up to 0.02 from its float64 ones in these tests. An error in an
#: operator makes them differ by about 1, and float64 shows it in any case.
AT_KINKS = 0.1


def pair(ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Both networks with PyTorch's weights, and running statistics that are not the first."""
    rng = np.random.default_rng(1)
    state = {}
    for name, value in theirs.state_dict().items():
        if "running" in name:
            value = torch.from_numpy(rng.uniform(0.5, 1.5, value.shape).astype(np.float32))
        state[name] = value
    theirs.load_state_dict(state)
    ours.load_state_dict({name: nano.from_numpy(value.numpy()) for name, value in state.items()})
    return ours, theirs


def check_state(ours: Any, theirs: Any) -> None:
    """The names and shapes of weights and buffers, in the same order."""
    here = [(name, tuple(t.shape)) for name, t in ours.state_dict().items()]
    there = [(name, tuple(t.shape)) for name, t in theirs.state_dict().items()]
    assert here == there


def check_forward(ours: Any, theirs: Any, x: np.ndarray) -> None:
    """Outputs in evaluation, then in training, and the running statistics afterwards."""
    for training in (False, True):
        ours.train(training)
        theirs.train(training)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(x))
        with nano.no_grad():
            got = ours(nano.from_numpy(x))
        assert_close(got, expected, TOLERANCE["float32"], f"output, training={training}")
    check_buffers(ours, theirs, TOLERANCE["float32"])


def check_buffers(ours: Any, theirs: Any, tolerance: float) -> None:
    """Running statistics, and how many batches they have seen."""
    there = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        assert_close(buffer, there[name], tolerance, name)


def check_training(
    ours: Any, theirs: Any, x: np.ndarray, labels: np.ndarray, dtype: str, kinks: bool = True
) -> None:
    """Three steps of SGD with momentum: gradients, running statistics, losses, weights.

    Weights are compared where gradients are close, that is, not behind ``kinks`` in float32.
    """
    kinks = kinks and dtype == "float32"
    tolerance = TOLERANCE[dtype]
    if np.issubdtype(x.dtype, np.floating):
        x = x.astype(dtype)
    sides = []
    for m, model in ((nano, ours), (torch, theirs)):
        model.to(getattr(m, dtype)).train()
        sgd = m.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        sides.append((m, model, sgd, m.from_numpy(x), m.from_numpy(labels)))
    there = dict(theirs.named_parameters())
    for i in range(3):
        losses = []
        for m, model, sgd, inputs, targets in sides:
            sgd.zero_grad()
            scores = model(inputs)
            loss = m.nn.functional.cross_entropy(scores.view(-1, scores.shape[-1]), targets)
            loss.backward()
            losses.append(loss.item())
        if i == 0:
            for name, parameter in ours.named_parameters():
                allowed = AT_KINKS if kinks else 10 * tolerance
                assert_close(parameter.grad, there[name].grad, allowed, f"gradient of {name}")
            check_buffers(ours, theirs, tolerance)
        # After the first step, gradients that differ have led to other weights.
        allowed = 1e-2 if kinks and i else 100 * tolerance
        np.testing.assert_allclose(losses[0], losses[1], rtol=allowed)
        for _, _, sgd, _, _ in sides:
            sgd.step()
    if not kinks:
        for name, parameter in ours.named_parameters():
            after = f"{name} after three steps"
            assert_close(parameter.detach(), there[name].detach(), 100 * tolerance, after)


def assert_close(got: Any, expected: Any, tolerance: float, what: str) -> None:
    """The same dtype, and at most ``tolerance`` between them, relative to the norm."""
    assert str(got.dtype).split(".")[-1] == str(expected.dtype).split(".")[-1], what
    a, b = got.numpy().astype(np.float64), expected.numpy().astype(np.float64)
    assert a.shape == b.shape, what
    assert np.isfinite(a).all(), what
    size, difference = np.linalg.norm(b), np.linalg.norm(a - b)
    # The bias of the keys moves no softmax: its gradient is nothing but rounding.
    zero = TOLERANCE["float64" if got.dtype == nano.float64 else "float32"] / 100
    assert difference <= tolerance * size + zero, f"{what}: {difference:.2e} of {size:.2e}"


def images(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels below ten."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, 10, shape[0])

"""The same function as it is and compiled, call after call, and all that both leave compared.

A program replays the operators that eager mode runs, so both must agree bit for bit; but where
loops were generated that add up in another order, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

import nano
from nano.compiler import Compiled
from nano.nn import Module
from nano.optim import Optimizer
from nano.optim.lr_scheduler import LRScheduler

EXACT = 0.0
#: Relative and absolute, for float32: sums of some hundred numbers in another order differ by a
#: few times 6e-8 of the largest, and a step hands that on to the next.
REORDERED = 5e-6


def assert_alike(got: Any, expected: Any, tolerance: float = EXACT, what: str = "it") -> None:
    """The same nest of tensors, arrays and values; tensors with dtype, flags and gradient."""
    assert type(got) is type(expected), f"{what}: {type(got)}, not {type(expected)}"
    if isinstance(expected, nano.Tensor):
        _assert_tensors(got, expected, tolerance, what)
    elif isinstance(expected, np.ndarray):
        _assert_arrays(got, expected, tolerance, what)
    elif isinstance(expected, dict):
        assert list(got) == list(expected), what
        for key in expected:
            assert_alike(got[key], expected[key], tolerance, f"{what}[{key!r}]")
    elif isinstance(expected, (tuple, list)):
        assert len(got) == len(expected), what
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert_alike(a, b, tolerance, f"{what}[{i}]")
    elif isinstance(expected, (Module, Optimizer, LRScheduler)):
        assert_alike(_parts(got), _parts(expected), tolerance, what)
    else:
        assert got == expected or (got != got and expected != expected), what


def _parts(x: Any) -> Any:
    """What a module, an optimizer or a schedule consists of."""
    if isinstance(x, Module):
        return {"training": x.training} | {
            **{k: v.detach() for k, v in x.state_dict().items()},
            **{f"{k}.grad": p.grad for k, p in x.named_parameters()},
        }
    state = x.state_dict()
    return {k: v for k, v in state.items() if not k.startswith("_") or k == "_last_lr"}


def _assert_tensors(got: Any, expected: Any, tolerance: float, what: str) -> None:
    assert got.requires_grad == expected.requires_grad, f"{what}: requires_grad"
    assert got.is_leaf == expected.is_leaf, f"{what}: is_leaf"
    _assert_arrays(got._data, expected._data, tolerance, what)
    if expected.is_leaf:
        assert_alike(got.grad, expected.grad, tolerance, f"{what}.grad")


def _assert_arrays(got: Any, expected: Any, tolerance: float, what: str) -> None:
    assert got.dtype == expected.dtype, f"{what}: {got.dtype}, not {expected.dtype}"
    assert got.shape == expected.shape, f"{what}: {got.shape}, not {expected.shape}"
    if got.strides == expected.strides:
        one, other = (x.ravel(order="K").view(np.uint8) for x in (got, expected))
        if np.array_equal(one, other):
            return
    if got.tobytes() == expected.tobytes():
        return
    if got.dtype.kind == "V":  # bfloat16
        got, expected = got.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=what)


class Counted:
    """A function, and how often it was really run."""

    def __init__(self, function: Callable[..., Any]) -> None:
        calls: list[None] = []

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            calls.append(None)
            return function(*args, **kwargs)

        self.run = run
        self._calls = calls

    @property
    def runs(self) -> int:
        """How many runs there were."""
        return len(self._calls)


def check(
    make: Callable[[], tuple[Callable[..., Any], Any]],
    arguments: Callable[[int], tuple[Any, ...]],
    *,
    steps: int = 20,
    tolerance: float | None = None,
    between: Callable[[int, Any], Any] | None = None,
    outside: Callable[[Any, Any], Any] | None = None,
    kinds: int = 1,
    **options: Any,
) -> Compiled:
    """Compare a function and its compiled twin over some calls.

    Args:
        make: gives the function and the things that it works on: a nest of modules,
            optimizers, tensors. Called for each side, with the same random numbers.
        arguments: of call number ``i``, made anew for each side.
        steps: how many calls.
        tolerance: between numbers, relative and absolute; by default what the program states.
        between: ``between(i, things)`` is done to each side before call ``i``.
        outside: ``outside(result, things)`` is done to each side after each call.
        kinds: how many programs are needed, each of which takes two runs of the function.
        options: of ``nano.compile``.

    Returns:
        The compiled function.
    """
    sides = []
    for _ in range(2):
        nano.manual_seed(1)
        sides.append(make())
    (eager, its), (function, own) = sides
    counted = Counted(function)
    compiled = nano.compile(counted.run, **options)
    random = nano.default_generator
    state = random.get_state()
    margin = EXACT
    for i in range(steps):
        outcomes = []
        for run, things in ((eager, its), (compiled, own)):
            random.set_state(state)
            if between is not None:
                between(i, things)
            given = arguments(i)
            result = run(*given)
            if outside is not None:
                result = result, outside(result, things)
            outcomes.append((result, given, random.get_state()))
        state = outcomes[0][2]
        # What has been rounded otherwise once stays so.
        margin = max(margin, allowed(compiled)) if tolerance is None else tolerance
        what = ("result", "arguments", "random state")
        for name, got, expected in zip(what, outcomes[1], outcomes[0], strict=True):
            assert_alike(got, expected, margin, f"call {i}: {name}")
        assert_alike(own, its, margin, f"call {i}: things")
    assert counted.runs == 2 * kinds, f"the function was run {counted.runs} times"
    return compiled


def allowed(compiled: Compiled) -> float:
    """The tolerance for what the programs so far have done."""
    made = [m for e in compiled._entries.values() for m in e.made]
    return EXACT if all(m.program.exact for m in made) else REORDERED


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> nano.Tensor:
    """Normally distributed numbers."""
    values = np.random.default_rng(seed).standard_normal(shape)
    return nano.from_numpy(np.asarray(values).astype(dtype))

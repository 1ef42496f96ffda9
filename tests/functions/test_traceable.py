"""What passes the hook is all there is: run again with other values, it gives their results.

Every case of every table is recorded once: which Functions ran, on which arrays. Then
``forward`` of each is called again, in that order, with other inputs of the same shapes. A value
that went from one operator to the next by another way (through Python, or copied by NumPy) is
then still the old one, and the result is wrong.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import nano
from nano.autograd import Function
from nano.hook import Call, Read, Write, add_hook, remove_hook
from nano.nn import functional as F

from . import __path__ as folder
from .harness import Case, outputs, to_array


class AnnouncedError(Exception):
    """An operator has said that it reads values."""


class Recording:
    """What a function did, as a list of steps on numbered arrays."""

    def __init__(self, inputs: Sequence[nano.Tensor]) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.places: dict[Any, int] = {}
        self.count = 0
        self.alive: list[Any] = []  # so that no address is used twice
        self.inputs = [self.new(t._data) for t in inputs]

    def new(self, array: np.ndarray) -> int:
        """A number for an array that a step made."""
        self.alive.append(array)
        self.places[_place(array)] = self.count
        self.count += 1
        return self.count - 1

    def known(self, x: Any) -> Any:
        """``("at", number)`` for an array that a step made; anything else as it is."""
        array = x._data if isinstance(x, nano.Tensor) else x
        if isinstance(array, np.ndarray):
            self.alive.append(array)
            number = self.places.get(_place(array))
            return ("is", array) if number is None else ("at", number)
        if isinstance(x, (tuple, list)) and any(isinstance(y, np.ndarray) for y in x):
            return ("all", [self.known(y) for y in x])
        return ("is", x)

    def __call__(self, what: Any, inputs: Any, attributes: Any, proceed: Any) -> Any:
        if isinstance(what, Read):
            raise AnnouncedError(what.name)
        if isinstance(what, Write):
            self.steps.append((None, [self.known(x) for x in inputs], {}, (), [], []))
            return proceed()
        if isinstance(what, Call):
            raise AnnouncedError(what.name)
        if not (isinstance(what, type) and issubclass(what, Function)):
            return proceed()
        given = [self.known(x) for x in inputs]
        named = {k: self.known(x) for k, x in attributes.items()}
        result = proceed()
        several = result if isinstance(result, tuple) else (result,)
        made = [self.new(t._data) for t in several]
        node = next((t._edge[0] for t in several if t._edge is not None), None)
        needs, hidden = (False,) * len(inputs), []
        if node is not None:
            needs = node.needs_input_grad
            found = [(("saved", i), x) for i, x in enumerate(node._saved)]
            found += [((name, None), x) for name, x in vars(node).items() if name[0] != "_"]
            for key, x in found:
                if isinstance(x, np.ndarray) and _place(x) not in self.places:
                    hidden.append((key, self.new(x)))
        self.steps.append((what, given, named, needs, made, hidden))
        return result

    def replay(self, inputs: Sequence[np.ndarray], results: Sequence[nano.Tensor]) -> list[Any]:
        """What ``results`` are for other inputs."""
        env: dict[int, np.ndarray] = dict(zip(self.inputs, inputs, strict=True))

        def value(x: Any) -> Any:
            kind, content = x
            if kind == "all":
                return [value(y) for y in content]
            return env[content] if kind == "at" else content

        for function, given, named, needs, made, hidden in self.steps:
            arrays = [value(x) for x in given]
            if function is None:
                np.copyto(arrays[0], arrays[1], casting="unsafe")
                continue
            ctx = function()
            ctx._edges = [(None, 0, None) if need else None for need in needs]
            result = function.forward(ctx, *arrays, **{k: value(x) for k, x in named.items()})
            several = result if isinstance(result, tuple) else (result,)
            for number, array in zip(made, several, strict=True):
                env[number] = np.asarray(array)
            for (name, i), number in hidden:
                x = ctx._saved[i] if name == "saved" else getattr(ctx, name)
                env[number] = np.asarray(x)
        return [value(self.known(t)) for t in results]


def _place(array: np.ndarray) -> Any:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def record(
    run: Callable[..., list[nano.Tensor]], tensors: Sequence[nano.Tensor]
) -> tuple[Recording, list[nano.Tensor]]:
    recording = Recording(tensors)
    add_hook(recording)
    try:
        return recording, run(*tensors)
    finally:
        remove_hook(recording)


def check(
    run: Callable[..., list[nano.Tensor]],
    before: Sequence[nano.Tensor],
    after: Callable[[], Sequence[nano.Tensor]],
) -> None:
    """What ``run`` recorded with the tensors ``before`` gives, with those ``after``, their result.

    ``after()`` makes them anew at each call, for ``run`` may write into them.
    """
    nano.manual_seed(1)
    recording, results = record(run, before)
    nano.manual_seed(2)
    expected = run(*after())
    nano.manual_seed(2)
    got = recording.replay([t._data for t in after()], results)
    assert len(got) == len(expected)
    for mine, t in zip(got, expected, strict=True):
        assert mine.dtype == t._data.dtype
        np.testing.assert_allclose(mine, to_array(t), rtol=1e-12, atol=1e-12)


# All tables ------------------------------------------------------------------------------


def tables() -> dict[str, Case]:
    """The cases of all tables of this folder, by the names of their files and their own."""
    found = {}
    for info in pkgutil.iter_modules(folder):
        if not info.name.startswith("test_") or info.name == __name__.rsplit(".", 1)[-1]:
            continue
        for thing in vars(import_module(f"{__package__}.{info.name}")).values():
            for c in getattr(thing, "cases", ()) if isinstance(thing, type) else ():
                found[f"{info.name[5:]}: {c.name}"] = c
    return found


CASES = tables()

#: Cases whose operators say that they read values: the shapes of their results depend on them.
READING = {
    f"indexing: {name}"
    for name in (
        *("0-d mask", "0-d tensor", "0-d tensors", "tensor bounds"),
        *("mask", "mask and array", "mask and int", "mask behind", "mask of nothing"),
        *("mask of two dims", "masked_select", "masked_select 0-d"),
    )
}


def with_gradients(case: Case) -> Callable[..., list[nano.Tensor]]:
    """A run of the case that returns its outputs, their gradients, and those of the gradients."""

    def run(*tensors: nano.Tensor) -> list[nano.Tensor]:
        results = outputs(case.call(nano, *tensors))
        wanted = [t for t in tensors if t.requires_grad]
        for order in range(1 + case.gradgrad if case.grad else 0):
            ys = [y for y in results if y.requires_grad]
            if not ys:
                break
            # Weights by place: sums alone have constant gradients.
            weights = [nano.from_numpy(np.cos(np.arange(y.numel())).reshape(y.shape)) for y in ys]
            grads = nano.autograd.grad(
                ys, wanted, weights, create_graph=order < case.gradgrad, allow_unused=True
            )
            results += [g for g in grads if g is not None]
        return results

    return run


def made(arrays: Sequence[np.ndarray], grad: bool) -> list[nano.Tensor]:
    tensors = [nano.tensor(a) for a in arrays]
    return [t.requires_grad_(grad and t.is_floating_point()) for t in tensors]


def dtype_of(case: Case) -> str:
    return "float64" if "float64" in case.dtypes else case.dtypes[0]


def other_inputs(case: Case, before: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Inputs of the same shapes: drawn anew, or turned round where a case names its values."""
    drawn = case.inputs(dtype_of(case), seed=1)
    return [
        np.flip(a).copy() if np.array_equal(a, b) else a for a, b in zip(drawn, before, strict=True)
    ]


@pytest.mark.parametrize("name", [n for n in CASES if n not in READING])
def test_a_case_run_again_with_other_values(name: str) -> None:
    case = CASES[name]
    before = case.inputs(dtype_of(case))
    after = other_inputs(case, before)
    check(with_gradients(case), made(before, case.grad), lambda: made(after, case.grad))


@pytest.mark.parametrize("name", sorted(READING))
def test_a_case_that_reads_values_says_so(name: str) -> None:
    case = CASES[name]
    with pytest.raises(AnnouncedError):
        record(with_gradients(case), made(case.inputs(dtype_of(case)), case.grad))


# What is in no table ---------------------------------------------------------------------


def again(run: Callable[..., Any], before: Sequence[Any], after: Sequence[Any]) -> None:
    """:func:`check` of a function of tensors, given as arrays or lists."""
    check(
        lambda *tensors: outputs(run(*tensors)),
        made([np.array(x) for x in before], False),
        lambda: made([np.array(x) for x in after], False),
    )


def gradient(loss: Callable[..., nano.Tensor]) -> Callable[..., Any]:
    """The loss and its gradient for the first tensor."""

    def run(x: nano.Tensor, *others: nano.Tensor) -> Any:
        x = x.detach().requires_grad_()
        y = loss(x, *others)
        return y, *nano.autograd.grad(y.sum(), x)

    return run


LOGITS = np.linspace(-1.0, 2.0, 12).reshape(4, 3)
WEIGHT = nano.tensor([0.2, 1.0, 3.0], dtype=nano.float64)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_labels_that_do_not_count_are_counted_anew(reduction, smoothing, weight):
    @gradient
    def loss(x, labels):
        return F.cross_entropy(
            x, labels, weight, ignore_index=-1, reduction=reduction, label_smoothing=smoothing
        )

    again(loss, (LOGITS, [0, -1, -1, 2]), (LOGITS[::-1], [1, 2, -1, 0]))


def test_a_product_may_get_a_zero_and_lose_it():
    def twice(x):
        x = x.detach().requires_grad_()
        (first,) = nano.autograd.grad(x.prod(), x, create_graph=True)
        return first, *nano.autograd.grad((first * first).sum(), x)

    full, some = [1.0, 2.0, 3.0], [1.0, 0.0, 3.0]
    again(twice, [full], [some])
    again(twice, [some], [full])


def test_embedding_by_frequency_and_with_limited_norms():
    rows = LOGITS[:, :2]
    by_frequency = gradient(lambda w, i: F.embedding(i, w, scale_grad_by_freq=True).square())
    again(by_frequency, (rows, [0, 0, 3]), (rows, [1, 3, 3]))
    # The weight is an output too: it is written.
    again(lambda w, i: (F.embedding(i, w, max_norm=0.5), w), (rows, [0, 0]), (rows, [3, 1]))


@pytest.mark.parametrize(
    "run",
    [
        lambda x, y: x.index_fill(0, nano.tensor([1]), 2.0),
        lambda x, y: x.clamp(y, 0.5),
        lambda x, y: nano.where((x > 0).to(nano.uint8), x, y),
        lambda x, y: x.long().masked_fill(x > 0, y[0]),
        lambda x, y: x.fill_(y[0]),
        lambda x, y: nano.tensor(x),
        lambda x, y: nano.tensor(x.T, dtype=nano.float32).double(),
        lambda x, y: x.sigmoid().as_strided((2,), (2,), 1),
        lambda x, y: (x * 2)[1:].as_strided((2,), (1,), 0),
        lambda x, y: F.max_pool1d(x[None], 2, return_indices=True),
        lambda x, y: F.adaptive_max_pool1d(x[None], 2, return_indices=True),
        lambda x, y: F.one_hot(x.abs().long(), 5),
        lambda x, y: nano.isclose(x, y, atol=0.5),
    ],
)
def test_other_operators(run):
    again(run, ([1.0, -0.3, 0.8, 2.0], [0.1] * 4), ([-1.0, 3.0, -0.2, 0.4], [2.0, 0.0, 1.0, -1.0]))


@pytest.mark.parametrize(
    "write",
    [
        lambda x, y: x.__setitem__(0, y[0]),
        lambda x, y: x.__setitem__(slice(1, 3), y[1:3]),
        lambda x, y: x.__setitem__(nano.tensor([3, 1]), y[:2]),
        lambda x, y: x.__setitem__(x > 0, 5.0),
        lambda x, y: x[1:].__setitem__(nano.tensor([0, 2]), 7),
        lambda x, y: x.mul_(y).add_(1),
    ],
)
@pytest.mark.parametrize("recorded", [False, True])
def test_what_is_written_in_place(write, recorded):
    def run(x, y):
        x, y = x * 1, y * 1
        if recorded:
            x = x.requires_grad_() * 1
        write(x, y)
        return x.detach() * y

    again(run, ([1.0, -0.3, 0.8, 2.0], [0.1] * 4), ([-1.0, 3.0, -0.2, 0.4], [2.0, 0.0, 1.0, -1.0]))


def test_what_is_saved_before_it_is_written_over():
    @gradient
    def loss(x):
        y = x * 2
        z = y.exp() * y
        z.mul_(z)
        return z

    again(loss, [[0.5, -1.0]], [[0.1, 2.0]])


# Random numbers --------------------------------------------------------------------------

STREAM = nano.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: nano.rand(3),
        lambda x: nano.randn(2, 3, dtype=nano.float64),
        lambda x: nano.rand_like(x),
        lambda x: nano.randn_like(x),
        lambda x: nano.randint(0, 100, (5,)),
        lambda x: nano.randint_like(x, 100),
        lambda x: nano.randperm(9),
        lambda x: nano.uniform(4, low=-1.0, high=3.0),
        lambda x: nano.gaussian(4, mean=5.0, std=2.0),
        lambda x: nano.normal(x, 2.0),
        lambda x: nano.normal(1.0, x),
        lambda x: nano.normal(0.0, 1.0, (3,)),
        lambda x: nano.kaiming_uniform(3, 2),
        lambda x: nano.bernoulli(x),
        lambda x: nano.bernoulli(x, 0.4),
        lambda x: nano.multinomial(x, 2),
        lambda x: nano.multinomial(x, 5, replacement=True),
        lambda x: nano.zeros(5).uniform_(),
        lambda x: nano.zeros(5).normal_(),
        lambda x: (x * 1).bernoulli_(x),
        lambda x: F.dropout(x, 0.5),
        lambda x: F.dropout1d(x.reshape(1, 5, 1), 0.5),
        lambda x: F.scaled_dot_product_attention(*[x.reshape(5, 1)] * 3, dropout_p=0.5),
    ],
)
def test_what_is_drawn_is_drawn_again(draw):
    again(lambda x: (draw(x), nano.rand(1)), [[0.1, 0.9, 0.5, 0.2, 0.8]], [[0.7, 0.3, 0.5, 0.9, 0]])
    recording, _ = record(lambda x: outputs(draw(x)), [nano.full((5,), 0.5)])
    drawing = [step[0] for step in recording.steps if step[0] is not None and step[0].random]
    assert len(drawing) == 1


def test_a_generator_of_ones_own_goes_on():
    recording, results = record(lambda: [nano.rand(3, generator=STREAM)], [])
    twice = [recording.replay([], results)[0] for _ in range(2)]
    assert not np.array_equal(*twice)
    STREAM.manual_seed(0)
    assert np.array_equal(results[0].numpy(), nano.rand(3, generator=STREAM).numpy())
    assert np.array_equal(twice[0], nano.rand(3, generator=STREAM).numpy())


# Reading and refusing --------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda x: nano.nonzero(x),
        lambda x: nano.where(x),
        lambda x: nano.unique(x),
        lambda x: nano.allclose(x, x),
        lambda x: nano.equal(x, x),
        lambda x: x[x > 0],
        lambda x: x[(x > 0).to(nano.uint8)],
        lambda x: x[x.long()[1]],
        lambda x: x.masked_select(x > 0),
        lambda x: F.one_hot(x.long()),
        lambda x: nano.full((2,), x[0]),
        lambda x: nano.arange(x[0]),
        lambda x: nano.tensor([x[0], x[1]]),
        lambda x: nano.nn.init.ones_(x),
        lambda x: nano.manual_seed(0),
        lambda x: nano.get_rng_state(),
        lambda x: nano.Generator(),
        lambda x: setattr(x, "grad", x * 2),
        lambda x: setattr(x, "data", x * 2),
    ],
)
def test_values_that_decide_are_announced(read):
    with pytest.raises(AnnouncedError):
        record(lambda x: outputs(read(x)), [nano.tensor([1.0, 0.0, 2.0])])


@pytest.mark.parametrize(
    ("run", "good", "bad", "error"),
    [
        (lambda i: F.embedding(i, WEIGHT.reshape(3, 1)), [0, 2], [0, -1], IndexError),
        (lambda i: F.one_hot(i, 3), [0, 2], [0, 3], RuntimeError),
        (lambda i: WEIGHT.gather(0, i), [0, 2], [0, -1], IndexError),
        (lambda i: WEIGHT.index_select(0, i), [0, 2], [0, 3], IndexError),
        (lambda i: WEIGHT.scatter(0, i, 1.0), [0, 2], [-1, 2], IndexError),
        (lambda i: WEIGHT.index_add(0, i, WEIGHT[:2]), [0, 2], [-3, 2], IndexError),
        (lambda i: nano.take_along_dim(WEIGHT, i, 0), [0, -3], [0, -4], IndexError),
        (lambda i: WEIGHT[i], [0, -3], [0, 3], IndexError),
        (lambda i: F.nll_loss(nano.zeros(2, 3), i), [0, -100], [0, 3], IndexError),
        (lambda x: F.binary_cross_entropy(x, x), [0.0, 1.0], [0.5, 1.5], RuntimeError),
        (lambda x: nano.bernoulli(x), [0.0, 1.0], [0.5, 1.5], RuntimeError),
        (lambda x: nano.multinomial(x, 1), [0.0, 1.0], [0.5, -1.5], RuntimeError),
        (lambda x: nano.normal(0.0, x), [0.0, 1.0], [0.5, -1.5], RuntimeError),
        (
            lambda x: nano.ones(2).long().masked_fill(x > 0, x[0]),
            [1.0, 2.0],
            [np.nan, 1],
            RuntimeError,
        ),
    ],
)
def test_values_that_are_refused_are_refused_again(run, good, bad, error):
    recording, results = record(lambda x: outputs(run(x)), [nano.tensor(good)])
    recording.replay([np.array(good)], results)
    with pytest.raises(error):
        run(nano.tensor(bad))
    with pytest.raises(error):
        recording.replay([np.array(bad)], results)


def test_gradients_of_an_embedding_are_not_put_outside_of_the_table():
    backward = next(s for s in Function.__subclasses__() if s.__name__ == "EmbeddingBackward")
    with pytest.raises(IndexError):
        backward.forward(backward(), np.ones((1, 2)), np.array([3]), rows=3, padding_idx=-1)


@pytest.mark.parametrize("change", ["content", "array"])
def test_the_order_kept_of_a_weight_is_not_taken_for_another(change):
    """A convolution run again gets the weight's new values, not those that it reordered once."""
    x = nano.rand(2, 16, 8, 8, generator=STREAM)
    weight, other = (nano.rand(32, 16, 5, 5, generator=STREAM) for _ in range(2))
    seen = []

    def hook(what, inputs, attributes, proceed):
        seen.append((what, attributes))
        return proceed()

    add_hook(hook)
    try:
        nano.conv2d(x, weight)
    finally:
        remove_hook(hook)
    ((function, attributes),) = seen
    assert attributes["token"] is not None
    array = weight._data
    if change == "content":
        weight.copy_(other)
    else:
        array = other._data
    ctx = function()
    ctx._edges = [None] * 3
    got = function.forward(ctx, x._data, array, None, **attributes)
    np.testing.assert_allclose(got, nano.conv2d(x, other).numpy(), rtol=1e-4)


def test_a_cast_that_was_kept_is_made_again_for_who_looks_on():
    layer, x = nano.nn.Linear(4, 4, bias=False), nano.ones(1, 4)
    with nano.autocast():
        layer(x)
        recording, _ = record(lambda: [layer(layer(x))], [])
        seen = [s[0].__name__ for s in recording.steps]
    assert seen.count("To") == 2  # the weight once, x once


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (lambda ps: nano.nn.utils.clip_grad_norm_(ps, 1.0), [0.6, 0.8]),
        (lambda ps: nano.nn.utils.clip_grad_value_(ps, 3.5), [3.0, 3.5]),
    ],
)
def test_gradients_are_clipped_as_one_call(clip, expected):
    p = nano.tensor([0.0, 0.0], requires_grad=True)
    p.grad = nano.tensor([3.0, 4.0])
    calls = []

    def hook(what, inputs, attributes, proceed):
        calls.append((what, inputs))
        return proceed()

    add_hook(hook)
    try:
        clip(q for q in (p,))
    finally:
        remove_hook(hook)
    ((what, inputs),) = calls
    assert isinstance(what, Call)
    assert what.kind == "change"
    assert inputs == (p,)
    np.testing.assert_allclose(p.grad.numpy(), expected, rtol=1e-5)
    p.grad = nano.tensor([30.0, 40.0])
    what.function()
    assert abs(p.grad.numpy()).max() <= 3.5

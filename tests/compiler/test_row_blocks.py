"""Chains of operators that go through blocks of rows."""

import numpy as np
import pytest

import nano
from nano import nn, optim
from nano.backends import is_available
from nano.compiler.row_blocks import RowBlocks
from nano.nn import functional as F

from .both import REORDERED, check, normal

pytestmark = pytest.mark.skipif(
    not (is_available("fused") and is_available("onednn")), reason="Numba or oneDNN is not there"
)

#: Not divisible by the threads or the rows of a block.
ROWS = 1031


class Block(nn.Module):
    """What stands between two attentions: a projection, a residual, and a layer of GELU."""

    def __init__(self, width=96, hidden=144, activation=None, bias=True):
        super().__init__()
        self.first = nn.Linear(width, width, bias=bias)
        self.norm = nn.LayerNorm(width)
        layers = [nn.Linear(width, hidden, bias=bias), activation or nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, width, bias=bias))

    def forward(self, x):
        x = x + self.first(x)
        return x + self.mlp(self.norm(x))


def training(**options):
    """A whole step of such a block, and what it works on."""
    net = Block(**options)
    moving = optim.SGD(net.parameters(), lr=0.1)

    def step(x, y):
        moving.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        moving.step()
        return loss.detach()

    return step, [net, moving]


def batch(i, *shape):
    shape = shape or (ROWS, 96)
    return normal(*shape, seed=i), normal(*shape, seed=i + 100)


def chains(compiled):
    graphs = [part.graph for part in compiled._program().parts]
    return [n for g in graphs for n in g.nodes if isinstance(n, RowBlocks)]


def members(chain):
    return [m.name for m in chain.members]


def test_a_step():
    compiled = check(training, batch, steps=4, tolerance=REORDERED, without="native")
    forward, backward = chains(compiled)
    assert members(forward).count("Linear") == 3
    assert {"LayerNorm", "Gelu", "Add"} <= {*members(forward)}
    # A data and a weight gradient of each layer; x needs none.
    assert members(backward).count("MatMul") == 5
    assert {"LayerNormBackward", "GeluBackward", "Add", "Sum"} <= {*members(backward)}
    left = {n.name for n in compiled.graph().nodes}
    assert not left & {"Linear", "MatMul", "LayerNorm", "LayerNormBackward", "Gelu"}
    row = next(r for r in compiled.report(*batch(0)).rows if r.name.startswith("Rows["))
    assert row.note.startswith(f"by blocks of {ROWS} rows: 3 Linear")
    assert "# Gelu" in compiled.source()


@pytest.mark.parametrize(
    "options",
    [
        {"activation": nn.ReLU()},
        pytest.param({"activation": nn.Tanh()}, marks=pytest.mark.slow),
        pytest.param({"activation": nn.GELU(approximate="tanh")}, marks=pytest.mark.slow),
        {"bias": False},
        pytest.param({"hidden": 128}, marks=pytest.mark.slow),
        {"hidden": 129},  # no whole vectors
    ],
    ids=str,
)
def test_layers(options):
    compiled = check(
        lambda: training(**options), batch, steps=3, tolerance=REORDERED, without="native"
    )
    assert len(chains(compiled)) == 2


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((512, 96), marks=pytest.mark.slow),
        (4, 257, 96),
        (2, 3, 173, 96),
        pytest.param((4096, 96), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_shapes(shape):
    compiled = check(
        training, lambda i: batch(i, *shape), steps=3, tolerance=REORDERED, without="native"
    )
    assert len(chains(compiled)) == 2
    assert {c.rows for c in chains(compiled)} == {int(np.prod(shape[:-1]))}


@pytest.mark.parametrize("count", [1, 3])
def test_threads(count):
    before = nano.get_num_threads()
    nano.set_num_threads(count)
    try:
        compiled = check(training, batch, steps=3, tolerance=REORDERED, without="native")
    finally:
        nano.set_num_threads(before)
    assert chains(compiled)


def test_gradients_of_the_input():
    """The derivative outside of the function: two programs, and what lies between is kept."""
    for i in range(4):
        if not i:
            nano.manual_seed(0)
            net = Block()
            compiled = nano.compile(net.__call__, without="native")
        x = normal(ROWS, 96, seed=i)
        grads = []
        for function in (net, compiled):
            given = x.clone().requires_grad_()
            net.zero_grad()
            function(given).square().mean().backward()
            grads.append([given.grad, *(p.grad for p in net.parameters())])
        for a, b in zip(*grads, strict=True):
            np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=REORDERED, atol=REORDERED)
    assert chains(compiled)


def test_without_gradients_nothing_between_is_kept():
    net = Block()

    def make():
        return nano.no_grad()(lambda x: net(x)), []

    compiled = check(make, lambda i: batch(i)[:1], steps=3, tolerance=REORDERED, without="native")
    (chain,) = chains(compiled)
    assert len(chain.outputs) == 1


def test_attention_parts_chains():
    """What follows attention begins another chain; its three gradients are put side by side."""
    width, heads = 96, 3

    def make():
        norm, qkv, out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        layers = nn.Sequential(nn.Linear(width, width), norm, qkv, out)

        def step(x, y):
            layers.zero_grad()
            n, t, c = x.shape
            z = layers[0](x)
            parts = qkv(norm(z)).split(width, dim=2)
            q, k, v = (p.view(n, t, heads, c // heads).transpose(1, 2) for p in parts)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            z = z + out(a.transpose(1, 2).reshape(n, t, c))
            F.mse_loss(z, y).backward()
            return z.detach()

        return step, [layers]

    compiled = check(
        make, lambda i: batch(i, 8, 70, 96), steps=3, tolerance=REORDERED, without="native"
    )
    found = [members(c) for c in chains(compiled)]
    assert not any("Attention" in names for names in found)
    assert any("Cat" in names for names in found)


@pytest.mark.parametrize("made", [False, True], ids=["of the input", "of a result"])
@pytest.mark.parametrize("used", [lambda v: v, lambda v: v.cumsum(0)], ids=["returned", "read"])
def test_views_that_others_use(made, used):
    """A view of what is there before is no result; one of what a chain makes comes out of it."""

    def make():
        first, second = nn.Linear(96, 96), nn.Linear(96, 96)

        def function(x):
            if made:
                h = first(x)
                view = h.reshape(-1, 96)
            else:
                view = x.reshape(-1, 96)
                h = first(view)
            return second(h.relu()), used(view)

        return nano.no_grad()(function), []

    compiled = check(
        make,
        lambda i: (normal(4, 257, 96, seed=i),),
        steps=3,
        tolerance=REORDERED,
        without="native",
    )
    assert len(chains(compiled)) == 1


def test_sums_of_many_rows():
    """Sums of columns keep their digits; one float32 sum of 60,000 numbers would not."""
    first, second = nn.Linear(96, 96), nn.Linear(96, 96)

    def step(x, g):
        first.zero_grad()
        second.zero_grad()
        (second(first(x)) * g).sum().backward()

    compiled = nano.compile(step, without="native")
    x, g = nano.ones(60_000, 96) * 0.1, nano.ones(60_000, 96) * 0.7
    for _ in range(3):
        compiled(x, g)
    assert any("Sum" in members(c) for c in chains(compiled))
    wanted = (second.weight.detach().numpy() * np.float32(0.7)).astype(np.float64).sum(0) * 60_000
    # Each row's product has roundings of its own.
    np.testing.assert_allclose(first.bias.grad.numpy(), wanted, rtol=1e-5, atol=1e-2)
    # 128 are added up in float32.
    np.testing.assert_allclose(second.bias.grad.numpy(), 0.7 * 60_000, rtol=2e-6)


def test_nan_spreads_within_its_row():
    def make():
        net = Block()
        return nano.no_grad()(lambda x: net(x)), []

    step, _ = make()
    compiled = nano.compile(step, without="native")
    x = normal(ROWS, 96)
    for _ in range(3):
        compiled(x)
    assert chains(compiled)
    x[77, 5] = np.nan
    rows = np.isnan(compiled(x).numpy()).any(1)
    assert rows[77]
    assert rows.sum() == 1


def test_results_own_their_memory():
    step, (net, _) = training()
    compiled = nano.compile(step, without="native")
    for i in range(4):
        compiled(*batch(i))
    assert chains(compiled)
    for name, p in net.named_parameters():
        assert p.grad._data.base is None, name


def test_arrays_that_lie_otherwise():
    """A kernel of another backend may lay out its result otherwise than it was traced."""
    compiled = check(training, batch, steps=3, tolerance=REORDERED, without="native")
    chain = chains(compiled)[1]
    rng = np.random.default_rng(0)
    arrays = [
        v.content._data if v.kind == "captured" else rng.random(v.shape, np.float32)
        for v in chain.inputs
    ]
    wanted = chain.run(*arrays)
    others = [
        x if v.kind == "captured" else np.ascontiguousarray(x.T).T
        for v, x in zip(chain.inputs, arrays, strict=True)
    ]
    for a, b in zip(chain.run(*others), wanted, strict=True):
        # Of 1,031 numbers between 0 and 1 and larger, added up.
        np.testing.assert_allclose(a, b, rtol=REORDERED, atol=REORDERED * 100)


@pytest.mark.parametrize(
    "why",
    ["few rows", "large matrices", "small matrices", "float64", "one product", "left out"],
)
def test_left_alone(why):
    rows, width, hidden = ROWS, 96, 144
    rows = 300 if why == "few rows" else rows
    width, hidden = {"large matrices": (600, 600), "small matrices": (32, 32)}.get(
        why, (width, hidden)
    )
    net = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
    net = net[0] if why == "one product" else net
    x = normal(rows, width)
    if why == "float64":
        net, x = net.double(), x.double()
    without = ["native", "row_blocks"] if why == "left out" else ["native"]
    compiled = nano.compile(nano.no_grad()(lambda x: net(x).exp()), without=without)
    for _ in range(3):
        compiled(x)
    assert not chains(compiled)


def test_rounded_products_are_left_alone():
    nano.set_float32_matmul_precision("medium")
    try:
        step, _ = training()
        compiled = nano.compile(step, without="native")
        for i in range(3):
            compiled(*batch(i))
        assert not chains(compiled)
    finally:
        nano.set_float32_matmul_precision("highest")


def test_a_parameter_that_moves_in_between():
    """Rows before a step use the weights before it, and rows behind it those behind it."""

    def make():
        net = nn.Sequential(nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 96))
        moving = optim.SGD(net.parameters(), lr=0.1)

        def step(x, y):
            losses = []
            for _ in range(2):
                moving.zero_grad()
                loss = F.mse_loss(net(x), y)
                loss.backward()
                moving.step()
                losses.append(loss.detach())
            return losses, net(x).detach()

        return step, [net, moving]

    compiled = check(make, batch, steps=3, tolerance=REORDERED, without="native")
    assert len(chains(compiled)) >= 3


def test_threads_may_run_it_at_once():
    from concurrent.futures import ThreadPoolExecutor

    net = Block()
    compiled = nano.compile(nano.no_grad()(lambda x: net(x)), without="native")
    inputs = [normal(ROWS, 96, seed=i) for i in range(8)]
    expected = [compiled(x) for x in inputs]
    assert chains(compiled)
    with ThreadPoolExecutor(3) as pool:
        for got, wanted in zip(pool.map(compiled, inputs), expected, strict=True):
            np.testing.assert_allclose(got.numpy(), wanted.numpy(), REORDERED, REORDERED)


def test_a_normalisation_and_a_product_are_worth_a_chain():
    norm, layer = nn.LayerNorm(96), nn.Linear(96, 144)

    def make():
        return nano.no_grad()(lambda x: layer(norm(x))), []

    compiled = check(make, lambda i: batch(i)[:1], steps=3, tolerance=REORDERED, without="native")
    (chain,) = chains(compiled)
    assert members(chain) == ["LayerNorm", "Linear"]

"""Guards: what they ask, and what they leave alone."""

import functools

import numpy as np

import nano
from nano import nn
from nano.compiler.guards import Guards, signature

FACTOR = 2.0


class Settings:
    rate = 0.5

    def __init__(self):
        self.scale = 3.0
        self.unused = 0

    def apply(self, x):
        return x * self.scale * self.rate * FACTOR


def guards(function, **others):
    return Guards(function, [], **others)


def test_nothing_changes():
    settings = Settings()
    g = guards(settings.apply)
    assert g.holds()
    settings.unused = 1
    assert g.holds()
    assert g.broken() is None


def test_attributes_and_globals(monkeypatch):
    settings = Settings()
    g = guards(settings.apply)
    settings.scale = 4.0
    assert not g.holds()
    assert "scale" in g.broken().what
    settings.scale = 3.0
    assert g.holds()
    monkeypatch.setattr(f"{__name__}.FACTOR", 5.0)
    assert not g.holds()
    assert g.broken().what == "FACTOR"


def test_attributes_of_classes(monkeypatch):
    g = guards(lambda x: x * Settings.rate)
    monkeypatch.setattr(Settings, "rate", 0.25)
    assert not g.holds()


def test_partials_and_callables():
    inner = [1.0]
    g = guards(functools.partial(lambda a, x: x * a[0], inner))
    assert g.holds()
    inner[0] = 2.0
    assert not g.holds()

    class Call:
        def __init__(self):
            self.scale = 1.0

        def __call__(self, x):
            return x * self.scale

    call = Call()
    g = guards(call)
    call.scale = 2.0
    assert not g.holds()


def test_nan_and_arrays_and_dicts():
    nothing, array, table = float("nan"), np.zeros(3), {"a": [1, {"b": 2}]}
    g = guards(lambda x: (x * nothing, array, table))
    assert g.holds()
    array[1] = np.nan
    assert not g.holds()
    array[1] = 0
    table["a"][1]["b"] = 3
    assert not g.holds()
    assert "['b']" in g.broken().what


def test_lists_may_grow_where_they_grew_before():
    history = []
    function = lambda x: history.append(x)  # noqa: E731
    g = guards(function)
    history.append(1)
    assert g.broken() is None
    g = guards(function, growing=g.growing())
    history.append(2)
    assert g.holds()


def test_cycles_end():
    loop = {}
    loop["self"] = loop
    first, second = Settings(), Settings()
    first.scale, second.scale = second, first
    assert guards(lambda x: (loop, first.scale)).holds()


def test_layers():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    g = guards(lambda x: net(x))
    assert g.holds()
    net[1].p = 0.25
    assert not g.holds()
    net[1].p = 0.5
    net[0].extra = 1
    assert not g.holds()
    del net[0].extra
    assert g.holds()
    net[1].eval()
    assert not g.holds()


def test_an_optimizers_rates_are_free_unless_they_are_named():
    optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=0.1)
    free = guards(lambda: optimizer.step())
    named = guards(lambda: optimizer.param_groups[0]["lr"])
    optimizer.param_groups[0]["lr"] = 0.2
    assert free.holds()
    assert not named.holds()


def test_signatures():
    x, y = nano.ones(4), nano.ones(4)
    plain = signature([x, y, 1, "a"])
    assert plain == signature([nano.zeros(4), nano.zeros(4), 1, "a"])
    assert hash(plain) == hash(signature([y, x, 1, "a"]))
    for other in (
        [x, x, 1, "a"],
        [x, y, 1.0, "a"],
        [x, y, True, "a"],
        [x, y.double(), 1, "a"],
        [x, nano.ones(5), 1, "a"],
        [x, nano.ones(8)[::2], 1, "a"],
        [x, nano.ones(4, requires_grad=True), 1, "a"],
        [x, x.view(4), 1, "a"],
    ):
        assert signature(other) != plain
    assert signature([x[:2], x[:2]]) != signature([x[:2], x[1:3]])
    with nano.no_grad():
        assert signature([x, y, 1, "a"]) != plain
    with nano.autocast(dtype=nano.bfloat16):
        assert signature([x, y, 1, "a"]) != plain

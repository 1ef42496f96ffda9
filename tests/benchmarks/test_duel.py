"""Sides are measured in turn, within a budget, each in a process of its own."""

import time

from benchmarks.duel import Side, in_turn


class Pretended:
    """A side that notes when it was asked."""

    def __init__(self, name, log, takes=0.0):
        self.name, self.log, self.takes = name, log, takes

    def measure(self, case, seconds):
        self.log.append(self.name)
        time.sleep(self.takes)
        return float(len(self.log))


def test_in_turn():
    log = []
    taken = in_turn([Pretended(n, log) for n in "AB"], "case", rounds=3, seconds=0.1, warm_up=1)
    assert log == list("ABABABAB")
    assert taken == [(3.0, 4.0), (5.0, 6.0), (7.0, 8.0)]


def test_a_budget_cuts_rounds_but_leaves_three():
    log = []
    taken = in_turn([Pretended("A", log, 0.05)], "case", rounds=50, seconds=0.1, budget=0.01)
    assert len(taken) == 3
    assert len(log) == 5  # and two to warm up


def test_a_budget_is_used():
    log = []
    taken = in_turn([Pretended("A", log, 0.02)], "case", rounds=500, seconds=0.1, budget=0.5)
    assert 3 < len(taken) < 30


def test_a_process_measures():
    side = Side("benchmarks.steps", "nano")
    try:
        assert 1e-6 < side.measure("mlp-small", 0.05) < 1
    finally:
        side.close()
    assert side.process.returncode == 0

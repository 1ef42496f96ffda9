"""Which steps are noted: PyTorch's own schedule is the oracle."""

import itertools
import warnings

import pytest
import torch

import nano
from nano import profiler


def both(**arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns where there is no warm-up
        return profiler.schedule(**arguments), torch.profiler.schedule(**arguments)


@pytest.mark.parametrize(
    ("wait", "warmup", "active"), list(itertools.product((0, 2), (0, 1), (1, 3)))
)
@pytest.mark.parametrize(
    ("repeat", "skip", "skip_wait"), [(0, 0, 0), (2, 0, 0), (1, 3, 0), (2, 1, 1)]
)
def test_actions(wait, warmup, active, repeat, skip, skip_wait):
    ours, theirs = both(
        wait=wait, warmup=warmup, active=active, repeat=repeat, skip_first=skip,
        skip_first_wait=skip_wait,
    )  # fmt: skip
    assert [ours(i).name for i in range(25)] == [theirs(i).name for i in range(25)]


@pytest.mark.parametrize("wrong", [{"wait": -1}, {"warmup": -1}, {"active": 0}, {"repeat": -1}])
def test_nonsense(wrong):
    with pytest.raises(ValueError, match="active must be positive"):
        profiler.schedule(**{"wait": 0, "warmup": 0, "active": 1, **wrong})


@pytest.mark.parametrize("arguments", [{"wait": 1, "warmup": 1, "active": 2, "repeat": 2},
                                       {"wait": 0, "warmup": 0, "active": 3},
                                       {"wait": 2, "warmup": 0, "active": 1}])  # fmt: skip
def test_cycles_as_pytorch(arguments):
    def run(framework, when):
        ready = []

        def note(prof):
            # PyTorch shows the steps' numbers in the trace, but not in events().
            steps = sum(e.name.startswith("ProfilerStep") for e in prof.events())
            ready.append((prof.step_num, steps))

        with framework.profiler.profile(schedule=when, on_trace_ready=note) as prof:
            for _ in range(8):
                framework.ones(2).exp()
                prof.step()
        return ready

    ours, theirs = both(**arguments)
    assert run(nano, ours) == run(torch, theirs)


def test_only_the_steps_of_a_cycle_are_noted():
    counts = []
    with profiler.profile(
        schedule=profiler.schedule(wait=1, warmup=0, active=2, repeat=2),
        on_trace_ready=lambda p: counts.append({r.key: r.count for r in p.key_averages()}),
    ) as prof:
        for step in range(9):
            for _ in range(step):
                nano.ones(2).exp()
            prof.step()
    # Steps 1 and 2, then 4 and 5.
    assert counts == [
        {"ProfilerStep*": 2, "Exp": 3, "exp": 3},
        {"ProfilerStep*": 2, "Exp": 9, "exp": 9},
    ]
    assert {r.key: r.count for r in prof.key_averages()} == counts[1]
    assert not nano.hook.hooks


def test_operators_lie_in_their_step():
    with profiler.profile(schedule=profiler.schedule(wait=0, warmup=0, active=2, repeat=1)) as prof:
        for _ in range(2):
            nano.ones(2).exp()
            prof.step()
    parents = [e.parent.name for e in prof.events() if e.name == "Exp"]
    assert parents == ["ProfilerStep#0", "ProfilerStep#1"]


def test_steps_without_a_schedule():
    with profiler.profile() as prof:
        nano.ones(2).exp()
        prof.step()
        nano.ones(2).log()
    assert [e.name for e in prof.events()] == ["Exp", "exp", "Log", "log"]
    assert prof.step_num == 1


def test_nothing_was_noted():
    with profiler.profile(schedule=profiler.schedule(wait=5, warmup=0, active=1)) as prof:
        nano.ones(2).exp()
    with pytest.raises(RuntimeError, match="nothing to report"):
        prof.events()

"""Schedules against PyTorch: the same rates and momentums over 100 epochs, the same states."""

import copy
import math
import pickle
import re
import warnings

import numpy as np
import pytest
import torch

import nano


def named(x):
    """As text, without the addresses of functions, which are others in each process."""
    return re.sub(" at 0x[0-9a-f]+", "", str(x))


TABLE = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("StepLR", {"step_size": 1}),
    ("MultiStepLR", {"milestones": [3, 20, 20, 50], "gamma": 0.5}),
    ("MultiStepLR", {"milestones": []}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.5, "total_iters": 10}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 30}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 40}),
    ("ExponentialLR", {"gamma": 0.95}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 50, "power": 2.5}),
    ("CosineAnnealingLR", {"T_max": 100}),
    ("CosineAnnealingLR", {"T_max": 13, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 7}),
    ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 2, "eta_min": 0.01}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 0.9**epoch}),
    ("MultiplicativeLR", {"lr_lambda": lambda epoch: 1 - 0.1 / epoch}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 101}),
    ("OneCycleLR", {"max_lr": 0.5, "epochs": 10, "steps_per_epoch": 11, "pct_start": 0.1}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 120, "three_phase": True}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 120, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 120, "cycle_momentum": False}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 7}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 7, "mode": "triangular2"}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "step_size_down": 9}),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 1, "step_size_up": 9, "mode": "exp_range", "gamma": 0.9},
    ),
]

#: What a Tensor's rounding leaves: the same formulas in the same order differ not at all.
EXACT = 1e-14


def make(m, name, options, kind="SGD", **more):
    """An optimizer with two groups, and a schedule of it."""
    a, b = m.ones(1, requires_grad=True), m.ones(1, requires_grad=True)
    extra = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = getattr(m.optim, kind)(
        [{"params": [a]}, {"params": [b], "lr": 0.1}], lr=0.4, **extra
    )
    return optimizer, getattr(m.optim.lr_scheduler, name)(optimizer, **options, **more)


def run(optimizer, schedule, epochs):
    """All that the schedule sets, epoch by epoch."""
    seen = []
    for _ in range(epochs):
        optimizer.step()
        schedule.step()
        groups = optimizer.param_groups
        assert schedule.get_last_lr() == [g["lr"] for g in groups]
        seen.append([[g["lr"], g.get("momentum", 0), *g.get("betas", ())] for g in groups])
    return np.array(seen)


@pytest.mark.parametrize(("name", "options"), TABLE, ids=named)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_hundred_epochs_equal_pytorch(name, options, kind):
    mine, other = make(nano, name, options, kind), make(torch, name, options, kind)
    np.testing.assert_allclose(mine[1].get_last_lr(), other[1].get_last_lr(), rtol=EXACT)
    ours, theirs = run(*mine, 100), run(*other, 100)
    np.testing.assert_allclose(ours, theirs, rtol=EXACT, atol=1e-18)
    mine, other = mine[1].state_dict(), other[1].state_dict()
    other.pop("_scale_fn_ref", None)
    assert set(mine) == set(other)
    for key, value in other.items():
        if key == "_last_lr":
            np.testing.assert_allclose(mine[key], value, rtol=EXACT, atol=1e-18)
        else:
            assert mine[key] == value, key


@pytest.mark.parametrize(("name", "options"), TABLE, ids=named)
def test_a_state_of_pytorch_is_gone_on_from(name, options):
    optimizer, schedule = make(torch, name, options)
    run(optimizer, schedule, 10)
    state = copy.deepcopy(schedule.state_dict())
    again, resumed = make(nano, name, options)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(state)
    ours, theirs = run(again, resumed, 20), run(optimizer, schedule, 20)
    np.testing.assert_allclose(ours, theirs, rtol=EXACT, atol=1e-18)


@pytest.mark.parametrize(("name", "options"), TABLE, ids=named)
def test_resuming_changes_nothing(name, options):
    optimizer, schedule = make(nano, name, options)
    whole = run(optimizer, schedule, 30)
    optimizer, schedule = make(nano, name, options)
    run(optimizer, schedule, 10)
    kept = pickle.loads(pickle.dumps(schedule.state_dict()))
    again, resumed = make(nano, name, options)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(kept)
    np.testing.assert_array_equal(run(again, resumed, 20), whole[10:])


@pytest.mark.parametrize(("name", "options"), TABLE, ids=named)
def test_going_on_from_last_epoch_equals_pytorch(name, options):
    rates = []
    for m in (nano, torch):
        optimizer, schedule = make(m, name, options)
        run(optimizer, schedule, 7)
        resumed = getattr(m.optim.lr_scheduler, name)(optimizer, **options, last_epoch=7)
        first = resumed.get_last_lr()
        rates.append(np.append(run(optimizer, resumed, 20)[:, :, 0].ravel(), first))
    np.testing.assert_allclose(*rates, rtol=EXACT, atol=1e-18)


@pytest.mark.parametrize(("name", "options"), TABLE, ids=named)
def test_an_epoch_given_to_step_equals_pytorch(name, options):
    rates = []
    for m in (nano, torch):
        optimizer, schedule = make(m, name, options)
        optimizer.step()
        seen = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for epoch in (1, 17, 4, 60):
                schedule.step(epoch)
                seen.append(schedule.get_last_lr())
            schedule.step()
        rates.append([*seen, schedule.get_last_lr()])
    np.testing.assert_allclose(*rates, rtol=EXACT, atol=1e-18)


def test_a_fraction_of_an_epoch():
    rates = []
    for m in (nano, torch):
        _, schedule = make(m, "CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2})
        seen = []
        for batch in range(60):
            schedule.step(batch / 4)
            seen.append(schedule.get_last_lr())
        rates.append(seen)
    np.testing.assert_allclose(*rates, rtol=EXACT)


# Combined -------------------------------------------------------------------------------


def warm_up_and_cosine(m):
    optimizer = m.optim.SGD([m.ones(1, requires_grad=True)], lr=0.4)
    s = m.optim.lr_scheduler
    parts = [
        s.LinearLR(optimizer, start_factor=0.1, total_iters=5),
        s.CosineAnnealingLR(optimizer, T_max=60),
        s.ExponentialLR(optimizer, 0.9),
    ]
    return optimizer, s.SequentialLR(optimizer, parts, milestones=[5, 65])


def chained(m):
    optimizer = m.optim.SGD([m.ones(1, requires_grad=True)], lr=0.4)
    s = m.optim.lr_scheduler
    parts = [s.ConstantLR(optimizer, 0.1, 10), s.ExponentialLR(optimizer, 0.95)]
    return optimizer, s.ChainedScheduler(parts)


def nested(m):
    optimizer, chain = chained(m)
    s = m.optim.lr_scheduler
    return optimizer, s.SequentialLR(optimizer, [chain, s.StepLR(optimizer, 10)], [20])


def begins_with_the_second(m):
    optimizer = m.optim.SGD([m.ones(1, requires_grad=True)], lr=0.4)
    s = m.optim.lr_scheduler
    parts = [s.ConstantLR(optimizer, 0.1, 10), s.ExponentialLR(optimizer, 0.95)]
    return optimizer, s.SequentialLR(optimizer, parts, [0])


COMBINED = [warm_up_and_cosine, chained, nested, begins_with_the_second]


@pytest.mark.parametrize("build", COMBINED)
def test_combined_schedules_equal_pytorch(build):
    with warnings.catch_warnings():
        # A chain inside begins by a step(), and finds that the optimizer has not moved.
        warnings.simplefilter("ignore", UserWarning)
        mine, other = build(nano), build(torch)
    assert mine[1].get_last_lr() == pytest.approx(other[1].get_last_lr(), rel=EXACT)
    np.testing.assert_allclose(run(*mine, 100), run(*other, 100), rtol=EXACT, atol=1e-18)
    ours, theirs = mine[1].state_dict(), other[1].state_dict()
    assert set(ours) == set(theirs)
    assert [set(part) for part in ours["_schedulers"]] == [
        set(part) for part in theirs["_schedulers"]
    ]


@pytest.mark.parametrize("build", [warm_up_and_cosine, chained])
def test_combined_schedules_resume(build):
    optimizer, schedule = build(nano)
    whole = run(optimizer, schedule, 90)
    optimizer, schedule = build(nano)
    run(optimizer, schedule, 30)
    again, resumed = build(nano)
    kept = copy.deepcopy(schedule.state_dict())
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(kept)
    np.testing.assert_array_equal(run(again, resumed, 60), whole[30:])


# On a plateau ---------------------------------------------------------------------------


PLATEAU = [
    {},
    {"patience": 2, "factor": 0.5},
    {"patience": 1, "cooldown": 3, "min_lr": 1e-2},
    {"patience": 1, "mode": "max", "threshold": 0.1},
    {"patience": 1, "threshold_mode": "abs", "threshold": 0.05},
    {"patience": 1, "mode": "max", "threshold_mode": "abs", "threshold": 0.05},
    {"patience": 0, "min_lr": [0.1, 0.01], "eps": 1e-3},
]


@pytest.mark.parametrize("options", PLATEAU, ids=str)
def test_reduce_on_plateau_equals_pytorch(options):
    losses = np.cumsum(np.random.default_rng(0).normal(size=100)) + 3
    losses[40] = math.nan
    rates, states = [], []
    for m in (nano, torch):
        _, schedule = make(m, "ReduceLROnPlateau", options)
        seen = [schedule.get_last_lr()]
        for loss in losses:
            schedule.step(m.tensor(loss))
            seen.append(schedule.get_last_lr())
        rates.append(seen)
        states.append(schedule.state_dict())
    np.testing.assert_allclose(*rates, rtol=EXACT)
    assert states[0] == states[1]
    _, resumed = make(nano, "ReduceLROnPlateau", {})
    resumed.load_state_dict(states[1])
    assert resumed.state_dict() == states[0]


def test_a_group_added_later():
    optimizer, schedule = make(nano, "ReduceLROnPlateau", {"patience": 0, "min_lr": [0.0, 0.0]})
    optimizer.add_param_group({"params": [nano.ones(1, requires_grad=True)]})
    schedule.step(1.0)
    with pytest.raises(RuntimeError, match="3 groups, but min_lr 2"):
        schedule.step(1.0)


# What goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("m", [nano, torch], ids=["nano", "torch"])
def test_a_schedule_before_the_optimizer_warns(m):
    _, schedule = make(m, "StepLR", {"step_size": 1})
    with pytest.warns(UserWarning, match=r"before `optimizer.step\(\)`"):
        schedule.step()
    optimizer, schedule = make(m, "StepLR", {"step_size": 1})
    optimizer.step = lambda: None
    with pytest.warns(UserWarning, match="overridden after"):
        schedule.step()
    # A step that was taken before the schedule was made does not count.
    optimizer = m.optim.SGD([m.ones(1, requires_grad=True)], lr=0.1)
    optimizer.step()
    schedule = m.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match=r"before `optimizer.step\(\)`"):
        schedule.step()


@pytest.mark.parametrize("m", [nano, torch], ids=["nano", "torch"])
def test_the_right_order_does_not_warn(m):
    class Own(m.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in (m.optim.SGD, Own):
            optimizer = kind([m.ones(1, requires_grad=True)], lr=0.1)
            schedule = m.optim.lr_scheduler.StepLR(optimizer, 1)
            for _ in range(3):
                optimizer.step()
                schedule.step()


@pytest.mark.parametrize("m", [nano, torch], ids=["nano", "torch"])
def test_other_warnings(m):
    optimizer, schedule = make(m, "StepLR", {"step_size": 1})
    optimizer.step()
    with pytest.warns(UserWarning, match="epoch parameter"):
        schedule.step(3)
    with pytest.warns(UserWarning, match="get_last_lr"):
        schedule.get_lr()
    _, schedule = make(m, "ReduceLROnPlateau", {})
    with pytest.warns(UserWarning, match="epoch parameter"):
        schedule.step(1.0, epoch=4)


@pytest.mark.parametrize("m", [nano, torch], ids=["nano", "torch"])
def test_a_rate_may_be_a_tensor(m):
    optimizer = m.optim.SGD([m.ones(1, requires_grad=True)], lr=m.tensor(1.0))
    schedule = m.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    rate = optimizer.param_groups[0]["lr"]
    first = schedule.get_last_lr()
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert (rate.item(), first[0].item()) == (0.5, 1.0)


REFUSED = [
    ("LambdaLR", {"lr_lambda": [lambda e: 1.0]}, ValueError),
    ("LambdaLR", {"lr_lambda": 3}, TypeError),
    ("MultiplicativeLR", {"lr_lambda": [1, 2]}, TypeError),
    ("StepLR", {"step_size": 1, "last_epoch": 3}, KeyError),
    ("ConstantLR", {"factor": 2.0}, ValueError),
    ("ConstantLR", {"factor": -0.1}, ValueError),
    ("LinearLR", {"start_factor": 0.0}, ValueError),
    ("LinearLR", {"end_factor": 1.1}, ValueError),
    ("CosineAnnealingWarmRestarts", {"T_0": 0}, ValueError),
    ("CosineAnnealingWarmRestarts", {"T_0": 1.5}, ValueError),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 0}, ValueError),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "eta_min": "0"}, ValueError),
    ("OneCycleLR", {"max_lr": 1.0}, ValueError),
    ("OneCycleLR", {"max_lr": 1.0, "epochs": 3}, ValueError),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 0}, ValueError),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 2.5}, ValueError),
    ("OneCycleLR", {"max_lr": 1.0, "epochs": 3, "steps_per_epoch": -1}, ValueError),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "pct_start": 1.5}, ValueError),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9, "anneal_strategy": "sin"}, ValueError),
    ("OneCycleLR", {"max_lr": [1.0, 2.0, 3.0], "total_steps": 9}, ValueError),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "mode": "square"}, ValueError),
    ("CyclicLR", {"base_lr": [0.1], "max_lr": 1.0}, ValueError),
    ("ReduceLROnPlateau", {"factor": 1.0}, ValueError),
    ("ReduceLROnPlateau", {"mode": "least"}, ValueError),
    ("ReduceLROnPlateau", {"threshold_mode": "none"}, ValueError),
    ("ReduceLROnPlateau", {"min_lr": [0.0]}, ValueError),
    ("SequentialLR", {"schedulers": [], "milestones": []}, ValueError),
    ("SequentialLR", {"schedulers": [1], "milestones": []}, TypeError),
]


@pytest.mark.parametrize(("name", "options", "error"), REFUSED, ids=named)
def test_options_that_make_no_sense(name, options, error):
    if "3" not in str(options.get("lr_lambda")):  # PyTorch finds that one out by calling it
        with pytest.raises(error):
            make(torch, name, options)
    optimizer = nano.optim.SGD([nano.ones(1)], lr=0.4, momentum=0.3)
    optimizer.add_param_group({"params": [nano.ones(1)]})
    with pytest.raises(error, match=rf"\[{name}\]"):
        getattr(nano.optim.lr_scheduler, name)(optimizer, **options)
    # Nothing was changed before the mistake was found.
    assert [g["lr"] for g in optimizer.param_groups] == [0.4, 0.4]
    assert [g["momentum"] for g in optimizer.param_groups] == [0.3, 0.3]


@pytest.mark.parametrize("m", [nano, torch], ids=["nano", "torch"])
def test_refusals_that_need_several_objects(m):
    s = m.optim.lr_scheduler
    with pytest.raises(TypeError, match="not an Optimizer"):
        s.StepLR("sgd", 1)
    optimizer, first = make(m, "StepLR", {"step_size": 1})
    _, foreign = make(m, "StepLR", {"step_size": 1})
    plateau = s.ReduceLROnPlateau(optimizer)
    for parts, milestones in (([first, foreign], [1]), ([first, plateau], [1]), ([first], [1])):
        with pytest.raises(ValueError):
            s.SequentialLR(optimizer, parts, milestones)
    for parts in ([], [first, foreign], [first, plateau]):
        with pytest.raises(ValueError):
            s.ChainedScheduler(parts)
    rms = m.optim.Adagrad([m.ones(1, requires_grad=True)])
    with pytest.raises(ValueError, match="must support momentum or beta1"):
        s.OneCycleLR(rms, 1.0, 10)
    optimizer, schedule = make(m, "OneCycleLR", {"max_lr": 1.0, "total_steps": 2})
    run(optimizer, schedule, 2)
    with pytest.raises(ValueError, match=r"[Tt]ried to step 3 times"):
        schedule.step()
    with pytest.raises(ValueError, match="non-negative epoch"):
        make(m, "CosineAnnealingWarmRestarts", {"T_0": 1})[1].step(-1)


class Halving:
    """A callable object: unlike a function, its attributes are part of the state."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, epoch):
        return self.factor**epoch


@pytest.mark.parametrize("name", ["LambdaLR", "MultiplicativeLR"])
def test_callable_objects_are_restored(name):
    _, schedule = make(nano, name, {"lr_lambda": [Halving(0.5), lambda e: 1.0]})
    state = schedule.state_dict()
    assert state["lr_lambdas"] == [{"factor": 0.5}, None]
    _, resumed = make(nano, name, {"lr_lambda": [Halving(0.1), lambda e: 1.0]})
    resumed.load_state_dict(state)
    assert resumed.lr_lambdas[0].factor == 0.5
    assert "lr_lambdas" in state

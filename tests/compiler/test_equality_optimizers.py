"""Every optimizer, and every table of options: compiled equals eager over 20 steps."""

import pytest

import nano
from nano import nn
from nano.nn import functional as F

from ..optim.test_optimizers import TABLE
from .both import check, normal


def batch(i, rows=4):
    return normal(rows, 3, seed=i), normal(rows, 2, seed=i + 100)


def trainer(optimizer, **options):
    """A function that makes a small network, its optimizer and the step that trains it."""

    def make():
        net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        moving = getattr(nano.optim, optimizer)(net.parameters(), **options)

        def step(x, y):
            moving.zero_grad()
            loss = F.mse_loss(net(x), y)
            loss.backward()
            moving.step()
            return loss.detach()

        return step, [net, moving]

    return make


@pytest.mark.parametrize(("name", "options"), TABLE, ids=str)
def test_optimizers(name, options):
    check(trainer(name, **options), batch)


def test_muon():
    def make():
        net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        matrices = [p for p in net.parameters() if p.ndim == 2]
        others = [p for p in net.parameters() if p.ndim != 2]
        groups = [{"params": matrices}, {"params": others, "orthogonalize": False, "lr": 0.1}]
        moving = nano.optim.Muon(groups, lr=0.02)

        def step(x, y):
            moving.zero_grad()
            loss = F.mse_loss(net(x), y)
            loss.backward()
            moving.step()
            return loss.detach()

        return step, [net, moving]

    check(make, batch)


def test_learning_rate_set_by_hand():
    def change(i, things):
        for group in things[1].param_groups:
            group["lr"] = 0.1 / (i + 1)

    check(trainer("SGD", lr=0.1, momentum=0.9), batch, between=change)


@pytest.mark.parametrize("key", ["momentum", "weight_decay", "maximize"])
def test_other_options_set_by_hand(key):
    def change(i, things):
        things[1].param_groups[0][key] = i % 3 == 0 if key == "maximize" else 0.1 * (i % 5)

    check(trainer("SGD", lr=0.1), batch, between=change)


SCHEDULES = {
    "StepLR": lambda o: nano.optim.lr_scheduler.StepLR(o, 3, 0.5),
    "LambdaLR": lambda o: nano.optim.lr_scheduler.LambdaLR(o, lambda i: 1 / (i + 1)),
    "CosineAnnealingLR": lambda o: nano.optim.lr_scheduler.CosineAnnealingLR(o, 10),
    "OneCycleLR": lambda o: nano.optim.lr_scheduler.OneCycleLR(o, 0.3, total_steps=30),
    "CyclicLR": lambda o: nano.optim.lr_scheduler.CyclicLR(o, 0.01, 0.2, step_size_up=4),
    "CosineAnnealingWarmRestarts": lambda o: nano.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        o, 4
    ),
    "SequentialLR": lambda o: nano.optim.lr_scheduler.SequentialLR(
        o,
        [
            nano.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=4),
            nano.optim.lr_scheduler.ExponentialLR(o, 0.9),
        ],
        milestones=[4],
    ),
    "ChainedScheduler": lambda o: nano.optim.lr_scheduler.ChainedScheduler(
        [
            nano.optim.lr_scheduler.ConstantLR(o, 0.5, 5),
            nano.optim.lr_scheduler.ExponentialLR(o, 0.9),
        ]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("inside", [False, True])
def test_schedules(name, inside):
    def make():
        step, things = trainer("SGD", lr=0.1, momentum=0.9)()
        schedule = SCHEDULES[name](things[1])

        def both(x, y):
            loss = step(x, y)
            schedule.step()
            return loss

        return (both if inside else step), [*things, schedule]

    def between(i, things):
        if i and not inside:
            things[2].step()

    check(make, batch, between=between)


def test_a_schedule_that_reads_the_loss_is_refused():
    step, things = trainer("SGD", lr=0.1)()
    schedule = nano.optim.lr_scheduler.ReduceLROnPlateau(things[1])

    @nano.compile
    def both(x, y):
        schedule.step(step(x, y))

    with pytest.raises(nano.errors.GraphBreak, match=r"float\(\)|item\(\)"):
        both(*batch(0))


def test_several_optimizers():
    def make():
        first, second = nn.Linear(3, 4), nn.Linear(4, 2)
        one = nano.optim.AdamW(first.parameters(), lr=0.01)
        two = nano.optim.SGD(second.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            one.zero_grad()
            two.zero_grad()
            F.mse_loss(second(first(x)), y).backward()
            one.step()
            F.l1_loss(second(first(x)), y).backward()
            two.step()

        return step, [first, second, one, two]

    check(make, batch)


CLIPPING = {
    "by hand": lambda net, moving: [p.grad.mul_(0.1) for p in net.parameters()],
    "by hand, set": lambda net, moving: [_replace(p) for p in net.parameters()],
    "clip_grad_norm_": lambda net, moving: nn.utils.clip_grad_norm_(net.parameters(), 0.1),
    "clip_grad_value_": lambda net, moving: nn.utils.clip_grad_value_(net.parameters(), 0.01),
}


def _replace(p):
    p.grad = p.grad * 0.5


@pytest.mark.parametrize("name", list(CLIPPING))
def test_gradients_are_changed_before_the_step(name):
    def make():
        net = nn.Linear(3, 2)
        moving = nano.optim.SGD(net.parameters(), lr=0.1)

        def step(x, y):
            moving.zero_grad()
            F.mse_loss(net(x), y).backward()
            with nano.no_grad():
                norm = CLIPPING[name](net, moving)
            moving.step()
            return norm if isinstance(norm, nano.Tensor) else None

        return step, [net, moving]

    check(make, batch)


def test_gradients_come_from_outside():
    def make():
        net = nn.Linear(3, 2)

        @nano.no_grad()
        def move():
            for p in net.parameters():
                p.sub_(p.grad * 0.1)

        return move, net

    def between(i, net):
        for p in net.parameters():
            p.grad = None
        net(normal(4, 3, seed=i)).square().sum().backward()

    check(make, lambda i: (), between=between)


def test_accumulated_gradients():
    def make():
        net = nn.Linear(3, 2)
        optimizer = nano.optim.SGD(net.parameters(), lr=0.1)

        def collect(x, y):
            F.mse_loss(net(x), y).backward()

        return collect, [net, optimizer]

    def between(i, things):
        if i % 3 == 0:
            things[1].step()
            things[1].zero_grad(set_to_none=i % 2 == 0)

    check(make, batch, between=between)


def test_zeros_instead_of_no_gradient():
    def make():
        net = nn.Linear(3, 2)
        optimizer = nano.optim.Adam(net.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad(set_to_none=False)
            F.mse_loss(net(x), y).backward()
            optimizer.step()

        return step, [net, optimizer]

    # In the first call there are no gradients that could be set to zero.
    check(make, batch, between=lambda i, things: None if i else _fill(things[0]))


def _fill(net):
    for p in net.parameters():
        p.grad = nano.ones_like(p).detach()


def test_a_group_is_added():
    def make():
        net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
        optimizer = nano.optim.SGD(net[0].parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            F.mse_loss(net(x), y).backward()
            optimizer.step()

        return step, [net, optimizer]

    def between(i, things):
        net, optimizer = things
        if i == 10:
            optimizer.add_param_group({"params": net[1].parameters(), "lr": 0.05})

    check(make, batch, between=between, kinds=2)


def test_states_are_loaded():
    kept = {}

    def between(i, things):
        net, optimizer = things
        if i == 8:
            kept[id(net)] = (
                {k: v.detach().clone() for k, v in net.state_dict().items()},
                {"state": {}, "param_groups": optimizer.state_dict()["param_groups"]},
            )
        if i == 14:
            net.load_state_dict(kept[id(net)][0])
            optimizer.load_state_dict(kept[id(net)][1])

    check(trainer("Adam", lr=0.01), batch, between=between)


def test_batch_sizes_change():
    check(trainer("Adam", lr=0.01), lambda i: batch(i, (4, 6, 3)[i % 3]), kinds=3)


def test_two_programs_share_a_model():
    def make():
        step, things = trainer("SGD", lr=0.1, momentum=0.9)()
        net = things[0]

        @nano.no_grad()
        def judge(x, y):
            return F.mse_loss(net(x), y), net(x)

        return (lambda part, x, y: (step if part == "train" else judge)(x, y)), things

    check(make, lambda i: ("train" if i % 3 else "judge", *batch(i)), kinds=2)

"""Compiled modules: what is theirs, and what is the module's."""

import copy
import pickle

import pytest

import nano
from nano import nn
from nano.optimized import OptimizedModule
from nano.train import Trainer
from tests.compiler.both import REORDERED, allowed, assert_alike, check, normal


class Net(nn.Module):
    """A network with all that a module may have."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.head = nn.Linear(4, 2)
        self.scale = 2.0

    def forward(self, x, *, twice=False):
        y = self.head(self.body(x)) * self.scale
        return y * 2 if twice else y

    def parts(self):
        return 2


def stepped(y, net):
    net.zero_grad()
    y.square().mean().backward()
    with nano.no_grad():
        for p in net.parameters():
            p.sub_(p.grad * 0.1)
    return y.detach()


@pytest.mark.parametrize("in_place", [False, True])
def test_training(in_place):
    nano.manual_seed(3)
    net = Net()
    twin = copy.deepcopy(net)
    compiled = net if in_place else nano.compile(net)
    if in_place:
        net.compile()
    for i in range(20):
        for m in (compiled, twin):
            m.train(i % 4 < 3)
        x = normal(5, 3, seed=i)
        assert_alike(stepped(compiled(x), compiled), stepped(twin(x), twin), REORDERED)
        assert_alike(net, twin, REORDERED)
    assert compiled(x).grad_fn.name() == "CompiledFunctionBackward"


def test_it_is_the_modules_own():
    net = Net()
    compiled = nano.compile(net)
    assert isinstance(compiled, nn.Module)
    assert compiled._orig_mod is net
    assert list(compiled.state_dict()) == list(net.state_dict())
    assert list(map(id, compiled.parameters())) == list(map(id, net.parameters()))
    assert [n for n, _ in compiled.named_modules()] == [n for n, _ in net.named_modules()]
    assert compiled.head is net.head
    assert compiled.parts() == 2
    assert compiled.eval() is compiled
    assert not net.training
    assert not net.body.training
    assert compiled.training is False
    compiled.scale = 3.0
    assert net.scale == 3.0
    compiled.head = nn.Linear(4, 2)
    assert net.head is compiled.head
    del compiled.scale
    assert not hasattr(net, "scale")
    assert compiled.double() is compiled
    assert net.head.weight.dtype is nano.float64
    assert "(_orig_mod): Net(" in repr(compiled)
    with pytest.raises(AttributeError):
        _ = compiled.nothing


def test_weights_are_loaded_either_way():
    net, other = Net(), Net()
    compiled = nano.compile(net)
    compiled.load_state_dict(other.state_dict())
    assert_alike(net, other)
    other.load_state_dict(compiled.state_dict())


def test_hooks_are_the_modules():
    net = nn.Linear(3, 2)
    compiled = nano.compile(net)
    compiled.register_forward_hook(lambda m, x, y: y * 2)
    for i in range(4):
        x = normal(4, 3, seed=i)
        assert_alike(compiled(x).detach(), net(x).detach(), REORDERED)
        assert_alike(compiled.forward(x).detach(), net(x).detach(), REORDERED)


def test_as_a_part_of_another():
    inner = nn.Linear(3, 3)
    net = nn.Sequential(nano.compile(inner), nn.Tanh())
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    net.eval()
    assert not inner.training
    whole = nano.compile(net)
    for i in range(4):
        net.zero_grad()
        x = normal(4, 3, seed=i)
        y = whole(x)
        y.sum().backward()
        found = inner.weight.grad
        net.zero_grad()
        inner(x).tanh().sum().backward()
        assert_alike(found, inner.weight.grad, REORDERED)


@pytest.mark.parametrize("in_place", [False, True])
def test_copies_are_compiled_for_themselves(in_place):
    net = Net()
    compiled = net if in_place else nano.compile(net)
    if in_place:
        net.compile()
    x = normal(5, 3)
    for _ in range(3):
        compiled.eval()(x)
    for other in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        assert type(other) is type(compiled)
        with nano.no_grad():
            other.head.weight.mul_(0.0)
            other.head.bias.fill_(1.0)
        for _ in range(4):
            assert other(x).tolist() == [[2.0, 2.0]] * 5
        assert compiled(x).tolist() != other(x).tolist()


def test_keyword_arguments_and_looking_at_it():
    net = Net().eval()
    compiled = nano.compile(net)
    x = normal(5, 3)
    for _ in range(4):
        assert_alike(compiled(x, twice=True).detach(), net(x, twice=True).detach(), REORDERED)
        assert_alike(compiled(x).detach(), net(x).detach(), REORDERED)
    assert "Linear(" in str(compiled.graph())
    assert "def program(" in compiled.source()
    assert compiled.report(x).seconds is not None
    assert isinstance(compiled, OptimizedModule)


def test_optimizers_and_clipping():
    def make():
        # No bias before a norm: its gradient is rounding alone, which Adam makes large.
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        return (lambda x: net(x)), [net, nano.optim.AdamW(net.parameters(), lr=0.01)]

    def outside(y, things):
        net, optimizer = things
        optimizer.zero_grad()
        y.square().mean().backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        return norm

    compiled = check(make, lambda i: (normal(5, 3, seed=i),), outside=outside, tolerance=REORDERED)
    assert allowed(compiled) <= REORDERED


def test_trainer():
    def losses(wrap):
        nano.manual_seed(0)
        net = Net()
        x = normal(12, 3)
        batches = [(x[k : k + 4], nano.tensor([0, 1, 0, 1])) for k in (0, 4, 8)]
        optimizer = nano.optim.SGD(net.parameters(), lr=0.1)
        trainer = Trainer(wrap(net), optimizer, nn.CrossEntropyLoss(), batches, batches)
        return [row["train_loss"] for row in trainer.fit(4)], net

    (eager, twin), (compiled, net) = losses(lambda net: net), losses(nano.compile)
    assert compiled == pytest.approx(eager, rel=1e-5)  # sums are done in another order
    assert_alike(net, twin, 2 * REORDERED)

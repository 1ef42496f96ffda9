"""Which sums of gradients batch normalisation's derivative takes over, and that the bits stay."""

import pytest

import nano
from nano import nn
from nano.backends import is_available
from nano.models.resnet import BasicBlock

from .both import EXACT, assert_alike, normal

pytestmark = pytest.mark.skipif(not is_available("fused"), reason="needs Numba")

JOINED, ALONE = "BatchNormBackwardOfSum", "BatchNormBackward"


def images(i=0):
    return normal(8, 16, 12, 12, seed=i).to(memory_format=nano.channels_last)


class Chain(nn.Module):
    """A stem and two blocks with their shortcuts."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*[BasicBlock(16, 16, 1, False) for _ in range(2)])

    def first(self, x):
        return self.norm(self.conv(x), activation="relu")


def trained(mixed=False, watched=False, without=()):
    """What some steps return, what they leave, and the nodes of the program."""
    nano.manual_seed(0)
    model = Chain()
    optimizer = nano.optim.SGD(model.parameters(), 0.1)

    def step(x):
        optimizer.zero_grad()
        with nano.autocast(dtype=nano.bfloat16, enabled=mixed):
            y = model.blocks[0](model.first(x))
            if watched:
                y.retain_grad()
            loss = model.blocks[1](y).square().mean()
        loss.backward()
        optimizer.step()
        return loss, y.grad

    run = nano.compile(step, without=("native", *without))
    results = [[None if x is None else x.detach() for x in run(images(i))] for i in range(4)]
    return results, model, [node.name for node in run.graph().nodes]


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
def test_sums_are_joined_to_the_bit(mixed):
    results, model, names = trained(mixed)
    others, other, without = trained(mixed, without=("gradient_sums",))
    # The stem's result and the first block's are read twice.
    assert names.count(JOINED) == 2
    assert names.count(ALONE) == 3
    assert without.count(JOINED) == 0
    assert without.count("Add") == names.count("Add") + 2
    assert_alike(results, others, EXACT)
    assert_alike(model, other, EXACT)


def test_a_sum_that_something_else_reads_stays():
    results, model, names = trained(watched=True)
    others, other, _ = trained(watched=True, without=("gradient_sums",))
    assert names.count(JOINED) == 1
    assert names.count(ALONE) == 4
    assert_alike(results, others, EXACT)
    assert_alike(model, other, EXACT)

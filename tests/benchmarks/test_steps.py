"""The benchmark measures what it says: the same work on both sides, and the right count."""

import pytest
import torch

from benchmarks import steps
from benchmarks.flops import count
from tests.models import beside


@pytest.mark.parametrize(
    "name",
    ["mlp-small", "mlp", *(pytest.param(n, marks=pytest.mark.slow) for n in ("lenet", "gpt"))],
)
def test_both_sides_learn(name):
    """The loss falls, so that the step is a training step."""
    for side in ("nano", "nano+bf16", "torch", "torch+channels_last", "torch+bf16"):
        step = steps.build(side, name)
        first, *_, last = [step().item() for _ in range(8)]
        assert last < first, side


@pytest.mark.parametrize("name", list(steps.CASES))
def test_both_sides_have_the_same_weights_and_inputs(name):
    case = steps.CASES[name]
    (ours, x, labels), (theirs, x_there, labels_there) = (
        steps.network(library, case) for library in ("nano", "torch")
    )
    beside.check_state(ours, theirs)
    assert torch.equal(torch.from_numpy(x.numpy()), x_there)
    assert torch.equal(torch.from_numpy(labels.numpy()), labels_there)


def test_inference_keeps_no_graph_and_uses_running_statistics():
    for side in ("nano", "torch"):
        step = steps.build(side, "resnet18-1")
        first, second = step(), step()
        assert not first.requires_grad
        assert first.tolist() == second.tolist()


def test_operations_are_counted():
    """By hand: two a multiplication, and no gradient of the first layer's input."""
    small = 4 * 2 * (2 * 16 * 2 + (16 * 16 + 16 * 2) * 3)
    assert steps.flops("mlp-small") == small
    conv1, conv2 = 28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25
    linear = 400 * 120 + 120 * 84 + 84 * 10
    assert steps.flops("lenet") == 128 * 2 * (conv1 * 2 + (conv2 + linear) * 3)


def test_attention_is_counted():
    case = steps.CASES["gpt"]
    model, x, _ = steps.network("torch", case)
    weights = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2)
    weights -= model.token.weight.numel() + model.position.weight.numel()
    n, t = x.shape
    products = n * t * weights + 4 * 2 * n * t * t * 128
    assert count(model, x, training=False) == 2 * products
    # Every input needs a gradient but the tokens, which meet no product.
    assert count(model, x, training=True) == 6 * products


def test_only_the_last_case_is_kept():
    cases = steps.cases("nano")
    first = cases["mlp-small"]
    assert cases["mlp-small"] is first
    cases["mlp"]
    assert list(cases) == ["mlp"]


def test_what_is_missing_is_said():
    assert steps.missing("nano") is None
    assert steps.missing("torch+bf16") is None
    assert "not installed" in steps.missing("no_such_library")

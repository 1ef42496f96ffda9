"""Module: registration, the tree, state, hooks and text, against PyTorch."""

import copy
import pickle

import numpy as np
import pytest
import torch

import nano
from nano import nn


def network(m):
    """A nested model with every layer that both libraries have."""
    n = m.nn
    return n.Sequential(
        n.Flatten(),
        n.Linear(6, 4),
        n.Sequential({"act": n.ReLU(), "drop": n.Dropout(0.2)})
        if m is nano
        else n.Sequential(__import__("collections").OrderedDict(act=n.ReLU(), drop=n.Dropout(0.2))),
        n.ModuleList([n.Linear(4, 4), n.Linear(4, 4), n.Tanh(), n.Sequential(n.Linear(4, 4))]),
        n.ModuleDict({"gelu": n.GELU("tanh"), "soft": n.Softmax(dim=1)}),
        n.LogSoftmax(dim=1),
        n.Identity(),
        n.ReLU(inplace=True),
        n.Linear(4, 2, bias=False),
        n.CrossEntropyLoss(),
    )


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(nano.ones(2))
        self.register_buffer("mean", nano.zeros(2))
        self.register_buffer("scratch", nano.zeros(3), persistent=False)
        self.part = nn.Linear(2, 2)

    def forward(self, x):
        return self.part(x * self.scale - self.mean)


def test_repr_equals_pytorch():
    assert repr(network(nano)) == repr(network(torch))


@pytest.mark.parametrize("extra", ["", "a=1", "a=1\nb=2"])
@pytest.mark.parametrize("parts", [0, 1])
def test_repr_of_extra_lines_equals_pytorch(extra, parts):
    def build(m):
        class Own(m.nn.Module):
            def extra_repr(self):
                return extra

        module = Own()
        if parts:
            module.part = m.nn.ReLU()
        return module

    assert repr(build(nano)) == repr(build(torch))


def test_names_and_state_equal_pytorch():
    ours, theirs = network(nano), network(torch)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert [n for n, _ in ours.named_children()] == [n for n, _ in theirs.named_children()]
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [p.shape for p in ours.parameters()] == [tuple(p.shape) for p in theirs.parameters()]
    assert list(ours.state_dict(prefix="net.")) == list(theirs.state_dict(prefix="net."))


def test_state_dict_shares_memory_and_leaves_out_transient_buffers():
    module = Custom()
    state = module.state_dict()
    assert list(state) == ["scale", "mean", "part.weight", "part.bias"]
    assert not state["scale"].requires_grad
    state["scale"].fill_(5.0)
    assert module.scale.tolist() == [5.0, 5.0]
    assert module.state_dict(keep_vars=True)["scale"] is module.scale
    assert [n for n, _ in module.named_buffers()] == ["mean", "scratch"]
    assert len(list(module.buffers())) == 2


def test_load_state_dict_takes_arrays_of_pytorch():
    ours, theirs = network(nano), network(torch)
    answer = ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    assert repr(answer) == "<All keys matched successfully>"
    for (_, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_load_state_dict_lists_everything_at_once_and_changes_nothing():
    module = Custom()
    before = {k: v.tolist() for k, v in module.state_dict().items()}
    bad = {
        "mean": nano.ones(2),
        "part.weight": nano.ones(3, 2),
        "scale": nano.ones(1),
        "other": nano.ones(1),
        "stranger": nano.ones(1),
    }
    with pytest.raises(RuntimeError) as caught:
        module.load_state_dict(bad)
    assert isinstance(caught.value, nano.errors.StateDictError)
    text = str(caught.value)
    assert text.startswith("[Custom]")
    assert "missing: part.bias" in text
    assert "unexpected: other, stranger" in text
    assert "part.weight: expected shape (2, 2), got (3, 2)" in text
    assert "scale: expected shape (2,), got (1,)" in text
    assert {k: v.tolist() for k, v in module.state_dict().items()} == before


def test_load_state_dict_not_strict():
    module = Custom()
    missing, unexpected = module.load_state_dict(
        {"mean": nano.ones(2), "more": nano.ones(1)}, strict=False
    )
    assert missing == ["scale", "part.weight", "part.bias"]
    assert unexpected == ["more"]
    assert module.mean.tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="expected shape"):
        module.load_state_dict({"mean": nano.ones(3)}, strict=False)
    with pytest.raises(RuntimeError, match="expected a Tensor, got int"):
        module.load_state_dict({"mean": 3}, strict=False)
    with pytest.raises(TypeError, match="mapping"):
        module.load_state_dict([1])


def test_loading_keeps_parameters_and_their_dtype():
    layer = nn.Linear(2, 2)
    weight, version = layer.weight, layer.weight._version
    layer.load_state_dict({k: v.double() for k, v in layer.state_dict().items()})
    assert layer.weight is weight
    assert weight.dtype is nano.float32
    assert weight.requires_grad
    assert weight._version == version + 1


# Registration ----------------------------------------------------------------------------


def both_raise(error, action, match):
    """``action`` raises ``error`` in both libraries; ours says ``match``."""
    with pytest.raises(error):
        action(torch)
    with pytest.raises(error, match=match) as caught:
        action(nano)
    return caught.value


def without_init(m, value):
    class Own(m.nn.Module):
        def __init__(self):
            self.attribute = value

    return Own()


@pytest.mark.parametrize(
    ("error", "action", "match"),
    [
        (TypeError, lambda m: setattr(m.nn.Linear(1, 1), "weight", m.ones(1, 1)), "Parameter or"),
        (TypeError, lambda m: setattr(m.nn.Linear(1, 1), "weight", 3), "cannot assign int"),
        (TypeError, lambda m: setattr(m.nn.Sequential(m.nn.ReLU()), "0", 3), "a Module or None"),
        (KeyError, lambda m: m.nn.ReLU().register_parameter("a.b", None), "can't contain"),
        (KeyError, lambda m: m.nn.ReLU().register_parameter("", None), "empty string"),
        (KeyError, lambda m: m.nn.ReLU().register_parameter("forward", None), "already exists"),
        (KeyError, lambda m: m.nn.Linear(1, 1).register_buffer("weight", None), "already exists"),
        (KeyError, lambda m: m.nn.Linear(1, 1).add_module("weight", m.nn.ReLU()), "already"),
        (TypeError, lambda m: m.nn.ReLU().register_buffer("a", 3), "got int"),
        (TypeError, lambda m: m.nn.ReLU().register_parameter("a", m.ones(1)), "got Tensor"),
        (TypeError, lambda m: m.nn.ReLU().add_module("a", 3), "not a Module subclass"),
        (TypeError, lambda m: m.nn.ReLU().register_buffer(3, None), "must be a str"),
        (AttributeError, lambda m: m.nn.ReLU().nothing, "nothing"),
        (AttributeError, lambda m: delattr(m.nn.ReLU(), "nothing"), "nothing"),
        (AttributeError, lambda m: m.nn.ReLU().get_submodule("a.b"), "no module 'a'"),
        (AttributeError, lambda m: m.nn.ReLU().get_parameter("a"), "no parameter 'a'"),
        (AttributeError, lambda m: m.nn.ReLU().get_buffer("a"), "no buffer 'a'"),
        (AttributeError, lambda m: without_init(m, m.nn.Parameter(m.ones(1))), "before Module"),
        (AttributeError, lambda m: without_init(m, m.nn.ReLU()), "before Module"),
        (ValueError, lambda m: m.nn.ReLU().train(3), "boolean"),
        (TypeError, lambda m: m.nn.Linear(1, 1).to(m.int64), "floating-point"),
        (NotImplementedError, lambda m: m.nn.Module()(1), 'missing the required "forward"'),
        (RuntimeError, lambda m: m.nn.Parameter(m.tensor([1])), "floating-point"),
        (RuntimeError, lambda m: m.nn.Linear(-1, 1), "negative"),
    ],
)
def test_refusals(error, action, match):
    both_raise(error, action, match)


def test_parameters_may_be_replaced_deleted_and_none():
    layer = nn.Linear(2, 3)
    new = nn.Parameter(nano.zeros(3, 2))
    layer.weight = new
    assert [n for n, _ in layer.named_parameters()] == ["weight", "bias"]
    assert layer.weight is new
    assert next(layer.parameters()) is new
    layer.bias = None
    assert layer.bias is None
    assert list(layer.state_dict()) == ["weight"]
    assert layer(nano.ones(1, 2)).tolist() == [[0.0, 0.0, 0.0]]
    del layer.weight
    assert not hasattr(layer, "weight")
    assert list(layer.parameters()) == []
    layer.weight = 3
    assert layer.weight == 3
    layer.weight = new
    assert next(layer.parameters()) is new


def test_a_name_changes_its_kind():
    module = nn.Module()
    module.part = nn.ReLU()
    module.part = nn.Parameter(nano.ones(1))
    assert list(module.children()) == []
    module.part = nn.Tanh()
    assert list(module.parameters()) == []
    assert repr(module) == "Module(\n  (part): Tanh()\n)"
    module.register_buffer("count", nano.tensor(0))
    module.count = nano.tensor(3)
    assert module.state_dict()["count"].item() == 3
    del module.count
    assert list(module.buffers()) == []


def test_a_shared_parameter_is_listed_once_but_saved_twice():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    net = nn.Sequential(first, second, first)
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert len(list(net.named_parameters(remove_duplicate=False))) == 6
    assert list(net.state_dict()) == [f"{i}.{n}" for i in range(3) for n in ("weight", "bias")]
    copied = copy.deepcopy(net)
    assert copied[1].weight is copied[0].weight
    assert copied[2] is copied[0]
    assert copied[0].weight is not first.weight


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent_and_work(clone):
    module = Custom()
    module(nano.ones(1, 2)).sum().backward()
    other = clone(module)
    assert isinstance(other.scale, nn.Parameter)
    assert other.scale.grad is None
    assert other.scale is dict(other.named_parameters())["scale"]
    x = nano.tensor([[1.0, -2.0]])
    assert other(x).tolist() == module(x).tolist()
    with nano.no_grad():
        other.scale.fill_(9.0)
    assert module.scale.tolist() == [1.0, 1.0]
    assert list(other.state_dict()) == list(module.state_dict())


def test_get_by_dotted_name():
    net = nn.Sequential(Custom())
    assert net.get_submodule("") is net
    assert net.get_submodule("0.part") is net[0].part
    assert net.get_parameter("0.part.weight") is net[0].part.weight
    assert net.get_buffer("0.mean") is net[0].mean


# The whole tree --------------------------------------------------------------------------


def test_apply_reaches_parts_before_the_whole():
    seen = []
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["ReLU", "Tanh", "Sequential", "Sequential"]


def test_train_eval_requires_grad_and_zero_grad():
    net = network(nano)
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())
    layer = nn.Linear(2, 2)
    layer(nano.ones(1, 2)).sum().backward()
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    layer.zero_grad()
    assert layer.weight.grad is None


@pytest.mark.parametrize("name", ["double", "half", "bfloat16", "float"])
def test_converting_keeps_the_parameters(name):
    module = Custom()
    module.register_buffer("count", nano.tensor(3))
    module(nano.ones(1, 2)).sum().backward()
    weight = module.part.weight
    assert getattr(module, name)() is module
    expected = getattr(nano, name)
    assert module.part.weight is weight
    assert weight.dtype is expected
    assert weight.grad.dtype is expected
    assert weight.requires_grad
    assert module.mean.dtype is expected
    assert module.count.dtype is nano.int64
    assert module(nano.ones(1, 2, dtype=expected)).dtype is expected


def test_to_takes_devices_and_tensors():
    layer = nn.Linear(1, 1)
    assert layer.to("cpu").weight.dtype is nano.float32
    assert layer.to(device="cpu", dtype=nano.float64).weight.dtype is nano.float64
    assert layer.to(nano.ones(1)).weight.dtype is nano.float32
    with pytest.raises(RuntimeError, match="CPU only"):
        layer.to("cuda")
    with pytest.raises(TypeError, match="unexpected"):
        layer.to(colour="red")


# Hooks -----------------------------------------------------------------------------------


def test_hooks_run_in_the_order_of_pytorch():
    logs = []
    for m in (nano, torch):
        log = []
        layer = m.nn.Identity()
        say = lambda word, log=log: lambda *args: log.append(word)  # noqa: E731
        layer.register_forward_hook(say("after 1"))
        layer.register_forward_pre_hook(say("before 1"))
        layer.register_forward_hook(say("after 2"))
        layer.register_forward_pre_hook(say("before 2"))
        layer.register_forward_hook(say("after 0"), prepend=True)
        layer.register_forward_pre_hook(say("before 0"), prepend=True)
        layer(m.ones(1))
        logs.append(log)
    assert logs[0] == logs[1]
    assert logs[0] == ["before 0", "before 1", "before 2", "after 0", "after 1", "after 2"]


def test_hooks_may_change_arguments_and_output():
    layer = nn.Linear(1, 1)
    before = layer.register_forward_pre_hook(lambda module, args: args[0] * 2)
    after = layer.register_forward_hook(lambda module, args, output: (args[0], output))
    doubled, _ = layer(nano.ones(1, 1))
    assert doubled.tolist() == [[2.0]]
    before.remove()
    after.remove()
    assert layer(nano.ones(1, 1)).shape == (1, 1)
    layer.register_forward_pre_hook(
        lambda module, args, kwargs: ((), {"input": kwargs["input"] * 3}), with_kwargs=True
    )
    layer.register_forward_hook(
        lambda module, args, kwargs, output: kwargs["input"], with_kwargs=True
    )
    assert layer(input=nano.ones(1, 1)).tolist() == [[3.0]]


# Parameter -------------------------------------------------------------------------------


def test_parameter():
    data = nano.ones(2)
    p = nn.Parameter(data)
    assert repr(p) == repr(torch.nn.Parameter(torch.ones(2)))
    assert isinstance(p, nano.Tensor)
    assert p.is_leaf
    assert p.requires_grad
    data[0] = 5.0
    assert p.tolist() == [5.0, 1.0]
    assert type(p * 2) is nano.Tensor
    assert not nn.Parameter(nano.tensor([1]), requires_grad=False).requires_grad
    assert nn.Parameter(p * 2).is_leaf
    with pytest.raises(TypeError, match="got list"):
        nn.Parameter([1.0])

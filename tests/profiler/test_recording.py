"""What a profile sees: operators, derivatives, kernels and ranges, of all threads."""

import threading
import time

import numpy as np
import pytest
import torch

import nano
from nano import hook
from nano.backends import kernels, register, registry
from nano.profiler import ProfilerActivity, profile, record_function


def seen(prof):
    return [(e.kind, e.name) for e in prof.events()]


def only(prof, name, kind=None):
    (event,) = [e for e in prof.events() if e.name == name and kind in (None, e.kind)]
    return event


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = kernels.maximum  # of one candidate: the kernel itself, unless it is watched
    yield
    assert not registry._observers
    assert not hook.hooks
    assert kernels.maximum is before


class TestEvents:
    def test_forward_and_backward(self):
        x = nano.ones(3, requires_grad=True)
        with profile() as prof:
            y = nano.exp(x)
            y.sum().backward()
        assert seen(prof) == [
            ("function", "Exp"),
            ("kernel", "exp"),
            ("function", "Sum"),
            ("kernel", "sum"),
            ("backward", "SumBackward0"),
            ("function", "Spread"),
            ("backward", "ExpBackward0"),
            ("function", "Mul"),
            ("kernel", "multiply"),
        ]
        assert only(prof, "exp").parent is only(prof, "Exp")
        assert only(prof, "exp").backend == "reference"
        assert only(prof, "Mul").parent is only(prof, "ExpBackward0")
        assert only(prof, "ExpBackward0").forward is only(prof, "Exp")
        assert only(prof, "ExpBackward0").parent is None
        assert nano.equal(x.grad, nano.exp(x).detach())

    def test_self_time_is_total_without_what_is_inside(self):
        with profile() as prof, record_function("outer"):
            time.sleep(0.002)
            with record_function("inner"):
                time.sleep(0.004)
            with record_function("inner"):
                time.sleep(0.004)
        outer = only(prof, "outer")
        inside = sum(e.cpu_time_total for e in prof.events() if e.name == "inner")
        assert inside >= 8000
        assert outer.self_cpu_time_total == pytest.approx(outer.cpu_time_total - inside)
        assert outer.self_cpu_time_total >= 2000
        # Nothing is counted twice, so that all of it fits into the time that passed.
        assert prof.events().self_cpu_time_total * 1000 <= prof.events().wall

    def test_the_backend_that_ran(self):
        register(
            "exp", np.exp, backend="spare", accepts=lambda x: x.size > 2 or "takes more than 2"
        )
        try:
            with profile() as prof:
                nano.exp(nano.ones(2))
                nano.exp(nano.ones(3))
        finally:
            registry._candidates["exp"] = [
                c for c in registry._candidates["exp"] if c.backend != "spare"
            ]
            registry._PREFERENCE.remove("spare")
            registry._choose_anew()
        assert [e.backend for e in prof.events() if e.kind == "kernel"] == ["reference", "spare"]

    def test_kernels_outside_of_functions(self):
        w = nano.ones(2, requires_grad=True)
        w.grad = nano.ones(2)
        step = nano.optim.SGD([w], lr=0.1).step
        with profile(record_shapes=True) as prof:
            step()
        event = only(prof, "sgd_step")
        assert event.parent is None
        assert "float32" in str(event.input_dtypes)
        assert "[2]" in str(event.input_shapes)

    def test_a_function_of_the_user(self):
        class Twice(nano.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, g):
                return g * 2

        x = nano.ones(2, requires_grad=True)
        with profile() as prof:
            Twice.apply(x).sum().backward()
        assert ("function", "Twice") in seen(prof)
        assert ("backward", "TwiceBackward") in seen(prof)

    def test_several_outputs_and_derivatives_of_derivatives(self):
        x = nano.tensor([3.0, 1.0], requires_grad=True)
        with profile() as prof:
            values, _ = nano.sort(x)
            (g,) = nano.autograd.grad((values**3).sum(), x, create_graph=True)
            g.sum().backward()
        assert ("backward", "PowBackward0") in seen(prof)
        assert np.allclose(x.grad.numpy(), [18, 6])

    def test_a_graph_that_is_older_than_the_profile(self):
        y = nano.ones(2, requires_grad=True).exp().sum()
        with profile(with_stack=True, with_modules=True) as prof:
            y.backward()
        assert only(prof, "ExpBackward0").forward is None

    def test_errors_pass_and_are_noted(self):
        with profile() as prof, pytest.raises(RuntimeError, match="matmul"):
            nano.ones(2, 3) @ nano.ones(2, 3)
        assert seen(prof) == []
        with pytest.raises(ZeroDivisionError), profile() as prof, record_function("half"):
            raise ZeroDivisionError
        assert seen(prof) == [("range", "half")]


class TestDetails:
    def test_shapes_and_dtypes_as_pytorch(self):
        def run(framework, watching):
            x = framework.ones(2, 3)
            with watching(record_shapes=True) as prof:
                x @ framework.ones(3, 4)
            return prof.events()

        (ours,) = [e for e in run(nano, profile) if e.name == "MatMul"]
        theirs = [e for e in run(torch, torch.profiler.profile) if e.name == "aten::mm"]
        assert ours.input_shapes == theirs[0].input_shapes == [[2, 3], [3, 4]]
        assert ours.input_dtypes == ["float32", "float32"]

    def test_of_derivatives_the_gradient(self):
        x = nano.ones(2, 3, requires_grad=True)
        with profile(record_shapes=True) as prof:
            x.exp().sum().backward()
        assert only(prof, "ExpBackward0").input_shapes == [[2, 3]]

    def test_what_is_no_tensor(self):
        with profile(record_shapes=True) as prof:
            nano.ones(2).sum()
        assert only(prof, "sum").input_shapes == [[2], [], []]
        assert only(prof, "sum").input_dtypes == ["float32", "NoneType", "bool"]

    def test_they_are_not_kept_unless_asked_for(self):
        with profile() as prof:
            nano.ones(2) + 1
        event = only(prof, "Add")
        assert event.input_shapes == []
        assert event.stack == []

    def test_the_line_of_the_user(self):
        layer = nano.nn.Linear(3, 2)
        x = nano.ones(1, 3)
        with profile(with_stack=True) as prof:
            y = layer(x)  # the line
            loss = y.sum()
            loss.backward()  # not this one
        for name in ("Linear", "linear", "LinearBackward0"):
            (line,) = only(prof, name).stack
            assert "test_recording.py" in line
            assert line.endswith("y = layer(x)  # the line")
        (inside,) = {
            e.stack[0]
            for e in prof.events()
            if e.parent is not None and e.parent.name == "LinearBackward0"
        }
        assert inside == only(prof, "Linear").stack[0]

    def test_the_path_of_the_layer(self):
        class Net(nano.nn.Module):
            def __init__(self):
                super().__init__()
                self.features = nano.nn.Sequential(nano.nn.Linear(3, 2), nano.nn.ReLU())

            def forward(self, x):
                return self.features(x).exp()

        net = Net()
        with profile(with_modules=True) as prof:
            net(nano.ones(1, 3)).mean().backward()
        assert only(prof, "Linear").module == "Net.features.0"
        assert only(prof, "ReluBackward0").module == "Net.features.1"
        assert only(prof, "Exp").module == "Net"
        assert only(prof, "Mean").module == ""


class TestRanges:
    def test_nested_with_operators_inside(self):
        with profile() as prof:
            with record_function("step", "epoch 3"), record_function("forward"):
                nano.ones(2).exp()
            nano.ones(2).log()
        assert only(prof, "forward").parent is only(prof, "step")
        assert only(prof, "Exp").parent is only(prof, "forward")
        assert only(prof, "Log").parent is None
        assert only(prof, "step").note == "epoch 3"

    def test_decorator_also_of_a_function_that_calls_itself(self):
        @record_function("count")
        def count(n):
            """Down to 0."""
            return n and count(n - 1)

        assert count(3) == 0
        with profile() as prof:
            count(2)
        assert seen(prof) == [("range", "count")] * 3
        assert count.__doc__ == "Down to 0."

    def test_outside_of_a_profile_it_does_nothing(self):
        with record_function("alone"), profile() as prof:
            nano.ones(2).exp()
        assert seen(prof) == [("function", "Exp"), ("kernel", "exp")]

    def test_one_that_is_open_at_the_end_is_left_out(self):
        prof = profile()
        prof.start()
        late = record_function("late")
        late.__enter__()
        nano.ones(2).exp()
        prof.stop()
        late.__exit__(None, None, None)
        assert seen(prof) == [("function", "Exp"), ("kernel", "exp")]
        prof.start()
        nano.ones(2).exp()
        prof.stop()
        assert seen(prof) == [("function", "Exp"), ("kernel", "exp")]
        assert only(prof, "Exp").parent is None

    def test_ranges_closed_out_of_turn(self):
        first, second = record_function("first"), record_function("second")
        with profile() as prof:
            first.__enter__()
            second.__enter__()
            first.__exit__(None, None, None)
            nano.ones(2).exp()
            second.__exit__(None, None, None)
            nano.ones(2).log()
        assert only(prof, "Exp").parent is only(prof, "second")
        assert only(prof, "Log").parent is None


class TestThreads:
    def test_each_has_its_own_stack(self):
        barrier = threading.Barrier(2, timeout=20)

        def work(name):
            with record_function(name):
                barrier.wait()
                for _ in range(20):
                    x = nano.ones(2, requires_grad=True)
                    (x * 2).sum().backward()
                barrier.wait()

        with profile() as prof:
            threads = [threading.Thread(target=work, args=(n,), name=n) for n in ("left", "right")]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
        for name in ("left", "right"):
            mine = [e for e in prof.events() if e.thread == only(prof, name).thread]
            assert prof._names[mine[0].thread] == name
            assert sum(e.name == "MulBackward0" for e in mine) == 20
            for event in mine:
                top = event
                while top.parent is not None:
                    top = top.parent
                assert top.name == name


class TestOneAtATime:
    def test_a_second_one_is_refused_and_the_first_goes_on(self):
        with profile() as prof:
            with pytest.raises(RuntimeError, match="another profile is running"), profile():
                pass
            nano.ones(2).exp()
        assert seen(prof) == [("function", "Exp"), ("kernel", "exp")]

    def test_reports_come_at_the_end(self, tmp_path):
        prof = profile()
        for ask in (
            prof.events,
            prof.key_averages,
            prof.stop,
            lambda: prof.export_chrome_trace(tmp_path / "t.json"),
        ):
            with pytest.raises(RuntimeError, match="profile"):
                ask()
        assert not list(tmp_path.iterdir())
        with prof, pytest.raises(RuntimeError, match="nothing to report yet"):
            prof.events()

    def test_on_trace_ready(self):
        got = []
        with profile(on_trace_ready=lambda p: got.append(len(p.events()))):
            nano.ones(2).exp()
        assert got == [2]

    def test_activities(self):
        with profile(activities=[ProfilerActivity.CPU]) as prof:
            pass
        assert seen(prof) == []
        with pytest.raises(ValueError, match="activities"):
            profile(activities=["cuda"])


def test_with_other_watchers():
    """Anomaly mode uses the same hook."""
    x = nano.tensor(0.0, requires_grad=True)
    with (
        profile() as prof,
        nano.autograd.detect_anomaly(),
        pytest.raises(RuntimeError, match="Sqr"),
    ):
        nano.sqrt(x).backward()
    assert ("backward", "SqrtBackward0") in seen(prof)

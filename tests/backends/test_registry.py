"""Choosing kernels: order, refusal, preference, missing backends, observers, explaining."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import nano
from nano import backends
from nano.backends import kernels, registry


@pytest.fixture(autouse=True)
def as_before():
    """What a test registers is gone after it."""
    saved = [
        (x, x.copy())
        for x in (
            registry._candidates,
            registry._PREFERENCE,
            registry._unavailable,
            registry._available,
        )
    ]
    yield
    assert not registry._forced
    assert not registry._observers
    for now, before in saved:
        now.clear()
        (now.update if isinstance(now, dict) else now.extend)(before)
    registry._choose_anew()


@pytest.fixture
def doubled():
    """A kernel with two candidates; the better one takes float32 alone."""
    backends.register("doubled", lambda x: ("reference", x * 2))
    backends.register(
        "doubled",
        lambda x: ("fast", x + x),
        backend="fast",
        accepts=lambda x: x.dtype == np.float32 or f"takes float32, not {x.dtype}",
    )


@pytest.fixture
def picked():
    """A kernel with three candidates that says which runs; each takes numbers below a limit."""

    def below(limit):
        return lambda x, y=0: x < limit or f"takes numbers below {limit}"

    backends.register("picked", lambda x, y=0: ("reference", x, y))
    backends.register("picked", lambda x, y=0: ("fused", x, y), backend="fused", accepts=below(100))
    backends.register(
        "picked", lambda x, y=0: ("onednn", x, y), backend="onednn", accepts=below(10)
    )


@pytest.mark.usefixtures("doubled")
class TestChoice:
    def test_the_first_that_accepts_runs(self):
        assert kernels.doubled(np.ones(2, np.float32))[0] == "fast"
        assert kernels.doubled(np.ones(2))[0] == "reference"

    def test_a_sentence_is_no_acceptance(self):
        """A reason is a true string; only True accepts."""
        assert kernels.doubled(np.ones(2, np.int8))[0] == "reference"

    def test_a_backend_can_be_preferred(self):
        with backends.use("reference"):
            assert kernels.doubled(np.ones(2, np.float32))[0] == "reference"
        assert kernels.doubled(np.ones(2, np.float32))[0] == "fast"

    def test_preference_ends_with_an_error_too(self):
        with pytest.raises(ZeroDivisionError), backends.use("reference"):
            raise ZeroDivisionError
        assert kernels.doubled(np.ones(2, np.float32))[0] == "fast"

    def test_table_of_first_choices(self):
        assert backends.backends_in_use()["fast"] == ["doubled"]

    def test_a_backend_that_is_not_listed_comes_first(self):
        assert [c.backend for c in backends.candidates("doubled")] == ["fast", "reference"]


@pytest.mark.usefixtures("picked")
class TestOrder:
    def test_three_candidates(self):
        assert [kernels.picked(x)[0] for x in (5, 50, 500)] == ["onednn", "fused", "reference"]

    def test_order_does_not_depend_on_the_order_of_registration(self):
        backends.register("late", lambda x: "fused", backend="fused", accepts=lambda x: True)
        backends.register("late", lambda x: "reference")
        backends.register("late", lambda x: "onednn", backend="onednn", accepts=lambda x: True)
        assert kernels.late(1) == "onednn"

    def test_a_preferred_backend_that_refuses_leaves_the_order_to_the_rest(self):
        with backends.use("fused"):
            assert [kernels.picked(x)[0] for x in (5, 50, 500)] == ["fused", "fused", "reference"]

    def test_nested(self):
        with backends.use("reference"):
            assert kernels.picked(5)[0] == "reference"
            with backends.use("fused"):
                # First fused; what it refuses goes to what the outer one preferred.
                assert [kernels.picked(x)[0] for x in (5, 500)] == ["fused", "reference"]
            assert kernels.picked(5)[0] == "reference"
        with backends.use("fused"), backends.use("onednn"):
            assert [kernels.picked(x)[0] for x in (5, 50)] == ["onednn", "fused"]

    def test_all_threads(self):
        seen = []
        with backends.use("reference"):
            thread = threading.Thread(target=lambda: seen.append(kernels.picked(5)[0]))
            thread.start()
            thread.join()
        assert seen == ["reference"]

    def test_two_threads_may_leave_in_the_other_order(self):
        first, second = backends.use("reference"), backends.use("fused")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert kernels.picked(5)[0] == "fused"
        second.__exit__(None, None, None)
        assert kernels.picked(5)[0] == "onednn"

    def test_behind_a_less_preferred_backend(self):
        def offer(limit):
            return lambda x: x < limit or "too large"

        backends.register("slow", lambda x: "reference")
        backends.register(
            "slow", lambda x: "onednn", backend="onednn", accepts=offer(50), behind="fused"
        )
        assert backends.kernels.slow(5) == "onednn"
        backends.register("slow", lambda x: "fused", backend="fused", accepts=offer(10))
        assert [backends.kernels.slow(x) for x in (5, 20, 100)] == ["fused", "onednn", "reference"]
        with backends.use("onednn"):
            assert backends.kernels.slow(5) == "onednn"
        with backends.use("reference"):
            assert backends.kernels.slow(5) == "reference"
        backends.unavailable("fused", "not there")
        assert backends.kernels.slow(5) == "onednn"

    def test_keywords_and_defaults(self):
        assert kernels.picked(5) == ("onednn", 5, 0)
        assert kernels.picked(y=2, x=50) == ("fused", 50, 2)
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            kernels.picked()
        with pytest.raises(TypeError, match="unexpected keyword"):
            kernels.picked(1, z=3)

    def test_a_second_registration_replaces_the_first(self):
        backends.register("picked", lambda x, y=0: "new", backend="onednn")
        assert kernels.picked(500) == "new"

    def test_what_takes_everything_is_called_without_a_detour(self):
        def run(x, y=0):
            return "new"

        backends.register("picked", run, backend="onednn")
        assert kernels.picked is run

    def test_an_unknown_number_of_arguments(self):
        backends.register("many", lambda *xs, scale=1: ("reference", len(xs), scale))
        backends.register(
            "many",
            lambda *xs, scale=1: ("fused", len(xs), scale),
            backend="fused",
            accepts=lambda *xs, scale=1: len(xs) == 2 or "takes two",
        )
        assert kernels.many(1, 2, scale=3) == ("fused", 2, 3)
        assert kernels.many(1) == ("reference", 1, 1)

    def test_a_candidate_for_a_ufunc(self):
        assert kernels.maximum is np.maximum
        backends.register(
            "maximum",
            lambda x, y: "fused",
            backend="fused",
            accepts=lambda x, y: x.size > 2 or "small",
        )
        assert kernels.maximum(np.ones(3), np.ones(3)) == "fused"
        assert kernels.maximum(np.ones(1), np.ones(1)) == 1

    def test_nobody_accepts(self):
        backends.register("hard", lambda x: x, accepts=lambda x: "never")
        with pytest.raises(ValueError, match="no candidate for 'hard' accepts these arguments"):
            kernels.hard(1)
        assert backends.explain("hard", 1).splitlines() == [
            "hard: no candidate accepts these arguments",
            "    reference refuses: never",
        ]


@pytest.mark.usefixtures("picked")
class TestMissing:
    def test_it_vanishes_from_choice_and_comes_back(self):
        assert kernels.picked(5)[0] == "onednn"
        backends.unavailable("onednn", "libdnnl.so.3 was not found")
        assert kernels.picked(5)[0] == "fused"
        assert "onednn" not in backends.backends_in_use()
        assert not backends.is_available("onednn")
        backends.available("onednn", "3.2")
        assert kernels.picked(5)[0] == "onednn"
        assert backends.is_available("onednn")

    def test_status_and_explain_say_why(self):
        backends.unavailable("onednn", "libdnnl.so.3 was not found")
        assert backends.status()["onednn"] == "libdnnl.so.3 was not found"
        assert backends.explain("picked", 5).splitlines() == [
            "picked: fused runs",
            "    reference is next in line",
            "    onednn is not available: libdnnl.so.3 was not found",
        ]

    def test_it_cannot_be_preferred(self):
        backends.unavailable("onednn", "libdnnl.so.3 was not found")
        with pytest.raises(ValueError, match=r"(?s)onednn is not available.*libdnnl"):
            backends.use("onednn").__enter__()

    def test_a_backend_without_kernels_has_a_reason_too(self):
        backends.unavailable("abacus", "no beads")
        assert backends.status()["abacus"] == "no beads"

    def test_found_out_at_the_first_call(self):
        """A library that is there, but cannot be loaded: the call goes to the next candidate."""
        asked = []

        def accepts(x, y=0):
            asked.append(x)
            backends.unavailable("onednn", "version 1 is too old")
            return "version 1 is too old"

        backends.register("picked", lambda x, y=0: 1 / 0, backend="onednn", accepts=accepts)
        assert kernels.picked(5)[0] == "fused"
        assert kernels.picked(5)[0] == "fused"
        assert asked == [5]

    def test_a_version_is_asked_for_when_somebody_wants_it(self):
        backends.available("onednn", lambda: "3." + "2")
        assert backends.status()["onednn"] == "3.2"

        def load():
            backends.unavailable("onednn", "damaged")
            return ""

        backends.available("onednn", load)
        assert backends.status()["onednn"] == "damaged"


@pytest.mark.usefixtures("doubled")
class TestExplain:
    def test_who_runs_and_why_not_others(self):
        text = backends.explain("doubled", np.ones(2))
        assert text == "doubled: reference runs\n    fast refuses: takes float32, not float64"
        text = backends.explain("doubled", np.ones(2, np.float32))
        assert text == "doubled: fast runs\n    reference is next in line"

    def test_tensors_also_inside_lists(self):
        assert "takes float32, not int64" in backends.explain("doubled", nano.tensor([1]))
        backends.register(
            "listed",
            lambda xs: xs,
            accepts=lambda xs: all(type(x) is np.ndarray for x in xs) or "takes arrays",
        )
        assert backends.explain("listed", [nano.ones(2)]) == "listed: reference runs"
        assert backends.explain("listed", xs=(nano.ones(2),)) == "listed: reference runs"

    def test_without_arguments(self):
        assert backends.explain("doubled") == "doubled: asked in this order: fast, reference"


@pytest.mark.usefixtures("picked")
class TestObservers:
    def test_they_see_the_choice_and_hand_on_the_result(self):
        seen = []

        def watch(name, backend, args, kwargs, proceed):
            result = proceed()
            seen.append((name, backend, args, kwargs, result))
            return result

        backends.observe(watch)
        try:
            result = kernels.picked(50, y=2)
            nano.ones(2) + 1
        finally:
            backends.unobserve(watch)
        assert result == ("fused", 50, 2)
        assert seen[0] == ("picked", "fused", (50,), {"y": 2}, result)
        assert seen[1][:2] == ("add", "reference")
        kernels.picked(1)
        assert len(seen) == 2

    def test_later_ones_surround_earlier_ones(self):
        order = []

        def watcher(mark):
            def watch(name, backend, args, kwargs, proceed):
                order.append(mark)
                return proceed()

            return watch

        inner, outer = watcher("inner"), watcher("outer")
        backends.observe(inner)
        backends.observe(outer)
        kernels.picked(1)
        backends.unobserve(inner)
        kernels.picked(1)
        backends.unobserve(outer)
        assert order == ["outer", "inner", "outer"]

    def test_they_cost_nothing_afterwards(self):
        before = kernels.maximum

        def watch(name, backend, args, kwargs, proceed):
            return proceed()

        backends.observe(watch)
        assert kernels.maximum is not before
        with backends.use("reference"):
            assert kernels.picked(5)[0] == "reference"
        backends.unobserve(watch)
        assert kernels.maximum is before

    def test_errors_pass(self):
        def watch(name, backend, args, kwargs, proceed):
            return proceed()

        backends.observe(watch)
        try:
            with pytest.raises(ValueError, match="shapes"):
                kernels.add(np.ones(2), np.ones(3))
        finally:
            backends.unobserve(watch)


def test_unknown_names():
    with pytest.raises(AttributeError, match="no kernel named 'nothing'"):
        kernels.nothing  # noqa: B018
    with pytest.raises(ValueError, match="no kernel named"):
        backends.explain("nothing")
    with pytest.raises(ValueError, match="no backend 'nothing'"), backends.use("nothing"):
        pass


def test_every_kernel_has_a_reference():
    """In a process of its own, without the kernels of other tests."""
    code = (
        "import nano; from nano.backends import registry\n"
        "print([n for n, c in registry._candidates.items() if c[-1].backend != 'reference' "
        "or c[-1].accepts is not None])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_candidates_take_the_parameters_of_the_reference():
    """A chooser hands its arguments on by position."""
    import inspect

    for name, offered in registry._candidates.items():
        reference = offered[-1].run
        if isinstance(reference, np.ufunc):
            expected = reference.nin
        else:
            expected = list(inspect.signature(reference).parameters)
        for candidate in offered[:-1]:
            for function in (candidate.run, candidate.accepts):
                if function is None or isinstance(function, np.ufunc):
                    continue
                found = list(inspect.signature(function).parameters.values())
                if any(p.kind is p.VAR_POSITIONAL for p in found):
                    continue
                if isinstance(expected, int):
                    assert len(found) == expected, (name, candidate.backend)
                else:
                    assert len(found) == len(expected), (name, candidate.backend)

"""Grad modes: context managers, decorators, and each thread for itself."""

import threading

import pytest

import nano


@pytest.fixture
def x():
    return nano.ones(2, requires_grad=True)


def test_no_grad_and_enable_grad_nest(x):
    with nano.no_grad():
        assert not (x * 2).requires_grad
        with nano.enable_grad():
            assert (x * 2).requires_grad
        assert not nano.is_grad_enabled()
    assert nano.is_grad_enabled()


def test_restored_after_an_exception():
    with pytest.raises(KeyError), nano.no_grad():
        raise KeyError
    assert nano.is_grad_enabled()


@pytest.mark.parametrize("mode", [nano.no_grad(), nano.no_grad, nano.inference_mode()])
def test_as_decorator(x, mode):
    @mode
    def double(t):
        """Twice."""
        return t * 2

    assert not double(x).requires_grad
    assert double.__doc__ == "Twice."
    assert (x * 2).requires_grad


def test_decorated_recursion(x):
    @nano.no_grad()
    def down(n):
        return down(n - 1) if n else nano.is_grad_enabled()

    assert down(5) is False
    assert nano.is_grad_enabled()


def test_set_grad_enabled(x):
    nano.set_grad_enabled(False)
    assert not nano.is_grad_enabled()
    nano.set_grad_enabled(True)
    with nano.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    assert nano.is_grad_enabled()

    @nano.set_grad_enabled(False)
    def f():
        return nano.is_grad_enabled()

    assert nano.is_grad_enabled()
    assert f() is False


def test_inference_mode(x):
    with nano.inference_mode():
        assert nano.is_inference_mode_enabled()
        y = x * 2
    assert not y.requires_grad
    assert not nano.is_inference_mode_enabled()
    with nano.inference_mode(False):
        assert (x * 2).requires_grad


def test_each_thread_has_its_own(x):
    seen = []
    with nano.no_grad():
        t = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        t.start()
        t.join()
    assert seen == [True]


def test_requires_grad_flag():
    with pytest.raises(RuntimeError, match="only floating-point"):
        nano.tensor([1], requires_grad=True)
    x = nano.ones(2).requires_grad_()
    y = x * 2
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad = False
    assert not x.requires_grad_(False).requires_grad
    assert x.is_leaf
    assert not y.is_leaf
    assert y.detach().is_leaf

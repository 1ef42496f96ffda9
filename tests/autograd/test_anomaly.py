"""Anomaly mode names the operator, and the user's own line."""

import inspect

import pytest

import nano
from nano import hook


def line_of(text):
    """Where in this file a line with a marker stands."""
    source = inspect.getsource(inspect.getmodule(line_of)).splitlines()
    return next(i for i, line in enumerate(source, 1) if text in line and "line_of" not in line)


def test_forward():
    x = nano.tensor([1.0, -1.0], requires_grad=True)
    with nano.autograd.detect_anomaly(), pytest.raises(RuntimeError) as caught:
        nano.log(x * 2)  # marker one
    text = str(caught.value)
    assert "[Log] made the first NaN, in the forward pass" in text
    assert f"test_anomaly.py:{line_of('# marker one')}" in text
    assert "(2,) from -2 to 2" in text


def test_backward_shows_the_line_of_the_forward_operator():
    x = nano.tensor(0.0, requires_grad=True)
    with nano.autograd.detect_anomaly():
        y = nano.sqrt(x)  # marker two
        with pytest.raises(RuntimeError) as caught:
            (y * 2).backward()
    text = str(caught.value)
    assert "[SqrtBackward0] made the first an infinity, in the backward pass (Div)" in text
    assert f"test_anomaly.py:{line_of('# marker two')}" in text


def test_what_was_not_finite_before_is_not_blamed():
    with nano.autograd.detect_anomaly():
        assert nano.isnan(nano.tensor(float("nan")) + 1).item()


def test_switch():
    nano.autograd.set_detect_anomaly(True)
    nano.autograd.set_detect_anomaly(True)
    assert len(hook.hooks) == 1
    nano.autograd.set_detect_anomaly(False)
    assert not hook.hooks
    with nano.autograd.set_detect_anomaly(True):
        assert hook.hooks
    assert not hook.hooks


def test_error_of_a_version_shows_the_line():
    x = nano.ones(2, requires_grad=True)
    with nano.autograd.detect_anomaly():
        y = nano.exp(x)  # marker three
        z = y * 2
        y.add_(1.0)
        with pytest.raises(RuntimeError, match=f"py:{line_of('# marker three')}"):
            z.sum().backward()

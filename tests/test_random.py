"""Generators: the same seed gives the same numbers, and a state can be put back."""

import numpy as np
import pytest

import nano


def test_manual_seed_repeats():
    nano.manual_seed(7)
    a = nano.randn(3, 4)
    nano.manual_seed(7)
    assert nano.equal(a, nano.randn(3, 4))
    assert not nano.equal(a, nano.randn(3, 4))
    assert nano.initial_seed() == 7


def test_state_goes_back_to_the_middle_of_a_stream():
    nano.manual_seed(1)
    nano.randint(0, 10, (3,))  # leaves half a word in PCG64's buffer
    state = nano.get_rng_state()
    a = (nano.randint(0, 10, (5,)), nano.randn(3), nano.rand(2))
    nano.set_rng_state(state)
    b = (nano.randint(0, 10, (5,)), nano.randn(3), nano.rand(2))
    assert all(nano.equal(x, y) for x, y in zip(a, b, strict=True))
    assert state.dtype is nano.uint8


def test_a_generator_is_apart_from_the_default():
    g = nano.Generator().manual_seed(3)
    nano.manual_seed(3)
    a = nano.rand(2)
    assert nano.equal(nano.rand(2, generator=g), a)


def test_bad_state_changes_nothing():
    g = nano.Generator().manual_seed(5)
    before = g.get_state()
    for bad in (np.zeros(3, np.uint8), np.zeros(45, np.int64)):
        with pytest.raises(ValueError, match="expected 45 bytes"):
            g.set_state(bad)
    assert (g.get_state() == before).all()


def test_seed_range():
    nano.Generator().manual_seed(2**64 - 1)
    nano.Generator().manual_seed(-1)
    with pytest.raises(ValueError, match="64 bits"):
        nano.Generator().manual_seed(2**64)


def test_seed_draws_from_the_system():
    g = nano.Generator()
    assert g.seed() != g.seed()


def test_bytes_that_are_no_state():
    g = nano.Generator().manual_seed(1)
    state = g.get_state()
    for place, value in ((16, state[16] ^ 1), (32, 2)):
        other = state.copy()
        other[place] = value
        with pytest.raises(ValueError, match="no state"):
            g.set_state(other)
        assert g.get_state().tolist() == state.tolist()

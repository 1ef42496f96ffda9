"""Choosing kernels: order, refusal, forcing, explaining."""

import numpy as np
import pytest

from nano import backends
from nano.backends import registry


@pytest.fixture
def doubled():
    """A kernel with two candidates; the better one takes float32 alone."""
    saved = list(registry._PREFERENCE)
    backends.register("doubled", lambda x: ("reference", x * 2))
    backends.register(
        "doubled",
        lambda x: ("fast", x + x),
        backend="fast",
        accepts=lambda x: x.dtype == np.float32 or f"takes float32, not {x.dtype}",
    )
    yield
    del registry._candidates["doubled"]
    delattr(backends.kernels, "doubled")
    registry._PREFERENCE[:] = saved


@pytest.mark.usefixtures("doubled")
class TestChoice:
    def test_the_first_that_accepts_runs(self):
        assert backends.kernels.doubled(np.ones(2, np.float32))[0] == "fast"
        assert backends.kernels.doubled(np.ones(2))[0] == "reference"

    def test_explain_says_who_runs_and_why_not_others(self):
        text = backends.explain("doubled", np.ones(2))
        assert text == "doubled: reference runs; fast refuses: takes float32, not float64"
        text = backends.explain("doubled", np.ones(2, np.float32))
        assert text == "doubled: fast runs; reference is next in line"

    def test_a_backend_can_be_forced(self):
        with backends.use("reference"):
            assert backends.kernels.doubled(np.ones(2, np.float32))[0] == "reference"
        assert backends.kernels.doubled(np.ones(2, np.float32))[0] == "fast"

    def test_table_of_first_choices(self):
        assert backends.backends_in_use()["fast"] == ["doubled"]


def test_one_candidate_is_called_without_a_detour():
    assert backends.kernels.add is np.add


def test_unknown_names():
    with pytest.raises(AttributeError, match="no kernel named 'nothing'"):
        backends.kernels.nothing  # noqa: B018
    with pytest.raises(ValueError, match="no kernel named"):
        backends.explain("nothing")
    with pytest.raises(ValueError, match="no backend 'nothing'"), backends.use("nothing"):
        pass

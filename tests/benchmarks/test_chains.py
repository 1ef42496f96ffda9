"""The chains compute the same on all sides, and their bytes are those of one pass."""

import numpy as np
import pytest

from benchmarks import chains


@pytest.mark.parametrize("name", list(chains.CHAINS))
def test_all_sides_compute_the_same(name, monkeypatch):
    monkeypatch.setattr(chains, "ROWS", 64)
    results = []
    for side in ("nano", "nano+compile", "torch"):
        run = chains._build(side, chains.CHAINS[name])
        for _ in range(3):  # compiled, the third call runs the program
            made = run()
        made = made if isinstance(made, tuple) else (made,)
        assert len(made) == chains.CHAINS[name].results
        results.append([t.numpy() for t in made])
    for others in results[1:]:
        for a, b in zip(results[0], others, strict=True):
            # Rounding: exponentials and sums are done in other ways.
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


def test_bytes_of_one_pass():
    large, row = 4 * chains.ROWS * chains.COLUMNS, 4 * chains.COLUMNS
    assert chains.CHAINS["copy"].nbytes == 2 * large
    assert chains.CHAINS["residual"].nbytes == 4 * large + 2 * row


def test_only_the_last_chain_is_kept(monkeypatch):
    monkeypatch.setattr(chains, "ROWS", 8)
    found = chains.cases("nano")
    found["copy"], found["gelu"]
    assert list(found) == ["gelu"]

"""Arrays by their address."""

import numpy as np
import pytest

pytest.importorskip("numba")

from nano.backends.fused.addresses import address_of, addresses_of


def test_addresses_of_lists():
    rng = np.random.default_rng(0)
    whole = rng.random((6, 8), np.float32)
    fixed = np.ones(3)
    fixed.flags.writeable = False
    lists = [[whole, whole[2:], whole[:, 3:]], [whole[::-1], np.empty(0), fixed]]
    wanted = [[a.ctypes.data for a in arrays] for arrays in lists]
    assert addresses_of(lists).tolist() == wanted
    assert [[address_of(a) for a in arrays] for arrays in lists] == wanted

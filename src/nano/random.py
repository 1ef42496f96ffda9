"""Random numbers: generators whose state can be read, kept and put back.

A :class:`Generator` wraps NumPy's PCG64 (O'Neill 2014, "PCG: A Family of Simple
Fast Space-Efficient Statistically Good Algorithms for Random Number
Generation"). The numbers are not PyTorch's, whose Mersenne Twister is used in
an order of its own; the functions and their meaning are.
"""

from __future__ import annotations

import os

import numpy as np

from .errors import InputError
from .hook import hooks, reading

__all__ = ["Generator", "default_generator", "initial_seed", "manual_seed", "seed"]

_STATE_BYTES = 16 + 16 + 1 + 4 + 8
_SEED_RANGE = 2**64


class Generator:
    """A stream of random numbers.

    >>> g = Generator().manual_seed(3)
    >>> state = g.get_state()
    >>> a = g.numpy.random(); g.set_state(state); b = g.numpy.random()
    >>> a == b
    True
    """

    __slots__ = ("_numpy", "_seed")

    def __init__(self, device: str = "cpu") -> None:
        self.manual_seed(0)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream at ``seed``, an integer in [-2^63, 2^64)."""
        seed = int(seed)
        if not -(2**63) <= seed < _SEED_RANGE:
            raise InputError("manual_seed", f"the seed must fit in 64 bits, got {seed}.")
        if hooks:
            reading("manual_seed")
        self._seed = seed
        self._numpy = None
        return self

    @property
    def numpy(self) -> np.random.Generator:
        """NumPy's generator, which draws the numbers; made on first use, as is its import."""
        if self._numpy is None:
            self._numpy = np.random.Generator(np.random.PCG64(self._seed % _SEED_RANGE))
        return self._numpy

    def seed(self) -> int:
        """Start the stream at a seed drawn from the operating system; returns the seed."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        return self._seed

    def initial_seed(self) -> int:
        """The seed that the stream was started with."""
        return self._seed

    def get_state(self) -> np.ndarray:
        """The whole state as bytes, shape (45,), uint8."""
        if hooks:
            reading("get_state")
        s = self.numpy.bit_generator.state
        packed = (
            s["state"]["state"].to_bytes(16, "little")
            + s["state"]["inc"].to_bytes(16, "little")
            + s["has_uint32"].to_bytes(1, "little")
            + s["uinteger"].to_bytes(4, "little")
            + (self._seed % _SEED_RANGE).to_bytes(8, "little")
        )
        return np.frombuffer(packed, np.uint8).copy()

    def set_state(self, state: np.ndarray) -> None:
        """Go back to a state from :meth:`get_state`.

        Raises:
            ValueError: if ``state`` is not such a state; the generator keeps its own.
        """
        state = np.asarray(state)
        if state.dtype != np.uint8 or state.shape != (_STATE_BYTES,):
            raise InputError(
                "set_rng_state",
                f"expected {_STATE_BYTES} bytes from get_rng_state, "
                f"got {state.dtype} of shape {state.shape}.",
            )
        raw = state.tobytes()
        # PCG64's increment is odd, and the one flag is a flag.
        if not raw[16] & 1 or raw[32] > 1:
            raise InputError("set_rng_state", "these bytes are no state from get_rng_state.")
        self.manual_seed(int.from_bytes(raw[37:45], "little"))
        self.numpy.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {
                "state": int.from_bytes(raw[0:16], "little"),
                "inc": int.from_bytes(raw[16:32], "little"),
            },
            "has_uint32": raw[32],
            "uinteger": int.from_bytes(raw[33:37], "little"),
        }


#: The generator that draws where none is given.
default_generator = Generator()
default_generator.seed()


def manual_seed(seed: int) -> Generator:
    """Start the default generator at ``seed``; returns it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start the default generator at a seed from the operating system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator was started with."""
    return default_generator.initial_seed()

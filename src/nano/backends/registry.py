"""The one place that chooses kernels.

A kernel is a function from arrays to arrays with a name, such as ``matmul``.
Several backends may offer one (a *candidate*); the registry holds them, best
first, and makes ``kernels.matmul`` call the first whose ``accepts`` takes the
arguments. A kernel with a single candidate is that function itself: choosing
costs nothing where there is no choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import InputError

__all__ = ["Candidate", "backends_in_use", "candidates", "explain", "kernels", "register", "use"]

#: Backends from the most to the least preferred. ``reference`` must take everything.
_PREFERENCE = ["reference"]


class Candidate:
    """One backend's implementation of a kernel.

    Args:
        backend: the backend's name.
        run: the implementation.
        accepts: given the kernel's arguments, returns ``True`` or the reason for refusing.
    """

    __slots__ = ("accepts", "backend", "run")

    def __init__(
        self, backend: str, run: Callable[..., Any], accepts: Callable[..., bool | str] | None
    ) -> None:
        self.backend = backend
        self.run = run
        self.accepts = accepts


class Kernels:
    """A namespace with one callable per kernel name."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"there is no kernel named {name!r}")


kernels = Kernels()
_candidates: dict[str, list[Candidate]] = {}
_forced: list[str] = []


def register(
    name: str,
    run: Callable[..., Any],
    *,
    backend: str = "reference",
    accepts: Callable[..., bool | str] | None = None,
) -> None:
    """Offer ``run`` as ``backend``'s implementation of the kernel ``name``."""
    if backend not in _PREFERENCE:
        _PREFERENCE.insert(0, backend)
    offered = [c for c in _candidates.get(name, []) if c.backend != backend]
    offered.append(Candidate(backend, run, accepts))
    _candidates[name] = sorted(offered, key=lambda c: _PREFERENCE.index(c.backend))
    _bind(name)


def candidates(name: str) -> list[Candidate]:
    """The candidates for a kernel, best first."""
    try:
        return _candidates[name]
    except KeyError:
        raise InputError("backends", f"there is no kernel named {name!r}.") from None


def _bind(name: str) -> None:
    """Point ``kernels.<name>`` at the only candidate, or at a function that chooses."""
    offered = _candidates[name]
    if _forced:
        offered = [c for c in offered if c.backend == _forced[-1]] or offered
    if len(offered) == 1 and offered[0].accepts is None:
        setattr(kernels, name, offered[0].run)
        return

    def choose(*args: Any, **kwargs: Any) -> Any:
        for candidate in offered:
            if candidate.accepts is None or candidate.accepts(*args, **kwargs) is True:
                return candidate.run(*args, **kwargs)
        raise InputError("backends", f"no candidate for {name!r} accepts these arguments.")

    choose.__name__ = name
    setattr(kernels, name, choose)


@contextmanager
def use(backend: str) -> Iterator[None]:
    """Force one backend, in every thread, for the kernels that it has.

    >>> with use("reference"):
    ...     kernels.add(1.0, 2.0)
    np.float64(3.0)
    """
    if backend not in _PREFERENCE:
        raise InputError("backends.use", f"no backend {backend!r}; there is {_PREFERENCE}.")
    _forced.append(backend)
    try:
        for name in _candidates:
            _bind(name)
        yield
    finally:
        _forced.pop()
        for name in _candidates:
            _bind(name)


def explain(name: str, *args: Any, **kwargs: Any) -> str:
    """Which candidate would run the kernel on these arguments, and why the others would not.

    >>> print(explain("add", 1.0, 2.0))
    add: reference runs
    """
    chosen = None
    notes = []
    for candidate in candidates(name):
        answer = candidate.accepts is None or candidate.accepts(*args, **kwargs)
        if answer is not True:
            notes.append(f"{candidate.backend} refuses: {answer or 'no reason given'}")
        elif chosen is None:
            chosen = candidate.backend
            notes.insert(0, f"{chosen} runs")
        else:
            notes.append(f"{candidate.backend} is next in line")
    return f"{name}: " + "; ".join(notes)


def backends_in_use() -> dict[str, list[str]]:
    """For each backend, the kernels for which it is the first choice."""
    table: dict[str, list[str]] = {backend: [] for backend in _PREFERENCE}
    for name, offered in sorted(_candidates.items()):
        table[offered[0].backend].append(name)
    return table

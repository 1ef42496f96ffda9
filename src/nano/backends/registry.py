"""The one place that chooses kernels.

A kernel is a function from arrays to arrays with a name, such as ``matmul``.
Several backends may offer one (a *candidate*); the registry holds them, best
first, and makes ``kernels.matmul`` call the first whose ``accepts`` takes the
arguments. Where there is nothing to choose, ``kernels.matmul`` is the candidate
itself: choosing costs nothing where there is no choice.

What a backend does here: it calls :func:`register` once a kernel when it is
imported, with functions that load its library on first use; then
:func:`available` with a version, or :func:`unavailable` with a reason.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import InputError

__all__ = [
    "Candidate",
    "available",
    "backends_in_use",
    "candidates",
    "choice",
    "explain",
    "is_available",
    "kernels",
    "observe",
    "register",
    "status",
    "unavailable",
    "unobserve",
    "use",
]

#: Backends from the most to the least preferred. ``reference`` must take everything.
_PREFERENCE = ["onednn", "fused", "reference"]


class Candidate:
    """One backend's implementation of a kernel.

    Args:
        backend: the backend's name.
        run: the implementation. It takes the parameters of the reference kernel, in its order.
        accepts: given the same arguments, returns ``True`` or a sentence why not. It is asked
            at every call, so it has to be quick. None: everything is accepted.
        behind: the backend that is asked before this one, against the order of preference.
    """

    __slots__ = ("accepts", "backend", "behind", "run")

    def __init__(
        self,
        backend: str,
        run: Callable[..., Any],
        accepts: Callable[..., bool | str] | None,
        behind: str | None = None,
    ) -> None:
        self.backend = backend
        self.run = run
        self.accepts = accepts
        self.behind = behind


class Kernels:
    """A namespace with one callable per kernel name, made when it is first asked for.

    From then on it is an ordinary attribute, until a change of candidates, of
    preference or of observers takes all of them away.
    """

    def __getattr__(self, name: str) -> Any:
        with _lock:
            if name not in _candidates:
                raise AttributeError(f"there is no kernel named {name!r}")
            call = self.__dict__[name] = _choice(name)
        return call


#: Calls a kernel: ``observer(name, backend, args, kwargs, proceed)`` returns ``proceed()``.
Observer = Callable[[str, str, tuple[Any, ...], dict[str, Any], Callable[[], Any]], Any]

kernels = Kernels()
_candidates: dict[str, list[Candidate]] = {}
_forced: list[str] = []
_observers: list[Observer] = []
#: Why a backend is out.
_unavailable: dict[str, str] = {}
#: The version of a backend, or the function that finds it out.
_available: dict[str, str | Callable[[], str]] = {}
#: Held while choices change; calling a kernel takes no lock.
_lock = threading.RLock()


def register(
    name: str,
    run: Callable[..., Any],
    *,
    backend: str = "reference",
    accepts: Callable[..., bool | str] | None = None,
    behind: str | None = None,
) -> None:
    """Offer ``run`` as ``backend``'s implementation of the kernel ``name``.

    A second registration for the same backend takes the place of the first. A backend
    that the order of preference does not list comes before all others. Where a backend is
    slower at a kernel than a less preferred one, it is registered ``behind`` that one.
    """
    with _lock:
        if backend not in _PREFERENCE:
            _PREFERENCE.insert(0, backend)
        offered = [c for c in _candidates.get(name, []) if c.backend != backend]
        offered.append(Candidate(backend, run, accepts, behind))
        _candidates[name] = sorted(offered, key=lambda c: _PREFERENCE.index(c.backend))
        vars(kernels).pop(name, None)


def candidates(name: str) -> list[Candidate]:
    """The candidates for a kernel in the order in which they are asked now.

    That is the order of preference, after the backends that :func:`use` puts first;
    those of missing backends are left out.
    """
    try:
        offered = _candidates[name]
    except KeyError:
        raise InputError("backends", f"there is no kernel named {name!r}.") from None
    order = [*reversed(_forced), *_PREFERENCE]

    def place(candidate: Candidate) -> tuple[int, bool]:
        own = order.index(candidate.backend)
        if candidate.behind is None or candidate.backend in _forced:
            return own, False
        return max(own, order.index(candidate.behind)), True

    return sorted((c for c in offered if c.backend not in _unavailable), key=place)


# Choosing -------------------------------------------------------------------------------


def _choice(name: str) -> Callable[..., Any]:
    """What ``kernels.<name>`` is now: the only candidate, or a function that chooses."""
    offered = candidates(name)
    # Behind a candidate that takes everything, nobody is asked.
    for i, candidate in enumerate(offered):
        if candidate.accepts is None:
            offered = offered[: i + 1]
            break
    if _observers:
        return _observed(name, offered)
    if len(offered) == 1 and offered[0].accepts is None:
        return offered[0].run
    return _chooser(name, offered)


def _choose_anew() -> None:
    """Forget every choice made so far."""
    vars(kernels).clear()


def _chooser(name: str, offered: list[Candidate]) -> Callable[..., Any]:
    """A function that asks the candidates one after the other, written out for them.

    For two candidates and a kernel with two arguments its source is::

        def add(x, y):
            if accepts_0(x, y) is True:
                return run_0(x, y)
            return run_1(x, y)

    A loop over candidates with ``*args`` says the same and takes 228 ns for a choice
    between two functions that do nothing; this takes 90, of which 65 are the two calls.
    """
    parameters, arguments, scope = _parameters(name)
    lines = [f"def {name}({parameters}):"]
    for i, candidate in enumerate(offered):
        scope[f"run_{i}"], scope[f"accepts_{i}"] = candidate.run, candidate.accepts
        indent = "    "
        if candidate.accepts is not None:
            lines.append(f"    if accepts_{i}({arguments}) is True:")
            indent = "        "
        lines.append(f"{indent}return run_{i}({arguments})")
    if not offered or offered[-1].accepts is not None:
        scope["refuse"] = _refuse
        lines.append(f"    refuse({name!r})")
    exec("\n".join(lines), scope)
    return scope[name]


def _parameters(name: str) -> tuple[str, str, dict[str, Any]]:
    """A kernel's parameters as source, the arguments of a call to it, and their defaults.

    They are those of the least preferred candidate: the specification.
    """
    run = _candidates[name][-1].run
    if isinstance(run, np.ufunc):
        # A kernel takes its operands alone, not NumPy's out=, where= and so on.
        names = [f"x{i}" for i in range(1, run.nin + 1)]
        return ", ".join([*names, "/"]), ", ".join(names), {}
    try:
        found = list(inspect.signature(run).parameters.values())
    except (TypeError, ValueError):  # a function written in C may hide its parameters
        found = []
    if not found or any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in found):
        return "*args, **kwargs", "*args, **kwargs", {}
    defaults = {f"default_{p.name}": p.default for p in found if p.default is not p.empty}
    parameters = [
        f"{p.name}=default_{p.name}" if f"default_{p.name}" in defaults else p.name for p in found
    ]
    return ", ".join(parameters), ", ".join(p.name for p in found), defaults


def _refuse(name: str) -> Any:
    why = [f"{backend}: {reason}" for backend, reason in _unavailable.items()]
    raise InputError(
        "backends", f"no candidate for {name!r} accepts these arguments.", facts=" · ".join(why)
    )


def _observed(name: str, offered: list[Candidate]) -> Callable[..., Any]:
    """A function that chooses as :func:`_chooser` does, and tells the observers."""

    def call(*args: Any, **kwargs: Any) -> Any:
        for candidate in offered:
            if candidate.accepts is None or candidate.accepts(*args, **kwargs) is True:
                return _through_observers(len(_observers) - 1, name, candidate, args, kwargs)
        return _refuse(name)

    call.__name__ = name
    return call


def _through_observers(
    depth: int, name: str, candidate: Candidate, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if depth < 0 or depth >= len(_observers):
        return candidate.run(*args, **kwargs)
    return _observers[depth](
        name,
        candidate.backend,
        args,
        kwargs,
        lambda: _through_observers(depth - 1, name, candidate, args, kwargs),
    )


@contextmanager
def use(backend: str) -> Iterator[None]:
    """Prefer one backend for the kernels that it has and the arguments that it accepts.

    What it does not take goes to the others in their usual order. Inside another
    ``use``, this one is asked first. It holds for all threads of the process.

    Raises:
        ValueError: if no such backend is there.

    >>> with use("reference"):
    ...     kernels.add(1.0, 2.0)
    np.float64(3.0)
    """
    _ask(backend)
    if backend in _unavailable:
        raise InputError(
            "backends.use", f"{backend} is not available.", facts=_unavailable[backend]
        )
    there = _with_kernels()
    if backend not in there:
        raise InputError("backends.use", f"no backend {backend!r}; there is {there}.")
    with _lock:
        _forced.append(backend)
        _choose_anew()
    try:
        yield
    finally:
        with _lock:
            # Another thread may have entered since: take away the last one of this name.
            del _forced[len(_forced) - 1 - _forced[::-1].index(backend)]
            _choose_anew()


# Looking on -----------------------------------------------------------------------------


def observe(observer: Observer) -> None:
    """Pass every kernel call, of all threads, through ``observer``.

    It is called as ``observer(name, backend, args, kwargs, proceed)`` after the choice;
    ``proceed()`` runs the kernel and returns its result, which the observer must return.
    Later observers surround earlier ones. Without observers, kernels are as if this
    function were not there.

    >>> def tell(name, backend, args, kwargs, proceed):
    ...     print(name, "runs on", backend)
    ...     return proceed()
    >>> observe(tell)
    >>> y = nano.ones(2) * 3
    multiply runs on reference
    >>> unobserve(tell)
    """
    with _lock:
        _observers.append(observer)
        _choose_anew()


def unobserve(observer: Observer) -> None:
    """Take an observer away."""
    with _lock:
        _observers.remove(observer)
        _choose_anew()


# What is there --------------------------------------------------------------------------


def available(backend: str, text: str | Callable[[], str] = "") -> None:
    """Say that a backend is there.

    Args:
        backend: its name.
        text: its version and whatever else a user may want to know; or a function that
            returns it, called when somebody asks, for a library that is loaded on first use.
    """
    with _lock:
        _unavailable.pop(backend, None)
        _available[backend] = text
        _choose_anew()


def unavailable(backend: str, reason: str) -> None:
    """Take a whole backend out of every choice, and remember why.

    It may be called at import, or by ``accepts`` when a library that was there cannot be
    loaded: the choice under way goes on with the next candidate.
    """
    with _lock:
        _available.pop(backend, None)
        _unavailable[backend] = reason
        _choose_anew()


def is_available(backend: str) -> bool:
    """Whether a backend offers kernels and its library can be loaded.

    >>> is_available("reference"), is_available("abacus")
    (True, False)
    """
    _ask(backend)
    return backend not in _unavailable and backend in _with_kernels()


def status() -> dict[str, str]:
    """For each backend, best first: its version or what else it says of itself, or why it is out.

    :func:`is_available` tells which of the two it is.

    >>> status()["reference"].startswith("NumPy")
    True
    """
    found = {}
    for backend in [*_PREFERENCE, *(b for b in _unavailable if b not in _PREFERENCE)]:
        text = _ask(backend)
        if backend in _unavailable:
            found[backend] = _unavailable[backend]
        elif backend in _with_kernels() or backend in _available:
            found[backend] = text
    return found


def _ask(backend: str) -> str:
    """What a backend says of itself; it may find out that it is missing after all."""
    text = _available.get(backend, "")
    if callable(text):
        text = text()
        with _lock:
            if backend in _available:
                _available[backend] = text
    return text


def choice(name: str, *args: Any) -> str:
    """The backend whose candidate would run the kernel on these arrays.

    >>> choice("isnan", nano.ones(2)._data)
    'reference'
    """
    for candidate in candidates(name):
        if candidate.accepts is None or candidate.accepts(*args) is True:
            return candidate.backend
    return _refuse(name)


def explain(name: str, *args: Any, **kwargs: Any) -> str:
    """Which candidate would run the kernel on these arguments, and why the others would not.

    Args:
        name: the kernel.
        args: its arguments, arrays or Tensors. Without any, the candidates are listed.

    Returns:
        Who runs; then a line for each other candidate.

    Raises:
        ValueError: if there is no such kernel.

    >>> print(explain("isnan", nano.ones(2)))
    isnan: reference runs
    """
    offered = candidates(name)
    if not args and not kwargs:
        head = "asked in this order: " + ", ".join(c.backend for c in offered)
        return "\n".join([f"{name}: {head}", *_missing(name)])
    arrays = [_array(a) for a in args]
    named = {key: _array(a) for key, a in kwargs.items()}
    chosen, notes = None, []
    for candidate in offered:
        answer = candidate.accepts is None or candidate.accepts(*arrays, **named)
        if answer is not True:
            notes.append(f"    {candidate.backend} refuses: {answer or 'no reason given'}")
        elif chosen is None:
            chosen = candidate.backend
        else:
            notes.append(f"    {candidate.backend} is next in line")
    head = f"{chosen} runs" if chosen else "no candidate accepts these arguments"
    return "\n".join([f"{name}: {head}", *notes, *_missing(name)])


def _missing(name: str) -> list[str]:
    """A line for each backend that has the kernel but is out."""
    return [
        f"    {c.backend} is not available: {_unavailable[c.backend]}"
        for c in _candidates[name]
        if c.backend in _unavailable
    ]


def _array(argument: Any) -> Any:
    """The array of a Tensor, which this floor does not know by name; anything else as it is."""
    if type(argument) in (list, tuple):
        return type(argument)(_array(a) for a in argument)
    return getattr(argument, "_data", argument)


def _with_kernels() -> list[str]:
    """The backends that offer at least one kernel, best first."""
    found = {c.backend for offered in _candidates.values() for c in offered}
    return [backend for backend in _PREFERENCE if backend in found]


def backends_in_use() -> dict[str, list[str]]:
    """For each backend that is there, the kernels for which it is the first choice."""
    table: dict[str, list[str]] = {b: [] for b in _with_kernels() if b not in _unavailable}
    for name in sorted(_candidates):
        offered = candidates(name)
        if offered:
            table[offered[0].backend].append(name)
    return table


available("reference", lambda: f"NumPy {np.__version__}")

"""Worker processes of the DataLoader: order, errors, seeds, and a clean end."""

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing import resource_tracker

import numpy as np
import pytest
import torch
from torch.utils import data as torch_data

import nano
from nano.data import DataLoader, Dataset, TensorDataset, get_worker_info, workers


class Slow(Dataset):
    """Even samples take longer than odd ones, so that workers finish out of order."""

    def __init__(self, n=20):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        time.sleep(0.004 if i % 2 else 0.0)
        return nano.full((3,), float(i)), i, os.getpid()


class Drawn(Dataset):
    """Random numbers of each kind that a data set may use."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return [random.random(), np.random.random(), nano.default_generator.numpy.random()]


class Faulty(Dataset):
    def __init__(self, action):
        self.action = action

    def __len__(self):
        return 8

    def __getitem__(self, i):
        if i == 5:
            self.action()
        return i


def children():
    """Processes of ours, ended ones that nobody waited for included."""
    path = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    with open(path) as file:
        found = set(file.read().split())
    # Python itself keeps one process from the first spawn on.
    return found - {str(resource_tracker._resource_tracker._pid)}


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = children()
    yield
    gc.collect()
    assert children() == before
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize(("size", "drop"), [(3, False), (3, True), (50, False)])
def test_batches_are_those_of_one_process_in_order(workers, size, drop):
    g = nano.Generator().manual_seed(1)
    options = {"shuffle": True, "drop_last": drop, "generator": g}
    one = [(x.tolist(), i.tolist()) for x, i, _ in DataLoader(Slow(), size, **options)]
    g.manual_seed(1)
    loader = DataLoader(Slow(), size, num_workers=workers, **options)
    many = list(loader)
    assert [(x.tolist(), i.tolist()) for x, i, _ in many] == one
    assert len(loader) == len(many)
    pids = {p for _, _, ids in many for p in ids.tolist()}
    assert os.getpid() not in pids
    assert len(pids) == min(workers, len(many))


def test_an_empty_set():
    assert list(DataLoader(Slow(0), 2, num_workers=2)) == []


def test_work_is_done_ahead():
    def stamp(samples):
        return time.monotonic()

    loader = DataLoader(Slow(8), 1, num_workers=1, prefetch_factor=3, collate_fn=stamp)
    batches = iter(loader)
    next(batches)
    # The first batch's successor was asked for when it was taken: three are made meanwhile.
    # A busy machine may need longer for them; it never makes a fourth.
    for patience in (0.3, 3.0, 30.0):
        time.sleep(patience)
        asked = time.monotonic()
        made = list(batches)
        if sum(t < asked for t in made) >= 3:
            break
        batches = iter(loader)
        next(batches)
    assert sum(t < asked for t in made) == 3


def test_layout_dtype_and_content_survive_the_pipe():
    # Channels-last, as images lie in memory; a width that needs several writes to a pipe.
    x = nano.tensor(np.arange(2 * 5 * 6 * 3000, dtype=np.float32).reshape(2, 5, 6, 3000))
    samples = {
        "image": x.permute(0, 3, 1, 2),
        "half": nano.tensor([1.5, -2.0], dtype=nano.bfloat16),
        "none": nano.zeros(0, 3),
        "scalar": nano.tensor(3),
        "stretched": nano.tensor([[1.0], [2.0]]).expand(2, 4),
        "array": np.arange(4),
        "text": ["a", b"b"],
    }
    loader = DataLoader([0], num_workers=1, collate_fn=lambda _: samples)
    (got,) = loader
    assert got["text"] == samples["text"]
    for name in ("image", "half", "none", "scalar", "stretched"):
        ours, theirs = got[name], samples[name]
        assert ours.dtype is theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert got["image"].stride() == samples["image"].stride()
    got["image"].numpy()[:] = 0  # memory of its own, which can be written to
    np.testing.assert_array_equal(got["array"], samples["array"])


class OddError(Exception):
    """Cannot be made from one message."""

    def __init__(self, a, b):
        super().__init__(a, b)


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("sample is odd"), ValueError),
        (KeyError("sample is odd"), KeyError),
        (nano.errors.InputError("me", "sample is odd"), nano.errors.InputError),
        (OddError("sample is odd", 2), RuntimeError),
        (type("Local", (Exception,), {})("sample is odd"), RuntimeError),
    ],
)
def test_errors_come_over_with_their_traceback(error, kind):
    loader = DataLoader(Faulty(lambda: _raise(error)), 2, num_workers=2)
    batches = iter(loader)
    assert [next(batches).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(kind) as caught:
        next(batches)
    assert type(caught.value) is kind or issubclass(type(caught.value), kind)
    text = str(caught.value)
    assert "sample is odd" in text
    assert "in __getitem__\n" in text
    assert "\\n" not in text
    # As PyTorch says it.
    name = "OddError" if isinstance(error, OddError) else kind.__name__
    assert text.startswith(
        f"Caught {name} in DataLoader worker process 0.\nOriginal Traceback (most recent call"
    )


def test_a_worker_that_dies():
    loader = DataLoader(Faulty(lambda: os.kill(os.getpid(), signal.SIGKILL)), 2, num_workers=2)
    with pytest.raises(RuntimeError, match="exited unexpectedly") as caught:
        list(loader)
    assert "signal 9" in str(caught.value)


def test_a_worker_that_takes_too_long():
    loader = DataLoader(Faulty(lambda: time.sleep(60)), 2, num_workers=2, timeout=0.3)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"timed out after 0\.3 seconds"):
        list(loader)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("persistent", [False, True])
def test_the_generator_decides_what_workers_draw(persistent):
    g = nano.Generator().manual_seed(4)
    loader = DataLoader(
        Drawn(), 2, num_workers=2, generator=g, persistent_workers=persistent, collate_fn=list
    )
    state = g.get_state()
    first, second = list(loader), list(loader)
    # No two samples share a number, nor do the two passes.
    for kind in range(3):
        assert len({s[kind] for batch in first + second for s in batch}) == 16
    g.set_state(state)
    assert list(loader) == first
    assert list(loader) == second


def test_worker_info_and_init():
    def init(number):
        info = get_worker_info()
        assert info.id == number
        assert info.num_workers == 2
        assert info.dataset.n == 4
        info.dataset.n = (number, info.seed)

    def look(samples):
        return get_worker_info().dataset.n

    loader = DataLoader(
        Slow(4), 2, num_workers=2, worker_init_fn=init, collate_fn=look,
        generator=nano.Generator().manual_seed(4),
    )  # fmt: skip
    (first, seed), (second, next_seed) = loader
    assert (first, second) == (0, 1)
    assert next_seed == seed + 1
    assert get_worker_info() is None
    with pytest.raises(ValueError, match="bad init"):
        list(
            DataLoader(
                Slow(4), 2, num_workers=1, worker_init_fn=lambda i: _raise(ValueError("bad init"))
            )
        )


def test_persistent_workers_stay():
    def pids(loader):
        return {p for _, _, ids in loader for p in ids.tolist()}

    loader = DataLoader(Slow(8), 2, num_workers=2, persistent_workers=True)
    first = pids(loader)
    assert pids(loader) == first
    # A pass within a pass has workers of its own.
    for number, _ in enumerate(loader):
        if number == 0:
            assert not pids(loader) & first
    next(iter(loader))  # left early: the next pass begins afresh
    assert len(pids(loader)) == 2
    loader = DataLoader(Slow(8), 2, num_workers=2)
    assert not pids(loader) & pids(loader)


def test_a_pass_left_early_ends_its_workers_at_once(monkeypatch):
    # One that hangs would be waited for so long: no machine is so busy as to take half of it.
    monkeypatch.setattr(workers, "_PATIENCE_SECONDS", 60.0)
    big = DataLoader(
        list(range(50)),
        1,
        num_workers=2,
        collate_fn=lambda s: np.zeros(1_000_000),
        prefetch_factor=8,
    )
    start = time.monotonic()
    for _ in big:
        break
    gc.collect()
    assert not multiprocessing.active_children()
    assert time.monotonic() - start < 30


def test_spawned_workers():
    data = TensorDataset(nano.arange(7), nano.arange(7) * 2)
    loader = DataLoader(data, 3, num_workers=1, multiprocessing_context="spawn")
    assert [b[1].tolist() for b in loader] == [[0, 2, 4], [6, 8, 10], [12]]


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_workers": -1},
        {"num_workers": 1.0},
        {"num_workers": 1, "in_memory": True},
        {"prefetch_factor": 2},
        {"persistent_workers": True},
        {"num_workers": 1, "prefetch_factor": 0},
        {"num_workers": 1, "timeout": -1},
    ],
)
def test_wrong_arguments(arguments):
    with pytest.raises(ValueError, match="DataLoader"):
        DataLoader(TensorDataset(nano.arange(3)), **arguments)


PROGRAM = """
import os, sys, time
from nano.data import DataLoader

class Endless:
    def __len__(self):
        return 10**6
    def __getitem__(self, i):
        return i

loader = DataLoader(Endless(), 1, num_workers=2, collate_fn=lambda s: os.getpid())
batches = iter(loader)
print(next(batches), next(batches), flush=True)
{action}
"""


def _gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("action", "signum"),
    [
        ("for _ in batches: time.sleep(0.01)", signal.SIGINT),
        ("for _ in batches: time.sleep(0.01)", signal.SIGTERM),
        ("for _ in batches: time.sleep(0.01)", signal.SIGKILL),
        ("sys.exit(3)", None),
        ("1 / 0", None),
    ],
    ids=["ctrl-c", "terminated", "killed", "exit", "error"],
)
def test_no_worker_outlives_its_parent(action, signum):
    program = PROGRAM.format(action=action)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = process.stdout.readline().split()
    assert len(pids) == 2
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)  # as a terminal does: parent and workers
    elif signum is not None:
        process.send_signal(signum)
    _, errors = process.communicate(timeout=60)  # a busy machine takes its time
    assert errors.count("Traceback") == (1 if signum == signal.SIGINT or "/" in action else 0)
    until = time.monotonic() + 30
    while not all(map(_gone, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(map(_gone, pids))


def test_seeds_of_pytorch_are_laid_out_alike():
    """Worker i has the seed of worker 0 plus i there, too."""

    def look(samples):
        return torch_data.get_worker_info().seed

    theirs = list(
        torch_data.DataLoader(
            list(range(4)), 2, num_workers=2, collate_fn=look,
            generator=torch.Generator().manual_seed(1),
        )
    )  # fmt: skip
    assert theirs[1] == theirs[0] + 1

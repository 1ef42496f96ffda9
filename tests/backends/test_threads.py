"""The thread pool: how many threads, in which Python thread, and how they treat tiny numbers."""

import ctypes
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch

import nano
from nano.backends import threads


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    before = threads._count
    listeners = list(threads._listeners)
    yield
    threads._listeners[:] = listeners
    threads._count = before
    threads._changes += 1


def answer(code, **env):
    """What a script prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | env,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestNumber:
    def test_set_and_get(self):
        nano.set_num_threads(3)
        assert nano.get_num_threads() == 3
        assert threads.this_thread() == 3

    @pytest.mark.parametrize("value", [0, -1, True, 1.5, "2", None])
    def test_what_pytorch_refuses(self, value):
        before = nano.get_num_threads()
        with pytest.raises(RuntimeError) as theirs:
            torch.set_num_threads(value)
        with pytest.raises(RuntimeError, match="expects a") as ours:
            nano.set_num_threads(value)
        assert str(theirs.value) in str(ours.value).replace("[set_num_threads]", "set_num_threads")
        assert nano.get_num_threads() == before

    @pytest.mark.parametrize(("asked", "got"), [("1", "1"), ("3", "3"), ("4,2", "4"), (" 2 ", "2")])
    def test_environment(self, asked, got):
        code = "import nano; print(nano.get_num_threads())"
        assert answer(code, OMP_NUM_THREADS=asked) == got

    @pytest.mark.parametrize("asked", ["", "0", "-1", "many"])
    def test_default_is_the_cores_that_one_may_use(self, asked):
        code = "import nano; print(nano.get_num_threads())"
        assert answer(code, OMP_NUM_THREADS=asked) == str(len(os.sched_getaffinity(0)))

    def test_pinned_to_one_core(self):
        assert answer("""
            import os
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
            import nano
            print(nano.get_num_threads())
        """) == "1"  # fmt: skip


class TestEveryThread:
    """OpenMP, and Numba, keep the number for each Python thread separately."""

    def test_listeners_hear_at_once_and_of_changes(self):
        heard = []
        threads.on_change(heard.append)
        assert heard == [nano.get_num_threads()]
        nano.set_num_threads(3)
        assert heard[1:] == [3]
        threads.this_thread()
        assert heard[1:] == [3]

    def test_listeners_hear_in_each_thread(self):
        heard = []
        threads.on_change(lambda count: heard.append((threading.get_ident(), count)))
        nano.set_num_threads(2)
        heard.clear()
        done = []
        worker = threading.Thread(target=lambda: done.append(threads.this_thread()))
        worker.start()
        worker.join()
        assert done == [2]
        assert heard == [(heard[0][0], 2)]
        assert heard[0][0] != threading.get_ident()

    def test_openmp_is_told_in_each_thread(self):
        threads.before_openmp_loads()
        if threads._openmp is None:
            pytest.skip("no GNU OpenMP here")
        found = {}

        def look(name):
            threads.this_thread()
            found[name] = threads._openmp.omp_get_max_threads()

        nano.set_num_threads(3)
        worker = threading.Thread(target=look, args=("worker",))
        worker.start()
        worker.join()
        look("main")
        nano.set_num_threads(1)
        look("later")
        assert found == {"worker": 3, "main": 3, "later": 1}

    def test_the_start_of_numbas_pool_leaves_the_number(self):
        """oneDNN's primitives, and their memory, are made for it."""
        pytest.importorskip("numba")
        code = """
            import nano
            from nano.backends import threads
            from nano.backends.fused.jit import _start_pool
            nano.set_num_threads(3)
            _start_pool()
            print(threads._openmp and threads._openmp.omp_get_max_threads())
        """
        assert answer(code, NUMBA_NUM_THREADS="2") in ("3", "None")

    def test_a_thread_that_was_ready_before_the_pool_is_told_too(self):
        assert answer("""
            import nano
            from nano.backends import threads
            nano.set_num_threads(3)
            threads.this_thread()  # nothing is loaded yet
            threads.before_openmp_loads()
            threads.this_thread()
            print(threads._openmp and threads._openmp.omp_get_max_threads())
        """) in ("3", "None")  # fmt: skip

    def test_two_threads_may_load_at_once(self):
        """And the environment is as it was."""
        assert answer("""
            import os, threading
            from nano.backends import threads
            gate, wrong = threading.Barrier(8), []
            def load():
                gate.wait()
                try:
                    threads.before_openmp_loads()
                except BaseException as error:
                    wrong.append(error)
            workers = [threading.Thread(target=load) for _ in range(8)]
            [w.start() for w in workers]
            [w.join() for w in workers]
            print(wrong, "GOMP_SPINCOUNT" in os.environ)
        """) == "[] False"  # fmt: skip


class TestBlas:
    CODE = """
        import numpy as np, threadpoolctl
        {}
        from nano.backends import threads
        threads.before_openmp_loads()
        threads.start()
        np.ones((300, 300)) @ np.ones((300, 300))
        found = threadpoolctl.threadpool_info()
        print({{p["num_threads"] for p in found if p["user_api"] == "blas"}})
    """

    def test_it_is_held_to_one_thread(self):
        assert answer(self.CODE.format(""), OPENBLAS_NUM_THREADS="2") == "{1}"

    def test_without_threadpoolctl_it_is_left_alone(self):
        """It is not among the packages that nano needs."""
        assert answer("""
            import sys
            sys.modules["threadpoolctl"] = None
            from nano.backends import threads
            threads.start()
            print("fine")
        """) == "fine"  # fmt: skip


def flushes(value=1e-40):
    """Whether the calling thread takes denormal numbers as zero."""
    return float(np.float32(value) * np.float32(1)) == 0


class TestDenormalNumbers:
    def test_set_flush_denormal(self):
        if not nano.set_flush_denormal(True):
            pytest.skip("not on this system")
        try:
            assert flushes()
        finally:
            assert nano.set_flush_denormal(False)
        assert not flushes()

    def test_the_pool_flushes_and_the_caller_does_not(self):
        threads.before_openmp_loads()
        if threads._openmp is None or threads._floating_point_mode() is None:
            pytest.skip("no GNU OpenMP, or another processor")
        nano.set_num_threads(3)
        threads.this_thread()
        assert not flushes()
        found = {}
        gate = threading.Barrier(3)

        @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        def look(_):
            mode = threads._floating_point_mode()[1][threads._MXCSR]
            found[threading.get_ident()] = mode & threads._FLUSH == threads._FLUSH
            gate.wait(timeout=10)

        threads._openmp.GOMP_parallel(ctypes.cast(look, ctypes.c_void_p), None, 3, 0)
        caller = found.pop(threading.get_ident())
        assert caller is False
        assert list(found.values()) == [True, True]

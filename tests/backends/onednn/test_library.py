"""Finding and loading the library; and processes with it: forked ones, and PyTorch's neighbour."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from nano.backends.onednn.library import UnavailableError, library

from .common import needs_onednn

#: What each of the scripts below computes: a convolution, its gradients, and products.
WORK = """
    import json, os, sys
    import numpy as np

    def work():
        import nano
        from nano.backends import kernels
        rng = np.random.default_rng(0)
        x = rng.integers(-3, 4, (4, 32, 12, 12)).astype("f4")
        w = rng.integers(-3, 4, (32, 32, 3, 3)).astype("f4")
        m = rng.integers(-3, 4, (256, 256)).astype("f4")
        how = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
        y = kernels.conv2d(x, w, None, *how)
        return [
            y,
            kernels.conv_transpose2d(x, w, None, (12, 12), *how),
            kernels.conv2d_weight(x, x, (3, 3), *how),
            kernels.matmul(m, m),
            kernels.linear(m, m, m[0]),
        ]

    def equal(a, b):
        return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
"""


def run(code, **env):
    """The JSON that a script prints as its last line."""
    code = textwrap.dedent(WORK) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k not in env}
        | {k: v for k, v in env.items() if v},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_onednn
class TestLoaded:
    def test_facts(self):
        lib = library()
        assert lib is library()
        assert lib.version.startswith("3.")
        assert lib.path.endswith(".so.3")
        assert lib.isa.startswith(("AVX", "AMX"))

    def test_import_does_not_load_it(self):
        """Loading takes 10 ms, and brings the thread pool."""
        assert (
            run("""
            import nano
            maps = open("/proc/self/maps").read()
            print(json.dumps("dnnl" in maps or "gomp" in maps))
        """)
            is False
        )

    def test_small_work_does_not_load_it(self):
        assert (
            run("""
            import nano
            layer = nano.nn.Linear(16, 16)
            (layer(nano.ones(4, 16)) @ nano.ones(16, 1)).sum().backward()
            print(json.dumps("dnnl" in open("/proc/self/maps").read()))
        """)
            is False
        )

    def test_status(self):
        assert run("""
            from nano.backends import status
            print(json.dumps(status()["onednn"]))
        """) == f"oneDNN {library().version}, {library().isa}"  # fmt: skip


class TestMissing:
    @pytest.mark.parametrize(
        ("named", "why"),
        [
            ("off", "switched off by NANO_ONEDNN=off"),
            ("/no/such/file.so", "/no/such/file.so, which is no file"),
            (__file__, "cannot be loaded"),
            ("LIBM", "is not oneDNN 3"),
            ("HALF", "is not whole"),
        ],
    )
    def test_the_reason_is_told_and_results_are_equal(self, named, why):
        found = run(
            """
            import tempfile
            named = os.environ["NANO_ONEDNN"]
            if named in ("LIBM", "HALF"):
                maps = open("/proc/self/maps").read().split()
                os.environ["NANO_ONEDNN"] = next(m for m in maps if "/libm.so" in m)
            if named == "HALF":
                whole = open(os.environ["NANO_ONEDNN"], "rb").read()
                half = tempfile.NamedTemporaryFile()
                half.write(whole[: len(whole) // 2])
                half.flush()
                os.environ["NANO_ONEDNN"] = half.name
            from nano.backends import explain, status, use
            a = work()
            with use("reference"):
                b = work()
            x = np.ones((256, 256), "f4")
            print(json.dumps([equal(a, b), explain("matmul", x, x), status()["onednn"]]))
            """,
            NANO_ONEDNN=named,
        )
        assert found[0]
        assert found[1].startswith("matmul: reference runs\n    onednn is not available: ")
        assert why in found[1]
        assert why in found[2]

    def test_status_alone_finds_it_out(self):
        found = run(
            """
            from nano.backends import is_available, status
            print(json.dumps([status()["onednn"], is_available("onednn")]))
            """,
            NANO_ONEDNN="off",
        )
        assert found == ["switched off by NANO_ONEDNN=off", False]

    def test_it_is_told_before_anything_ran(self):
        """Nothing has asked for the library when these questions come."""
        available, refused, found = run(
            """
            from nano.backends import is_available, use
            there = is_available("onednn")
            try:
                with use("onednn"):
                    pass
            except ValueError as error:
                refused = str(error)
            from nano.doctor import findings
            print(json.dumps([there, refused, dict(findings()["Kernels"])["onednn"]]))
            """,
            NANO_ONEDNN="off",
        )
        assert not available
        assert "not available" in refused
        assert "switched off by NANO_ONEDNN=off" in refused
        assert found.startswith("not in use: switched off by NANO_ONEDNN=off.")

    def test_it_is_the_same_reason_every_time(self, monkeypatch):
        from nano.backends.onednn import library as binding

        monkeypatch.setattr(binding, "_loaded", None)
        monkeypatch.setattr(binding, "_refused", None)
        monkeypatch.setenv("NANO_ONEDNN", "off")
        with pytest.raises(UnavailableError, match="switched off") as first:
            library()
        monkeypatch.delenv("NANO_ONEDNN")
        with pytest.raises(UnavailableError, match="switched off") as second:
            library()
        assert first.value is second.value


@needs_onednn
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
class TestForked:
    """A child has none of its parent's threads; waiting for them would hang (see the timeout)."""

    FORK = """
        {before}
        child = os.fork()
        if child == 0:
            import nano
            {inside}
            same = equal(work(), wanted)
            os._exit(nano.get_num_threads() if same else 100)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        import nano
        print(json.dumps([status, equal(work(), wanted), nano.get_num_threads()]))
    """
    RIGHT = """
        import nano
        from nano.backends import use
        with use("reference"):
            wanted = work()
        {then}
    """

    def script(self, then="", inside=""):
        before = textwrap.dedent(self.RIGHT).format(then=then).replace("\n", "\n        ")
        return self.FORK.format(before=before, inside=inside)

    def test_after_work_a_child_computes_on_one_thread(self):
        assert run(self.script("work()"), OMP_NUM_THREADS="3") == [1, True, 3]

    def test_even_if_it_asks_for_more(self):
        asks = "nano.set_num_threads(2)"
        assert run(self.script("work()", asks), OMP_NUM_THREADS="3") == [1, True, 3]

    def test_before_any_work_a_child_has_its_own_threads(self):
        assert run(self.script(), OMP_NUM_THREADS="3") == [3, True, 3]

    def test_pools_of_others_count(self):
        """PyTorch shares OpenMP with nano, and has used it."""
        uses = "import torch; torch.ones(600, 600) @ torch.ones(600, 600)"
        assert run(self.script(uses), OMP_NUM_THREADS="3") == [1, True, 3]


@needs_onednn
@pytest.mark.parametrize("first", ["nano", "torch"])
def test_beside_pytorch(first):
    """Both in one process, in turn, whichever comes first."""
    found = run(
        """
        wanted = work() if FIRST == "nano" else None
        import torch
        torch.manual_seed(0)
        a = torch.randint(-3, 4, (256, 256)).float()
        image, weight = torch.ones(4, 32, 12, 12), torch.ones(32, 32, 3, 3)

        def theirs():
            return [a @ a, torch.nn.functional.conv2d(image, weight, padding=1)]

        right = theirs()
        wanted = wanted or work()
        same = True
        for _ in range(10):
            same = same and equal(work(), wanted) and equal(theirs(), right)
        from nano.backends import use
        with use("reference"):
            same = same and equal(work(), wanted)
        print(json.dumps(same))
        """.replace("FIRST", repr(first))
    )
    assert found

"""The table of averages and the trace."""

import gzip
import json
import re

import pytest
import torch

import nano
from nano.profiler import Event, EventList, profile, record_function


@pytest.fixture(scope="module")
def prof():
    x = nano.ones(8, 8, requires_grad=True)
    with profile(record_shapes=True, with_stack=True) as watching:
        with record_function("product"):
            y = x @ x
        y = y + nano.ones(8)
        y.sum().backward()
    return watching


def made(name, kind, start, end, inner=0, backend=""):
    """An event with times in microseconds."""
    event = Event(name, kind, backend)
    event.start, event.end, event.inner = start * 1000, end * 1000, inner * 1000
    return event


@pytest.fixture
def events():
    """Two calls of one Function around a kernel, which ran on two backends."""
    return EventList(
        [
            made("MatMul", "function", 0, 1000, inner=900),
            made("matmul", "kernel", 50, 950, backend="onednn"),
            made("MatMul", "function", 2000, 5000, inner=2000),
            made("matmul", "kernel", 2500, 4500, backend="reference"),
        ],
        wall=6_000_000,
    )


class TestAverages:
    def test_sums(self, events):
        first, fast, slow = events.key_averages()
        assert (first.key, first.kind, first.count) == ("MatMul", "function", 2)
        assert first.cpu_time_total == 4000
        assert first.self_cpu_time_total == 1100
        assert first.cpu_time == 2000
        assert (fast.backend, fast.count, slow.backend, slow.count) == ("onednn", 1, "reference", 1)
        assert events.key_averages().self_cpu_time_total == 4000

    def test_by_shape(self):
        with profile(record_shapes=True) as watching:
            for n in (2, 3, 2):
                nano.ones(n).exp()
        together = [r for r in watching.key_averages() if r.key == "Exp"]
        assert [(r.count, r.input_shapes) for r in together] == [(3, [])]
        apart = [r for r in watching.key_averages(group_by_input_shape=True) if r.key == "Exp"]
        assert [(r.count, r.input_shapes) for r in apart] == [(2, [[2]]), (1, [[3]])]

    def test_by_line(self):
        with profile(with_stack=True) as watching:
            for _ in range(2):
                nano.ones(2).exp()
                nano.ones(2).exp()
        apart = [r for r in watching.key_averages(group_by_stack_n=1) if r.key == "Exp"]
        assert [r.count for r in apart] == [2, 2]
        assert apart[0].stack != apart[1].stack

    def test_attributes_that_pytorch_has(self, prof):
        with torch.profiler.profile(record_shapes=True) as theirs:
            torch.ones(2) + 1
        row, event = theirs.key_averages(group_by_input_shape=True)[0], theirs.events()[0]
        ours = prof.key_averages(group_by_input_shape=True)[0]
        for name in ("key", "count", "cpu_time", "cpu_time_total", "self_cpu_time_total",
                     "input_shapes", "stack"):  # fmt: skip
            assert type(getattr(ours, name)) is type(getattr(row, name)), name
        for name in ("name", "key", "cpu_time_total", "self_cpu_time_total"):
            assert type(getattr(prof.events()[0], name)) is type(getattr(event, name)), name


class TestTable:
    def test_text(self, events):
        text = events.table(sort_by="cpu_time_total", header="of two products")
        header, rule, titles, _, *rows, end, total, wall = text.splitlines()
        assert header == "of two products"
        assert set(rule) == {"-", " "}
        assert end == rule
        assert len(titles) <= len(rule)
        # Columns are two spaces or more apart.
        assert [re.split(" {2,}", line) for line in (titles, *rows)] == [
            ["Name", "Kind", "Backend", "Self CPU %", "Self CPU", "CPU total %", "CPU total",
             "CPU time avg", "# of Calls"],
            ["MatMul", "function", "27.50%", "1.100ms", "100.00%", "4.000ms", "2.000ms", "2"],
            ["matmul", "kernel", "reference", "50.00%", "2.000ms", "50.00%", "2.000ms", "2.000ms",
             "1"],
            ["matmul", "kernel", "onednn", "22.50%", "900.000us", "22.50%", "900.000us",
             "900.000us", "1"],
        ]  # fmt: skip
        assert (total, wall) == ("Self CPU time total: 4.000ms", "Wall time: 6.000ms")

    @pytest.mark.parametrize("by", ["self_cpu_time_total", "cpu_time_total", "cpu_time", "count"])
    def test_order(self, prof, by):
        averages = prof.key_averages()
        text = averages.table(sort_by=by)
        names = [line.split()[:2] for line in text.splitlines()[3 : 3 + len(averages)]]
        value = {(r.key, r.kind): getattr(r, by) for r in averages}
        values = [value[tuple(n)] for n in names]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) > 1

    def test_rows_as_seen_and_their_limit(self, prof):
        averages = prof.key_averages()
        for limit, expected in ((3, 3), (0, 0), (-1, len(averages)), (100, len(averages))):
            lines = averages.table(row_limit=limit).splitlines()
            names = [line.split()[0] for line in lines[3:-3]]
            assert names == [r.key for r in averages][:expected]

    def test_unknown_order_is_pytorchs_error(self, prof):
        with torch.profiler.profile() as theirs:
            torch.ones(2) + 1
        with pytest.raises(AttributeError):
            theirs.key_averages().table(sort_by="beauty")
        with pytest.raises(AttributeError, match="cannot sort by 'beauty'"):
            prof.key_averages().table(sort_by="beauty")

    def test_further_columns(self, prof):
        assert "Input Shapes" not in prof.key_averages().table()
        text = prof.key_averages(group_by_input_shape=True, group_by_stack_n=1).table()
        row = next(line for line in text.splitlines() if line.startswith("MatMul "))
        assert row.endswith("y = x @ x")
        assert "[[8, 8], [8, 8]]" in row
        assert "float32, float32" in row

    def test_long_texts_are_shortened(self):
        long = EventList([made("n" * 80, "range", 0, 1)])
        assert re.search(r"^n{52}\.\.\. ", long.table(), re.M)
        assert re.search(r"^n{7}\.\.\. ", long.table(max_name_column_width=10), re.M)

    def test_nothing(self):
        with profile() as empty:
            pass
        assert "Self CPU time total: 0.000us" in empty.key_averages().table(sort_by="count")

    def test_of_events_themselves(self, events):
        assert events.table() == events.key_averages().table()


class TestTrace:
    def test_what_is_in_it(self, prof, tmp_path):
        prof.export_chrome_trace(tmp_path / "trace.json")
        assert [p.name for p in tmp_path.iterdir()] == ["trace.json"]
        trace = json.loads((tmp_path / "trace.json").read_text())
        complete = [e for e in trace["traceEvents"] if e["ph"] == "X"]
        assert len(complete) == len(prof.events())
        for entry, event in zip(complete, prof.events(), strict=True):
            assert set(entry) == {"ph", "cat", "name", "ts", "dur", "pid", "tid", "args"}
            assert entry["name"] == event.name
            assert entry["ts"] >= 0
            assert entry["dur"] == event.cpu_time_total
            assert entry["tid"] == event.thread
        kernel = next(e["args"] for e in complete if e["name"] == "matmul")
        assert kernel["Backend"] == "reference"
        assert kernel["Input Dims"] == [[8, 8], [8, 8]]
        assert kernel["Input type"] == ["float32", "float32"]
        assert kernel["Call stack"].endswith("y = x @ x")
        names = [e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"]
        assert names == ["nano", "MainThread"]

    def test_events_lie_within_their_parents(self, prof):
        """Otherwise a viewer draws them in the wrong row."""
        for event in prof.events():
            if event.parent is not None:
                assert event.parent.start <= event.start <= event.end <= event.parent.end

    def test_arrows_from_operators_to_derivatives(self, prof, tmp_path):
        prof.export_chrome_trace(tmp_path / "trace.json")
        entries = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        starts = {e["id"]: e for e in entries if e["ph"] == "s"}
        ends = {e["id"]: e for e in entries if e["ph"] == "f"}
        backwards = [e for e in prof.events() if e.kind == "backward"]
        assert len(starts) == len(ends) == len(backwards) >= 3
        by_ts = {e["ts"]: e["name"] for e in entries if e["ph"] == "X"}
        pairs = {(by_ts[starts[i]["ts"]], by_ts[ends[i]["ts"]]) for i in starts}
        assert ("MatMul", "MatMulBackward0") in pairs

    def test_compressed(self, prof, tmp_path):
        prof.export_chrome_trace(str(tmp_path / "trace.json.gz"))
        content = gzip.decompress((tmp_path / "trace.json.gz").read_bytes())
        assert json.loads(content)["traceEvents"]

    def test_a_file_that_cannot_be_written(self, prof, tmp_path):
        with pytest.raises(RuntimeError, match=r"\[export_chrome_trace\].*cannot be written"):
            prof.export_chrome_trace(tmp_path / "nowhere" / "trace.json")
        assert not list(tmp_path.iterdir())

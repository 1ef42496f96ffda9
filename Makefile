# `make train` and `make test` set everything up by themselves: Python 3.11 and make are enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-all lint bench bench-all clean

train: .venv/train.stamp
	$(BIN)/nanodl train digits

test: .venv/test.stamp lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --max-worker-restart 0

# With the tests that take longer.
test-all: .venv/test.stamp lint
	$(BIN)/python -m pytest -q -m ""

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: .venv/test.stamp
	$(BIN)/python -m benchmarks.eager
	$(BIN)/python -m benchmarks.importing
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.train --peer torch
	$(BIN)/python -m benchmarks.train --peer torch --inference

# What takes longer or asks more: mixed precision, a busy neighbour, fresh processes, convolutions.
bench-all: bench
	$(BIN)/python -m benchmarks.train --peer torch --bf16
	$(BIN)/python -m benchmarks.train --peer torch --bf16 --inference
	$(BIN)/python -m benchmarks.train --peer torch --compile
	$(BIN)/python -m benchmarks.train --peer torch --busy
	$(BIN)/python -m benchmarks.train --peer torch --first
	$(BIN)/python -m benchmarks.train --peer torch --memory
	$(BIN)/python -m benchmarks.convolution
	$(BIN)/python -m benchmarks.chains

.venv/train.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[train]'
	touch $@

.venv/test.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ .venv/train.stamp

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis

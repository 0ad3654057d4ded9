# make demo and make test are all the set-up there is; both make the environment when it is not there.
PYTHON ?= python3
BIN := .venv/bin
LIGHT := not slow and not recipes and not vllm and not browser and not chaos

.PHONY: demo test test-slow test-all bench check fix clean

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "medgloss needs Python 3.11 or newer; say make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: .venv/installed  ## phantoms in, training set out: runs/demo
	$(BIN)/medgloss demo-data runs/demo-data
	$(BIN)/medgloss run runs/demo-data/*.yaml --out runs/demo --split train=0.8 --split validation=0.1 --split test=0.1

test: .venv/installed  ## all but the heavy tests
	$(BIN)/python -m pytest -m '$(LIGHT)'

test-slow: .venv/installed  ## the heavy tests that need nothing but time
	$(BIN)/python -m pytest -m 'slow or chaos'

test-all: .venv/installed  ## everything
	$(BIN)/python -m pytest

bench: .venv/installed  ## what ingest costs, against comparisons: half an hour
	$(BIN)/python benchmarks/ingest.py

check: .venv/installed  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs build dist .mypy_cache .pytest_cache .ruff_cache

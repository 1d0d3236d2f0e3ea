# Two commands set everything up: `make demo` and `make test`. `make bench` prints the figures of docs/benchmarks.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check unit slow bench bench-learning clean

demo: $(STAMP)
	$(BIN)/wardround demo

test: check unit

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A test that hangs ends after minutes with the stacks of all threads, and is named; the others go on.
unit: $(STAMP)
	$(BIN)/pytest -n auto -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true

# Minutes: Prefect deployments, a schedule that fires, and rounds of many sites.
slow: $(STAMP)
	$(BIN)/pytest -m slow

bench: $(STAMP)
	$(BIN)/pytest tests/benchmarks --benchmark-only -s

# Trains on the real files of ../shared/data, and writes the tables of docs/benchmarks.md.
bench-learning: $(STAMP)
	$(BIN)/python -m tests.benchmarks.learning

$(STAMP): pyproject.toml deployments/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deployments/constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info

# make demo: the study on embedded data.   make test: lint, types, tests.   make test-all: slow tests too.   make docs: the site.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-all lint audit bench docs clean

demo: $(VENV)/.installed
	$(BIN)/smidgen demo

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-all: test
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Known vulnerabilities of what constraints.txt pins; says so, and passes, where no advisories can be had.
audit: $(VENV)/.installed-dev
	PYTHON=$(BIN)/python .ci/audit

bench: $(VENV)/.installed-dev
	@set -e; for script in benchmarks/vs_trl.py benchmarks/ablation.py; do echo "$$script"; $(BIN)/python "$$script"; done

docs: $(VENV)/.installed-dev
	$(BIN)/python -m tools.docs

# torch first and alone: with everything else in one go, pip would weigh its many builds against each other.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Smidgen needs Python 3.11 or newer; give one: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) build dist site docs/reference .cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests recipes benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

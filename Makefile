# Everything a newcomer, a developer and a build server do. Only Python 3.11+, pip and make are assumed:
# `uv` comes from pip and installs the pinned set in one resolver run; Node comes from PyPI's wheel.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
EXTRAS := demo,test,dev
RUN    := $(BIN)/python -m
# One process more than there are cores: many tests wait for a process or a clock, and somebody else can go on.
JOBS   ?= $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() or 2, 7) + 1)')
FAULT_SEEDS ?= 1000
FUZZ_CASES ?= 50000
SLOW_CONNECTIONS ?= 10000
PYTEST := $(RUN) pytest -n $(JOBS) --dist loadgroup
LINTED := sluiceway api orchestration dashboards_app expectations tests benchmarks

# Without byte code every start would compile two hundred packages anew.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup canvas up dev demo test test-fast faults check audit format types lint bench docs dbt-docs doctor psql clean distclean

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*?## "} /^[a-z][a-z-]*:.*?## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Install everything into .venv (instant when nothing changed)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Sluiceway needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@test -x $(BIN)/python || { echo "Making the virtual environment …"; $(PYTHON) -m venv $(VENV); }
	@test -x $(BIN)/uv || $(BIN)/pip install --quiet --constraint constraints.txt uv
	@echo "Installing the pinned packages …"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

canvas: $(STAMP)  ## Build the browser component
	@$(RUN) dashboards_app.canvas.build

up: $(STAMP)  ## Set everything up and run it with the demo (Ctrl-C stops it)
	@$(BIN)/sluiceway up --demo

dev: $(STAMP)  ## Run it without the demo's replay, with detailed logs
	@SLUICEWAY_LOG_LEVEL=debug $(BIN)/sluiceway up

demo: $(STAMP)  ## Send the demo's data to a platform that runs already
	@$(BIN)/sluiceway demo

test: canvas  ## Run every test
	@$(PYTEST)

test-fast: canvas  ## Run the tests that take no more than a moment each
	@$(PYTEST) -m "not slow and not browser and not faults"

faults: canvas  ## Kill, cut, fill, slow and poison at full length; writes the table in docs/faults.md
	@FAULT_LONG=1 FAULT_SEEDS=$(FAULT_SEEDS) FUZZ_CASES=$(FUZZ_CASES) SLOW_CONNECTIONS=$(SLOW_CONNECTIONS) \
		$(PYTEST) -m faults --fault-results tests/faults/results.json; \
		code=$$?; $(RUN) tests.support.faults.page && exit $$code

check: lint types  ## Lint, formatting, types, import contracts and our own checks
	@$(BIN)/lint-imports
	@$(RUN) pytest -q tests/lint

audit: $(STAMP)  ## Ask the public database for weaknesses of what is pinned (needs a net)
	@$(BIN)/uv tool run --quiet pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

lint: $(STAMP)
	@$(BIN)/ruff check $(LINTED)
	@$(BIN)/ruff format --check $(LINTED)

types: $(STAMP)
	@$(BIN)/mypy

format: $(STAMP)  ## Sort imports and format the code
	@$(BIN)/ruff check --fix-only --quiet $(LINTED)
	@$(BIN)/ruff format --quiet $(LINTED)

bench: $(STAMP)  ## Run the benchmarks (BENCH=name for one)
	@$(RUN) benchmarks $(BENCH)

docs: $(STAMP)  ## Write the tables in docs/ anew from the code
	@$(RUN) sluiceway.runtime.reference

doctor: $(STAMP)  ## Check the installation
	@$(BIN)/sluiceway doctor

psql: $(STAMP)  ## Open the database
	@$(BIN)/sluiceway psql

clean:  ## Remove caches and built files (data and .venv stay)
	@rm -rf build dist dashboards_app/canvas/.build.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dashboards_app/canvas/dist dbt_project/target dbt_project/logs
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## Remove also .venv and node_modules (data under .sluiceway stays)
	@rm -rf $(VENV) dashboards_app/canvas/node_modules

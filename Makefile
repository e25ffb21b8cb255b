# `make demo` and `make test` need Python 3.11 or newer with venv, and nothing else.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Tables and figures of tests and demo do not depend on the machine's display.
export MPLBACKEND := Agg

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs unit slow format clean
.DELETE_ON_ERROR:

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-all ## set up, then compare routers on a built-in workload
	$(BIN)/balanceroute compare

test: lint docs unit ## set up, then lint, types, documentation and tests

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev ## the documentation site, in build/site, without a warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

unit: $(VENV)/.installed-dev ## tests, without those marked slow
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q

slow: $(VENV)/.installed-dev ## the longer fuzzing, proofs and recipes
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q -m slow

format: $(VENV)/.installed-dev ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The stamps are older than pyproject.toml exactly when something has to be installed again.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "installing balanceroute-opt[$*] into $(VENV) (once, some minutes) ..."
	$(PIP) --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, $(PYTHON) is " + v + "; name another: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

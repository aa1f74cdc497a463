# One set of commands for people and for CI; `make` alone lists them.
#
# Everything is installed into $(VENV), in the versions of constraints.txt, and anew only when that file or
# pyproject.toml has changed. Where packages come from is pip's own configuration: nothing is added to it here.

VENV ?= .venv
ARGS ?=# more arguments for the program a target runs: make test ARGS="-k verify"

ifndef PYTHON
PYTHON := $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CREATED := $(VENV)/.created
INSTALLED := $(VENV)/.installed
DEV_INSTALLED := $(VENV)/.installed-dev

# Dozens of processes of every test run read what one of them has compiled, also where the environment forbids it.
unexport PYTHONDONTWRITEBYTECODE

# Every processor runs tests; each process computes on one, and those of one file stay together for what they share.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
# Files come in the order of tests/conftest.py, the longest first, instead of those with the most tests.
PARALLEL := -n logical --dist loadfile --no-loadscope-reorder

define check_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "edgekit needs Python 3.11 or newer, which $(PYTHON) is not. Run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "$(PYTHON) cannot make virtual environments. On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-slow test-arm instructions lint format build hooks constraints clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED) ## Export ParCNetV2-T for ARM boards and say where the bundle is
	$(BIN)/edgekit export parcnetv2_t --target arm $(ARGS)

test: $(INSTALLED) ## Run the fast tests
	$(PYTEST) $(PARALLEL) $(ARGS)

test-slow: $(INSTALLED) ## Run the slow tests: conversions and float64 verification of whole models
	$(PYTEST) $(PARALLEL) -m slow $(ARGS)

test-arm: $(INSTALLED) ## Run exported artifacts in emulated ARM boards (needs qemu-user, qemu-system-arm)
	$(PYTEST) -n 2 --dist loadfile -m arm tests/arm $(ARGS)

instructions: $(INSTALLED) ## Count instructions on emulated boards anew, for tests/arm/instructions.json
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tests.arm.instructions

lint: $(DEV_INSTALLED) ## Check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(DEV_INSTALLED) ## Format the code and apply the linter's safe corrections
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

build: $(INSTALLED) ## Build the source archive and the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --no-isolation

hooks: $(DEV_INSTALLED) ## Check every commit with the linter, the formatter and mypy
	$(BIN)/pre-commit install

# CUDA packages are left out: torch pins them itself, exactly, and its CPU build has none. So is the `+cpu` of a
# version, which would shut out every other build. To hold a version back: make constraints ARGS=torch==2.13.0
constraints: ## Pin the newest version of every dependency anew
	$(check_python)
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder/venv"; \
	"$$folder/venv/bin/python" -m pip --disable-pip-version-check install -e '.[all,test,dev]' $(ARGS); \
	grep '^#' constraints.txt >"$$folder/pins"; \
	"$$folder/venv/bin/python" -m pip --disable-pip-version-check list --format freeze --exclude-editable \
		--exclude pip >"$$folder/list"; \
	sed 's/+.*//' "$$folder/list" | grep -v -E '^(cuda|nvidia|triton)' | LC_ALL=C sort -f -t = -k 1,1 >>"$$folder/pins"; \
	cp "$$folder/pins" constraints.txt

clean: ## Remove what building, linting and testing leave behind
	rm -rf build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find benchmarks edgekit exporters quant targets tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## The same, and remove the virtual environment
	rm -rf $(VENV)

$(CREATED):
	$(check_python)
	$(PYTHON) -m venv $(VENV)
	@touch $@

# setuptools comes first and the build is not isolated, for an isolated one would fetch versions that nothing pins.
$(INSTALLED): $(CREATED) pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt setuptools
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[all,test]'
	@touch $@

$(DEV_INSTALLED): $(INSTALLED)
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[all,test,dev]'
	@touch $@

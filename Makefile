# Two commands matter: `make demo` shows it at work, `make test` proves it. Each makes .venv first;
# a machine needs Python 3.11+ and make, and no PostgreSQL.

# The first interpreter that is new enough; PYTHON=… names another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# Good on two cores: some tests wait for a server or a process.
PARALLEL ?= 4

.PHONY: demo test check chaos bench bench-full format docs ci clean help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.ready-test ## run the newsletter example on an embedded PostgreSQL
	$(BIN)/python -m examples.newsletter

# Compiled code is kept, also where that is turned off: hundreds of processes would compile it again.
test: $(VENV)/.ready-test ## run all tests, in parallel, on an embedded PostgreSQL
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q -n $(PARALLEL) --dist worksteal $(ARGS)

check: $(VENV)/.ready-dev ## formatting, lint, strict types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(VENV)/.ready-test ## prove the fault table on real processes; ARGS=--long takes its time
	$(BIN)/python -m tests.chaos $(ARGS)

bench: $(VENV)/.ready-bench ## measure this project and its peers, quick; ARGS="--only drain_10"
	$(BIN)/python -m benchmarks $(ARGS)

bench-full: $(VENV)/.ready-bench ## the same for figures to publish: takes hours
	$(BIN)/python -m benchmarks --full $(ARGS)

format: $(VENV)/.ready-dev ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.ready-docs ## build the documentation into site/
	$(BIN)/mkdocs build --strict

ci: ## what .ci/run runs
	bash .ci/run

clean: ## remove what the targets made
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(VENV)/.ready-%: pyproject.toml
	@test -n "$(PYTHON)" || { \
		echo "Python 3.11 or later with venv and pip is needed; name one: make PYTHON=python3.12 …" >&2; \
		exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the project with its '$*' extra"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

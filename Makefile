# The whole interface to Atelier. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# The first of these that is a Python this project runs on; else python3, so that the preflight can say what is wrong with it.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 && echo $$p && exit; done; echo python3)
VENV := .venv
RUN := $(VENV)/bin/python
ATELIER := $(VENV)/bin/atelier
ENV_STAMP := $(VENV)/.complete
JARS_STAMP := .jars/.complete
ARGS ?=
BENCHMARKS = $(patsubst tests/benchmarks/%.py,%,$(filter-out tests/benchmarks/\_%,$(wildcard tests/benchmarks/*.py)))

.PHONY: help preflight env jars native lock demo up down status logs test check format prove bench base-model docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z%_-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

preflight: ## Check what this machine needs (Python, JDK, Maven, free ports) and how to get it
	@$(PYTHON) -m include.platform.preflight --ports

env: $(ENV_STAMP) ## Build .venv from the locked requirements.txt

$(ENV_STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -m include.platform.preflight
	@echo "environment: $(VENV), with $$($(PYTHON) --version)"
	@if command -v uv >/dev/null; then \
		[ -x $(RUN) ] || uv venv --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV); \
		uv pip install --python $(RUN) --require-hashes --compile-bytecode -r requirements.txt; \
	else \
		[ -x $(RUN) ] || $(PYTHON) -m venv $(VENV); \
		$(RUN) -m pip install --quiet --disable-pip-version-check uv; \
		$(RUN) -m uv pip install --python $(RUN) --require-hashes --compile-bytecode -r requirements.txt; \
	fi
	@{ command -v uv >/dev/null && uv=uv || uv="$(RUN) -m uv"; $$uv pip install --python $(RUN) --no-deps --no-build-isolation -e .; }
	@touch $@

jars: $(JARS_STAMP) ## Fetch the jars of Kafka and of Flink's connectors with Maven into .jars

$(JARS_STAMP): pom.xml
	@$(PYTHON) -m include.platform.preflight
	rm -rf .jars
	mvn -B --no-transfer-progress -Pkafka dependency:copy-dependencies
	mvn -B --no-transfer-progress -Pflink dependency:copy-dependencies
	mvn -B --no-transfer-progress -Pparquet dependency:copy-dependencies
	@touch $@

native: env ## Compile the scheduler with mypyc; without a C compiler it runs interpreted
	@$(RUN) -m include.native

lock: ## Compile requirements.in into requirements.txt, with hashes, for Linux and macOS
	@{ command -v uv >/dev/null && uv=uv || uv="$(RUN) -m uv"; $$uv pip compile requirements.in --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --quiet -o requirements.txt; }

demo: preflight env jars native ## The whole lifecycle, from a dataset to images, with everything left running
	@$(ATELIER) demo $(ARGS)

up: preflight env jars native ## Start every service of the local profile, or whichever are missing
	@$(ATELIER) up

down: ## Stop every service; the state stays in .atelier
	@if [ -x $(ATELIER) ]; then $(ATELIER) down; else echo "nothing to stop: no environment"; fi

status: env ## Show each service: state, address, pid, uptime, last log line
	@$(ATELIER) status

NAME ?= gateway
logs: env ## Follow a service's log: make logs NAME=worker-0
	@$(ATELIER) logs $(NAME) -f

# The demo in small measures itself, so it runs when the others are through, and also where one of them failed.
test: env jars native ## Run all tests: unit, contract, integration, end to end; or those that ARGS names
ifdef ARGS
	$(RUN) -m pytest $(ARGS)
else
	failed=0; \
	$(RUN) -m pytest -n 2 tests/unit tests/contract tests/integration || failed=1; \
	$(RUN) -m pytest tests/e2e || failed=1; \
	exit $$failed
endif

check: env ## Lint, format, types, import direction
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -q tests/unit/test_import_direction.py

format: env ## Rewrite the code as `make check` wants it
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: env jars native ## Run every benchmark; each prints one JSON line
	@for name in $(BENCHMARKS); do echo "== $$name" >&2; $(RUN) -m tests.benchmarks.$$name $(ARGS); done

prove: env native ## The scheduler's guarantees on 2,000 random histories of up to 50 steps
	ATELIER_STATE_MACHINE_RUNS=2000 $(RUN) -m pytest tests/unit/include/scheduling/test_state_machine.py

bench-%: env jars native ## Run one benchmark: make bench-router ARGS="--seconds 20"
	@$(RUN) -m tests.benchmarks.$* $(ARGS)

BASE_RUN := .atelier/training/base
base-model: env ## Train the shipped base checkpoint again, from nothing; hours, and it resumes
	dataset=$$($(RUN) -m include.dataset --root .atelier/datasets); \
	$(RUN) -m models.training.train_text_to_image --config models/configs/base.yaml --output $(BASE_RUN) --dataset "$$dataset" $(ARGS); \
	$(RUN) -m models.training.base_model export --run $(BASE_RUN) --dataset "$$dataset"

docs: env ## Generate the schemas, AsyncAPI and tables of docs/ from the code
	$(RUN) docs/generate.py

clean: down ## Remove the environment, the jars and all state
	rm -rf $(VENV) .jars .native .atelier

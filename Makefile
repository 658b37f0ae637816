# Set-up, the main job, tests. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh

SENTENCE ?= put the red cube in the bowl
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.robostack-setup
PATHS := robostack simgen policies hardware tests
# Two test processes on two cores: more threads inside each would only get in one another's way.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

.PHONY: help setup demo test test-slow check format build clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with everything in it (idempotent)

$(STAMP): pyproject.toml constraints.txt .ci/setup
	@.ci/setup $(VENV)
	@touch $@

demo: setup ## Set up, then run the whole loop on one sentence and print where the report is
	$(BIN)/robostack run "$(SENTENCE)"

test: setup ## Set up, then run the tests that need neither GPU, ROS nor network
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2

test-slow: setup ## The tests that take minutes
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 -m slow

check: setup ## Lint, formatting, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup ## Rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

build: setup ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

clean: ## Remove caches and build products; .venv and outputs stay
	rm -rf dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find $(PATHS) -name __pycache__ -type d -prune -exec rm -rf {} +

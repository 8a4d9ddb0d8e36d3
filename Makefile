# Everything runs inside .venv, whether or not another virtual environment is active.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help setup bench test asv lint format clean

help: ## show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install gen-bench with everything the tests need

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,peers]"
	@touch $(STAMP)

bench: setup ## run the suite `quick` and print its leaderboard (about six minutes on two cores)
	$(BIN)/bench run quick

test: setup ## run all tests, in two processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

asv: setup ## time kernels, models and imports with asv at this commit, site in .asv/html (long; a part: ASV="--quick --bench Kernels")
	$(BIN)/asv machine --yes
	$(BIN)/asv run --environment existing:same --set-commit-hash "$$(git rev-parse HEAD)" --show-stderr $(ASV)
	$(BIN)/asv publish

lint: setup ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build dist

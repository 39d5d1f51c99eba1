# `make` alone lists the targets. Everything is installed into .venv; nothing else is touched.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup quickstart test simulations mutants lint benchmark soak kills readme-table clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Install the project and its tools into .venv

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "senet-bench needs Python 3.10 to 3.13; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "could not make $(VENV); on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf $(VENV); exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

quickstart: setup ## Train, test and profile the three models on the embedded data (about 5 minutes)
	$(BIN)/senet-bench run quickstart --resume
	@echo "Open reports/quickstart/report.html"

test: setup ## Run all tests
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

simulations: setup ## Hold every claim against planted truths, in full (about 10 minutes)
	$(BIN)/python -m pytest tests/bench/stats tests/bench/report/derive -m slow

mutants: setup ## Break statistics, report and timing on purpose and print what no test notices
	$(BIN)/python tests/mutants.py

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: setup ## Run the performance tests of tests/perf and keep their figures in .benchmarks
	$(BIN)/python -m pytest tests/perf --benchmark-enable --benchmark-only --benchmark-autosave

# Every published record is in the table, whichever report it was published with.
REPORT ?= reports/cpu
readme-table: setup ## Render reports/*/records into REPORT (reports/cpu), README's results, COLUMNS.md
	$(BIN)/senet-bench report reports/*/records --out $(REPORT) --readme README.md
	$(BIN)/senet-bench columns --markdown > bench/report/COLUMNS.md

MINUTES ?= 30
soak: setup ## Kill a training on DATA=folder at random for MINUTES=30; it must end the same
	@test -n "$(DATA)" || { echo "soak needs a folder of images: make soak DATA=folder" >&2; exit 2; }
	$(BIN)/python tests/soak.py "$(DATA)" --minutes $(MINUTES)

kills: setup ## Kill conductors, workers and nodes of suites at random; every job is done once
	$(BIN)/python tests/suite_kills.py

clean: ## Remove what the other targets made, except runs and reports
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

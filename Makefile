# Everything happens in .venv; only python3 >= 3.11 with venv, and make, are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= build/quickstart
DATA ?= $(or $(SIMSERVE_DATA),../shared/data)
DATE ?= $(shell date -u +%F)
WORKERS ?= 2
CHROMIUM ?= /usr/bin/chromium

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-ui calibration validate claims compile bench format clean

help: ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "python3 >= 3.11 is needed; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(STAMP) ## Set up and run the quickstart.
	$(BIN)/simserve run scenarios/quickstart.yaml --out $(OUT)
	@echo && echo "simserve is $(BIN)/simserve: source $(BIN)/activate. Look at the run with simserve dashboard $(dir $(OUT))"

test-ui: $(STAMP) ## The dashboard in a browser: Debian's Chromium, or CHROMIUM=PATH.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check playwright
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest -m ui tests/dashboard

test: $(STAMP) ## Set up and pass the tests: style, types, behaviour.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 -m 'not slow and not ui'

test-slow: $(STAMP) ## The tests that take minutes.
	$(BIN)/python -m pytest -m slow

calibration: $(STAMP) ## Fit hardware/calibration/*.yaml again, from the tables in DATA/kernels, in WORKERS processes.
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/simserve calibrate fit $(DATA)/kernels --hardware all --workers $(WORKERS) --out hardware/calibration --date $(DATE) --provenance "measured kernels of aiconfigurator, Vidur, LLMServingSim, InferSim, LLMCompass and apex_plus"

validate: $(STAMP) ## Simulate the real servers of DATA/e2e and compare. VALIDATE='--html build/validate' draws.
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/simserve validate $(DATA)/e2e/*/ $(VALIDATE)
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/simserve validate $(DATA)/e2e/*/ --leave-one-out

claims: $(STAMP) ## Simulate the field's published claims; writes docs/background/claims.md. CLAIMS=orca for one.
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m simserve.study.claims $(CLAIMS) --page docs/background/claims.md

compile: $(STAMP) ## Optional: compile the hot modules for big runs; the results are the same.
	$(BIN)/python tools/compile.py

bench: $(STAMP) $(if $(findstring --plain,$(BENCH)),,compile) ## Measure the speed; writes build/bench.json. BENCH='--load 2x50k', '--million', '--kinds', '--studies' or '--plain'.
	$(BIN)/python tests/benchmarks/bench.py $(BENCH)

format: $(STAMP) ## Put the code into the house's form.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove what was built, not the environment.
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

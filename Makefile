# UPSNet panoptic segmentation. `make` lists what there is; every target does the set-up that it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup run ablation test test-slow test-gpu lint format mlflow lock clean

# HOROVOD=0: the one-process product, which needs no compiler.
HOROVOD ?= 1
ifeq ($(HOROVOD),0)
  WORKERS ?= 1
endif
# Training and evaluation processes of `make run`.
WORKERS ?= 2
export HOROVOD

# DVC wants a git repository unless it is told that there is none, and dvc.yaml calls `upsnet` by name.
DVC_REPRO = { [ "$$(git rev-parse --show-toplevel 2>/dev/null)" = "$(CURDIR)" ] \
  || .venv/bin/dvc config --local core.no_scm true; } && PATH="$(CURDIR)/.venv/bin:$$PATH" WORKERS=$(WORKERS) dvc repro

# One thread per test process: several processes on all cores are faster than one with all threads.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest
SPREAD := -n auto --maxprocesses 8 --dist loadfile

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Options: HOROVOD=0 (no Horovod, one process), WORKERS=n (processes of make run, default 2)"

setup: ## make .venv: the locked packages, and Horovod built from its source release
	@setup/venv.sh

run: setup ## prepare, train and evaluate what params.yaml names, and print the table
	@$(DVC_REPRO)
	@.venv/bin/upsnet report runs/evaluate/metrics.json
	@echo "Pictures: runs/evaluate/strips/   figures: runs/evaluate/metrics.json   MLflow: make mlflow"

ablation: setup ## train and evaluate the systems and switches of the paper's tables on it (an hour), and compare
	@$(DVC_REPRO) ablation/dvc.yaml
	@.venv/bin/upsnet compare runs/ablation --out runs/compare
	@echo "The same tables, to open in a browser: runs/compare/compare.html"

test: lint ## lint and the default tests (minutes)
	$(PYTEST) $(SPREAD) -m "not slow and not gpu"

test-slow: setup ## the tests that take many minutes
	.venv/bin/python -m pytest -m "slow and not gpu"

test-gpu: setup ## the tests that need a CUDA device
	.venv/bin/python -m pytest -m gpu

lint: setup ## ruff (format and rules) and mypy
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

format: setup ## format the code, and mend what ruff can mend
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

mlflow: setup ## open the MLflow UI on the runs of this folder
	.venv/bin/mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

lock: ## resolve pyproject.toml into requirements.lock (UPGRADE=1: newest versions)
	@setup/lock.sh

clean: ## delete what `make run` made, except the MLflow runs; keep .venv
	rm -rf runs .dvc/cache .dvc/tmp .pytest_cache .mypy_cache .ruff_cache .hypothesis

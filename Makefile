# UPSNet panoptic segmentation. `make` lists what there is; every target does the set-up that it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup run ablation pipeline compile preflight submit cancel image serve data-push data-pull screenshots test test-slow test-gpu test-image lint format mlflow lock clean

# HOROVOD=0: the one-process product, which needs no compiler.
HOROVOD ?= 1
ifeq ($(HOROVOD),0)
  WORKERS ?= 1
endif
# Training and evaluation processes of `make run`.
WORKERS ?= 2
export HOROVOD

# Of `make submit`: PIPELINE, PRESET and VARIANTS by name, ARGS for every other option of the commands on a cluster.
PIPELINE ?= ablation
PRESET ?= coco_r50
VARIANTS ?= upsnet,upsnet_c
ARGS ?=
PYTHON := .venv/bin/python

# Of `make image`: DEVICE=cuda builds Horovod with NCCL.
DEVICE ?= cpu
VERSION ?= 0.1.0
IMAGE ?= upsnet:$(VERSION)$(if $(filter cuda,$(DEVICE)),-cuda)

# Of `make serve`: which registered model, and where it listens.
MODEL ?= models:/upsnet@champion
PORT ?= 5001

# DVC wants a git repository unless it is told that there is none, and dvc.yaml calls `upsnet` by name.
DVC_READY = { [ "$$(git rev-parse --show-toplevel 2>/dev/null)" = "$(CURDIR)" ] \
  || .venv/bin/dvc config --local core.no_scm true; }
DVC_REPRO = $(DVC_READY) && PATH="$(CURDIR)/.venv/bin:$$PATH" WORKERS=$(WORKERS) dvc repro

# One thread per test process: several processes on all cores are faster than one with all threads.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest
SPREAD := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Options: HOROVOD=0 (no Horovod, one process), WORKERS=n (processes of make run, default 2)"

setup: ## make .venv: the locked packages, and Horovod built from its source release
	@setup/venv.sh

run: setup ## prepare, train and evaluate what params.yaml names, and print the table
	@$(DVC_REPRO)
	@.venv/bin/upsnet report runs/evaluate/metrics.json
	@echo "Pictures: runs/evaluate/strips/   figures: runs/evaluate/metrics.json   MLflow: make mlflow"

ablation: setup ## train and evaluate the systems and switches of the paper's tables on it (an hour), and compare
	@$(DVC_REPRO) ablation/dvc.yaml
	@.venv/bin/upsnet compare runs/ablation --out runs/compare --mlflow-parent "make ablation"
	@echo "The same tables, to open in a browser: runs/compare/compare.html"

pipeline: setup ## the Kubeflow pipeline `ablation` on this machine: three variants, two Horovod processes
	@WORKERS=$(WORKERS) $(PYTHON) -m pipelines.local $(ARGS)

compile: setup ## write the Kubeflow pipelines to runs/pipelines/*.yaml
	@$(PYTHON) -m pipelines.compile --out runs/pipelines $(ARGS)

preflight: setup ## look whether the cluster has what a run needs
	@$(PYTHON) -m pipelines.preflight $(ARGS)

submit: setup ## start a run on Kubeflow (KFP_HOST), for example PRESET=coco_r50 VARIANTS=upsnet,upsnet_c
	@$(PYTHON) -m pipelines.submit $(PIPELINE) --preset $(PRESET) --variants $(VARIANTS) $(ARGS)

cancel: setup ## end a run on Kubeflow and remove its MPIJobs: RUN=<id>
	@$(PYTHON) -m pipelines.cancel $(RUN) $(ARGS)

image: ## build the container image of all steps (DEVICE=cuda for GPUs); needs Docker
	DOCKER_BUILDKIT=1 docker build --build-arg DEVICE=$(DEVICE) --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) -t $(IMAGE) .

serve: setup ## answer pictures over HTTP with the champion (MODEL=models:/NAME/VERSION, PORT=5001)
	@MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" PATH="$(CURDIR)/.venv/bin:$$PATH" \
	  .venv/bin/mlflow models serve -m $(MODEL) --env-manager local -p $(PORT)

data-push: setup ## bring data and results of dvc.lock to the DVC remote
	@$(DVC_READY) && $(PYTHON) -m upsnet.data.dvc_remote push

data-pull: setup ## fetch data and results of dvc.lock from the DVC remote, instead of computing them
	@$(DVC_READY) && $(PYTHON) -m upsnet.data.dvc_remote pull

screenshots: setup ## take the README's pictures of MLflow and of the compare page after `make ablation` (chromium)
	@$(PYTHON) docs/screenshots.py --experiment upsnet --report runs/compare/compare.html

test: lint ## lint and the default tests (minutes)
	$(PYTEST) $(SPREAD) -m "not slow and not gpu"

test-slow: setup ## the tests that take many minutes
	.venv/bin/python -m pytest -m "slow and not gpu"

test-gpu: setup ## the tests that need a CUDA device
	.venv/bin/python -m pytest -m gpu

test-image: setup ## build the image's file system in a Debian root and train in two of its "pods" (root, debootstrap)
	UPSNET_IMAGE_ROOT=$(CURDIR)/runs/image $(PYTHON) -m pytest -s -m slow tests/image

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

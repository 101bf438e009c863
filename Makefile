.DEFAULT_GOAL := help
SHELL := /bin/bash
# The newest Python that serves, unless PYTHON names one. Each is tried: pyenv leaves names on the PATH that run nothing,
# Debian leaves out venv.
PYTHONS := python3.13 python3.12 python3.11
FITTING = $(eval FITTING := $(shell for python in $(PYTHONS); do \
  $$python -c 'import ensurepip, venv' >/dev/null 2>&1 && echo $$python && exit; done))$(FITTING)
# What is older cannot read the script, which refuses the others with a sentence.
RUNS = -c 'import sys; sys.exit(sys.version_info < (3, 7))' >/dev/null 2>&1
ADVICE = Python 3.11 to 3.13 is needed, with venv. $(if $(FITTING),Type: make $@ PYTHON=$(FITTING),Install one \
  (Debian: apt install python3 python3-venv), or name one: make $@ PYTHON=/path/to/python3)
set_up = python='$(or $(PYTHON),$(FITTING),python3)'; $$python $(RUNS) || { \
  echo "error: $(if $(PYTHON),PYTHON=)$$python does not run, or is no Python of today. $(ADVICE)" >&2; exit 1; }; \
  $$python laptop/setup_environment.py $(1) $(PYTHON)
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := .sightline/plates
TARGETS := data train
# What was built and pushed last; compile, submit and schedule use it.
REMEMBERED := .sightline-images.json
REGISTRY ?= $(or $(SIGHTLINE_REGISTRY),sightline)
TAG ?= $(or $(SIGHTLINE_TAG),latest)
# Tests of one file share what they made, so files go side by side; those of one engine and one Kubernetes mostly wait.
CORES := $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
SIDE_BY_SIDE = -n $(shell echo $$(($(CORES) > 4 ? 4 : $(CORES)))) --no-loadscope-reorder
SIDE_BY_SIDE_WITH_CLUSTER = -n $(shell echo $$(($(CORES) > 4 ? 5 : $(CORES) + 1))) --no-loadscope-reorder
TORCH ?= cpu
MMCV_OPS ?= 1
BUILD_train = --build-arg TORCH=$(TORCH) --build-arg MMCV_OPS=$(MMCV_OPS)
# Where the code is from, for the images' labels; a remote's URL may hold a password, which stays out.
SOURCE ?= $(shell git remote get-url origin 2>/dev/null | sed -E 's|//[^/@]*@|//|')
VERSION ?= $(shell sed -n 's/^version = //p' setup.cfg)
REVISION ?= $(shell git describe --always --abbrev=40 --exclude '*' --dirty 2>/dev/null)

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Make .venv with everything pinned (minutes the first time, a moment when nothing changed)
	@$(call set_up,dev $(VENV))

.PHONY: setup-submit
setup-submit: ## Make .venv for the cluster's commands only (no torch, no numpy)
	@$(call set_up,submit $(VENV))

.PHONY: annotate-setup
annotate-setup: ## Make .venv-annotate with the labelme program (brings Qt)
	@$(call set_up,annotate .venv-annotate)

.PHONY: demo
demo: setup ## Make a small licence-plate dataset and run the whole pipeline on it
	@test -d $(DEMO) || $(RUN) pipeline.py sample $(DEMO) --images 120
	@$(RUN) pipeline.py publish $(DEMO) --category plates --version v0.1.0
	@$(RUN) pipeline.py local --category plates --epochs 12

# Their hundreds of processes import the same: bytecode is kept, whatever the environment says. A thread each: several
# processes that all compute with every core wait for one another.
test test-rest test-all test-times test-broken: export PYTHONDONTWRITEBYTECODE =
test test-rest test-all test-times test-broken: export OMP_NUM_THREADS = 1

.PHONY: test
test: setup ## Run a test of every promise, and all that are quick (minutes)
	@$(RUN) -m pytest -m "not slow" $(SIDE_BY_SIDE) $(PYTEST_ARGS)

.PHONY: test-rest
test-rest: setup ## Run what `make test` leaves out, and try more examples of what it tries few of
	@$(RUN) -m pytest -m "slow or hypothesis" --hypothesis-profile full $(SIDE_BY_SIDE_WITH_CLUSTER) $(PYTEST_ARGS)

.PHONY: test-all
test-all: setup ## Run all tests (about half an hour on two cores; docs/development.md says what some need)
	@$(RUN) -m pytest --hypothesis-profile full $(SIDE_BY_SIDE_WITH_CLUSTER) $(PYTEST_ARGS)

.PHONY: test-times
test-times: setup ## Run all tests, print each one's seconds, and say which should be marked slow
	@$(RUN) -m pytest --times=.pytest_cache/times.json $(SIDE_BY_SIDE_WITH_CLUSTER) $(PYTEST_ARGS) || echo "some failed"
	@$(RUN) -m tests.propose_markers .pytest_cache/times.json

.PHONY: test-broken
test-broken: setup ## Break each promise of tests/promises.yaml on a copy and see `make test` notice
	@$(RUN) -m tests.break_promises

.PHONY: lint
lint: setup ## Check style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

.PHONY: format
format: setup ## Format the code
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

.PHONY: docs
docs: setup ## Write the tables of docs/ that the code says: recipe, settings, findings, parameters, commands
	@$(RUN) -m tests.doc_tables

.PHONY: house
house: setup ## Measure the code, or with REV=… a Git revision: sizes, where imports point, releases
	@$(RUN) -m tests.house $(CHECKOUT) $(if $(REV),--rev $(REV))

.PHONY: bench
bench: setup ## Run every benchmark; each prints both sides (about half an hour)
	@for benchmark in benchmarks/[a-z]*.py; do echo "== $$benchmark"; $(RUN) $$benchmark || exit 1; done

.PHONY: compile
compile: ## Write pipeline.yaml for the Kubeflow UI (make setup-submit is enough)
	@test -x $(RUN) || $(MAKE) setup
	@$(RUN) pipeline.py compile -o pipeline.yaml

.PHONY: images
images: ## Build the images: make images REGISTRY=eu.gcr.io/team TAG=v1 [TORCH=cu130] [MMCV_OPS=0]
	@$(foreach target,$(TARGETS),docker build --file docker/Dockerfile --target $(target) \
	  --tag $(REGISTRY)/sightline-$(target):$(TAG) $(BUILD_$(target)) --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$(REVISION) --build-arg SOURCE=$(SOURCE) . &&) true
	@for target in $(TARGETS); do \
	  image=$(REGISTRY)/sightline-$$target:$(TAG); \
	  docker image inspect --format '{{.Size}}' $$image | awk -v image=$$image '{printf "%s  %d MB\n", image, $$1 / 1e6}'; \
	done
	@printf '{"registry": "%s", "tag": "%s"}\n' '$(REGISTRY)' '$(TAG)' > $(REMEMBERED)

.PHONY: push
push: ## Push the images of the same REGISTRY and TAG; their digests are then in image-digests.json
	@for target in $(TARGETS); do docker push --quiet $(REGISTRY)/sightline-$$target:$(TAG) || exit 1; done
	@separator='{'; for target in $(TARGETS); do \
	  name=$(REGISTRY)/sightline-$$target; \
	  digest=$$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' $$name:$(TAG) | sed -n "s|^$$name@||p"); \
	  test -n "$$digest" || { echo "error: $$name:$(TAG) has no digest in that registry" >&2; exit 1; }; \
	  printf '%s"%s": "%s"' "$$separator" $$target "$$digest"; separator=', '; \
	done > image-digests.json; echo '}' >> image-digests.json
	@printf '{"registry": "%s", "tag": "%s", "digests": %s}\n' '$(REGISTRY)' '$(TAG)' "$$(cat image-digests.json)" > $(REMEMBERED)
	@cat image-digests.json

.PHONY: lock
lock: setup ## Resolve setup.cfg into the locks in docker/requirements
	@PATH=$(CURDIR)/$(VENV)/bin:$$PATH docker/requirements/lock.sh

.PHONY: clean
clean: ## Remove the virtual environments and caches (not .sightline, which holds data and models)
	@rm -rf .venv .venv-annotate .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

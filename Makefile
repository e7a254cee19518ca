PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.DEFAULT_GOAL := help

help:
	@echo "make bench       which queue? (MESSAGES= QUEUE= SUBSCRIBERS= WORKERS= SQS= SET='NAME=VALUE …')"
	@echo "make limit       the highest rate that each queue holds, found and proven (the same, and QUICK=1)"
	@echo "make million     a million 1-second POSTs (QUEUE=SQS: through the local SQS at latency 0)"
	@echo "make benchmarks  every stage beside the plain way; writes docs/benchmarks.md (STAGES= REPEATS= SCALE=)"
	@echo "make test        the tests, several at a time (JOBS=)"
	@echo "make test-fast   those of figures, engine, queues and all else that takes a moment"
	@echo "make test-wheel  builds the wheel and tries it in environments that have nothing else"
	@echo "make test-docker the tests of docker-compose; they need a Docker Engine and both Compose generations"
	@echo "make faults      kills, stops and cuts parts of the running pipeline (SEED= FAULTS= QUEUE= KIND= STOCK=1)"
	@echo "make lint        ruff and mypy"

$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed (set PYTHON=python3.12, say); this is $$($(PYTHON) --version)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing what requirements.txt names into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@echo "installing what requirements-dev.txt names into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Only what is set on the command line: an exported MESSAGES or QUEUE of some other project is not meant.
set_here = $(if $(filter command line,$(origin $(1))),$(2) '$($(1))')

bench: $(VENV)/.installed
	@$(PY) -m queuebench bench $(call set_here,MESSAGES,--messages) $(call set_here,QUEUE,--queue) \
	  $(call set_here,SUBSCRIBERS,--subscribers) $(call set_here,WORKERS,--workers) \
	  $(call set_here,SQS,--sqs) $(foreach pair,$(SET),--set '$(pair)')

limit: $(VENV)/.installed
	@$(PY) -m queuebench limit $(call set_here,QUEUE,--queue) \
	  $(call set_here,SUBSCRIBERS,--subscribers) $(call set_here,WORKERS,--workers) \
	  $(call set_here,SQS,--sqs) $(if $(call set_here,QUICK,x),--quick) $(foreach pair,$(SET),--set '$(pair)')

# Two workers fill two cores; ten shipments a task save a third of the worker's CPU; a local SQS that answered
# after 10 ms would be what is measured. Through SQS, where publishing and receiving cost nearly as much as shipping,
# two cores have room for 1,500 slots, and for a subscriber that keeps to their pace.
million: $(VENV)/.installed
	@$(PY) -m queuebench bench --flood --messages 1000000 --queue REDIS --workers 2 --sqs '--latency 0' \
	  --set WORKER_SLOTS=1000 --set SHIPMENTS_PER_TASK=10 \
	  $(if $(filter SQS,$(QUEUE)),--set WORKER_SLOTS=750 --set CELERY_BACKLOG_LIMIT=500) \
	  $(call set_here,MESSAGES,--messages) $(call set_here,QUEUE,--queue) \
	  $(call set_here,SUBSCRIBERS,--subscribers) $(call set_here,WORKERS,--workers) \
	  $(foreach pair,$(SET),--set '$(pair)')

benchmarks: $(VENV)/.installed
	@$(PY) -m benchmarks $(if $(call set_here,STAGES,x),$(STAGES)) --table docs/benchmarks.md \
	  $(call set_here,REPEATS,--repeats) $(call set_here,SCALE,--scale)

# What is measured decides how many at a time: tests/conftest.py says what "auto" is.
JOBS := auto
PYTEST := $(PY) -m pytest --numprocesses $(JOBS) --dist worksteal

test: $(VENV)/.installed-dev
	@$(PYTEST) -m "not docker and not wheel"

test-fast: $(VENV)/.installed-dev
	@$(PYTEST) -m "not docker and not wheel and not browser and not slow"

test-wheel: $(VENV)/.installed-dev
	@$(PY) -m pytest -m wheel

test-docker: $(VENV)/.installed-dev
	@$(PY) -m pytest -m docker

faults: $(VENV)/.installed-dev
	@$(PY) -m tests.faults $(if $(call set_here,STOCK,x),--stock) $(call set_here,SEED,--seed) \
	  $(call set_here,FAULTS,--faults) $(call set_here,QUEUE,--queue) $(call set_here,KIND,--kind)

lint: $(VENV)/.installed-dev
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

.PHONY: help bench limit million benchmarks faults test test-fast test-wheel test-docker lint

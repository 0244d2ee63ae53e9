# One command to build the book, one to test it. `make help` lists the rest.

PROFILE ?= laptop
DEVICE ?= cpu
SEED ?= 0
PORT ?= 8000
# The newest Python on this machine that the pinned packages support, unless one is named.
# Debian's is one without `ensurepip` until its package python3-venv is there.
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
ifndef PYTHON
PYTHON := $(shell for each in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$each -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo $$each; break; }; done)
endif

# What installs the packages, pip or uv, and which build of torch: `cpu` has no CUDA and takes half the room.
INSTALLER ?= pip
TORCH ?= default
INSTALL_pip := .venv/bin/python -m pip install --disable-pip-version-check
INSTALL_uv := uv pip install --python .venv/bin/python
INSTALL = $(or $(INSTALL_$(INSTALLER)),$(error INSTALLER must be pip or uv, got $(INSTALLER)))
FROM_default := true
FROM_cpu = $(INSTALL) --no-deps --index-url https://download.pytorch.org/whl/cpu $(shell grep '^torch==' requirements.txt)
FROM = $(or $(FROM_$(TORCH)),$(error TORCH must be cpu or default, got $(TORCH)))

# The environment is rebuilt when its pins change. The stamp is written last: an interrupted install leaves none.
STAMP := .venv/.ready-$(shell cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)
TSL := .venv/bin/python -m tsl
OPTIONS = --profile $(PROFILE) --device $(DEVICE) --seed $(SEED)

.PHONY: help book publish pdf serve test coverage format clean distclean environment lock
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F':[^#]*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  options: PROFILE=ci|laptop|paper ($(PROFILE))  DEVICE=cpu|cuda ($(DEVICE))  SEED=$(SEED)  PORT=$(PORT)"
	@echo "           INSTALLER=pip|uv ($(INSTALLER))  TORCH=default|cpu ($(TORCH))  PYTHON=$(PYTHON)"

book: $(STAMP) ## run the chapters that changed and render the book (PROFILE, DEVICE, SEED)
	@$(TSL) book $(OPTIONS)

publish: $(STAMP) ## run what changed, then copy the executed notebooks over notebooks/*.ipynb
	@$(TSL) publish $(OPTIONS)

pdf: book ## build the book, then print it as one PDF: _build/book.pdf (needs chromium)
	@$(TSL) pdf

serve: $(STAMP) ## serve the built book at http://127.0.0.1:PORT
	@$(TSL) serve --port $(PORT)

test: $(STAMP) ## style, types, tests, every chapter, the book, the browser: all that CI runs
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
	@.venv/bin/python -m pytest

SCIENCE := advice bad_input baselines cot covariance errors exact forecast gpt laws logs lsa odd_inputs prompts selection stopping theory training
coverage: $(STAMP) ## share of the science, by branches, that its tests run: at least 95 % (four minutes)
	@mkdir -p _build && .venv/bin/python -m coverage run -m pytest -q $(SCIENCE:%=tests/test_%.py)
	@.venv/bin/python -m coverage report

format: $(STAMP) ## format the code and mend what the linter can mend
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .
	@.venv/bin/jupytext --quiet --pipe ".venv/bin/ruff format --line-length 88 --stdin-filename cell.py -" notebooks/*.md

clean: ## remove everything built (keeps the environment and .checkpoints)
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis

distclean: clean ## remove the environment and the checkpoints of long trainings too
	rm -rf .venv .checkpoints *.egg-info

environment: $(STAMP) ## only make the environment .venv (PYTHON, INSTALLER, TORCH)

lock: ## write the hashes of all pinned packages into requirements*.lock (needs uv and a network)
	@mkdir -p _build && uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate --no-header requirements.txt -o _build/lock
	@for each in requirements.lock requirements-cuda.lock; do echo "# Written by \`make lock\`; see \"Pins and hashes\" in book/reproduce.md." > $$each; done
	@awk '/^[a-z]/ {cuda = /^(nvidia|cuda|triton)/} {print >> (cuda ? "requirements-cuda.lock" : "requirements.lock")}' _build/lock

$(STAMP):
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 to 3.14 with venv found: install one (on Debian with python3-venv), or name it: make PYTHON=/path/to/python3"; exit 1; }
	@command -v "$(PYTHON)" >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.11 to 3.14, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -c '$(SUPPORTED)' || { echo "make: $(PYTHON) is not Python 3.11 to 3.14, which the pinned packages need, with venv (on Debian: python3-venv)"; exit 1; }
	@echo "Making the environment .venv with $(PYTHON) (about a minute; 2.5 GB with TORCH=cpu, else about 6 GB on Linux: torch brings CUDA) ..."
	@rm -rf .venv && "$(PYTHON)" -m venv .venv
	@$(FROM)
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --quiet --no-build-isolation --no-deps -e .
	@touch $@

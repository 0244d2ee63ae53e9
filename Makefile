# One command to build the book, one to test it. `make help` lists the rest.

PROFILE ?= laptop
DEVICE ?= cpu
SEED ?= 0
PORT ?= 8000
# The newest Python on this machine that the pinned packages support, unless one is named.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for each in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$each -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo $$each; break; }; done)

# The environment is rebuilt when its lock changes. The stamp is written last: an interrupted install leaves none.
STAMP := .venv/.ready-$(shell cat requirements.txt pyproject.toml | sha256sum | cut -c1-12)
TSL := .venv/bin/python -m tsl
OPTIONS = --profile $(PROFILE) --device $(DEVICE) --seed $(SEED)

.PHONY: help book publish pdf serve test format clean distclean environment
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  options: PROFILE=ci|laptop|paper ($(PROFILE))  DEVICE=cpu|cuda ($(DEVICE))  SEED=$(SEED)  PORT=$(PORT)"

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

format: $(STAMP) ## format the code and mend what the linter can mend
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .
	@.venv/bin/jupytext --quiet --pipe ".venv/bin/ruff format --line-length 88 --stdin-filename cell.py -" notebooks/*.md

clean: ## remove everything built (keeps the environment and .checkpoints)
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis

distclean: clean ## remove the environment and the checkpoints of long trainings too
	rm -rf .venv .checkpoints *.egg-info

environment: $(STAMP) ## only make the environment .venv

$(STAMP):
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 to 3.14 found: install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.11 to 3.14, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "make: $(PYTHON) is not Python 3.11 to 3.14, which the pinned packages need"; exit 1; }
	@echo "Making the environment .venv with $(PYTHON) (about a minute; 2.5 GB, or 5.6 GB where pip takes a CUDA build of torch) ..."
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --disable-pip-version-check --progress-bar on -r requirements.txt
	@.venv/bin/python -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps -e .
	@touch $@

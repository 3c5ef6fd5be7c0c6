# On a fresh machine: `make demo` runs the main job, `make test` passes the tests. Both install first.
# Needed: python3 (3.11 or newer), git, make. uv is used where it is there (`make install UV=` uses pip).

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV ?= $(shell command -v uv 2>/dev/null)
export UV

.PHONY: help install demo test test-slow lint bench clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

install: $(STAMP)  ## set up .venv with everything that is pinned

$(STAMP): pyproject.toml constraints.txt
	scripts/install.sh $(VENV)
	@touch $@

demo: $(STAMP)  ## run the main job on a real model (DEMO_DIR=folder; default build/demo)
	@$(BIN)/python scripts/measure.py scripts/demo.sh

test: $(STAMP)  ## run the tests, without those that take minutes each
	$(BIN)/python -m pytest -m "not slow" -o faulthandler_timeout=400 -o faulthandler_exit_on_timeout=true

test-slow: $(STAMP)  ## run the tests that take minutes each
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)  ## measure against the bars and rewrite the tables of docs/benchmarks.md (about an hour)
	scripts/install_peers.sh $${SAFETUNE_PEERS:-build/peers}
	$(BIN)/python scripts/bench.py --write docs/benchmarks.md

clean:  ## remove what demo and bench made; .venv stays
	rm -rf build

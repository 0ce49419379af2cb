# `make demo` and `make test` need Python 3.11 and the package index; nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO_FLAGS ?=
RUN := $(BIN)/python -m lightning_modules.cli

.PHONY: install demo test lint clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    train a small TACO, test it through files, compress a photograph (about 5 minutes)"
	@echo "make test    run the tests"
	@echo "make lint    ruff and mypy"

# The stamp makes the second run reuse the environment, until the pins change.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

install: $(VENV)/installed

demo: install
	@BIN=$(BIN) sh demo.sh $(DEMO_FLAGS)

test: install
	$(BIN)/python -m pytest -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs

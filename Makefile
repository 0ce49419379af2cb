# `make demo` and `make test` need Python 3.11 and the package index; nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_FLAGS ?=
TEST_FLAGS ?=
RUN := $(BIN)/python -m lightning_modules.cli

.PHONY: help install demo test lint clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    train a small TACO, test it through files, compress a photograph (about 3 minutes)"
	@echo "make test    run the tests"
	@echo "make lint    ruff and mypy"

# The stamp makes the second run reuse the environment, until the pins change.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

install: $(VENV)/installed

# DEMO_FLAGS and TEST_FLAGS are for tests of these recipes.
demo: install
	$(RUN) fit -c configs/taco.yaml -c configs/demo.yaml --if_exists resume $(DEMO_FLAGS)
	$(RUN) test -c configs/taco.yaml -c configs/demo.yaml
	$(RUN) sample runs/demo/photographs
	$(RUN) compress --force runs/demo/photographs/chelsea.png runs/demo/chelsea.taco \
	    --checkpoint runs/demo/last.ckpt --caption "a close-up of a tabby cat with green eyes"
	$(RUN) decompress --force runs/demo/chelsea.taco runs/demo/chelsea.png --checkpoint runs/demo/last.ckpt
	$(RUN) decompress --info runs/demo/chelsea.taco
	@echo
	@echo "checkpoints    runs/demo/last.ckpt and best.ckpt; config.yaml says how they were made"
	@echo "figures        runs/demo/results/sample-test.json"
	@echo "pictures       runs/demo/pictures/sample-test/: original and reconstruction side by side"
	@echo "one photograph runs/demo/photographs/chelsea.png, its file chelsea.taco, and back: chelsea.png"
	@echo "next           README.md: train on COCO, test on Kodak, compress your own photographs with"
	@echo "               $(RUN) compress PHOTO.png PHOTO.taco --checkpoint runs/demo/last.ckpt --caption '...'"

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(TEST_FLAGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs

# Everything is installed into .venv in this folder; nothing but Python and make is needed before.
PYTHON ?= python3
TORCH ?= 2.10.*
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
HANT := $(BIN)/hant-opt

.PHONY: help demo demo-design test test-torch test-slow check format gpu clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' $(WITH)
	rm -rf *.egg-info  # found before the installed one from this folder, and out of date after a pull
	mkdir -p $(VENV)/typing && ln -sfn ../.. $(VENV)/typing/hant
	touch $(READY)

demo: $(READY)  ## make a faster network from the embedded digits teacher (about 4 minutes)
	$(HANT) examples/digits/teacher.pt --target cpu-ort --budget 0.45 --data digits --output runs/digits

demo-design: $(READY)  ## design a network for the embedded digits, around a small MasterNet (about 6 minutes)
	$(HANT) design genet:digits --data digits --budget 0.6 --output runs/design

test: $(READY)  ## all quick tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-torch:  ## all quick tests on another torch: TORCH=2.10.* (the oldest that is promised) or a newer one
	$(MAKE) test VENV='.venv-torch-$(TORCH:.*=)' WITH="'torch==$(TORCH)'"

test-slow: $(READY)  ## the tests that take minutes to hours
	$(BIN)/python -m pytest -q -m slow

check: $(READY)  ## ruff, mypy, pyright, layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_layering.py

gpu: $(READY)  ## a quarter of an hour of measurements on this machine's GPU
	$(BIN)/python tests/bench/gpu.py --out runs/gpu

format: $(READY)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and runs, keep the virtual environment
	rm -rf runs .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

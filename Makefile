# `make demo` and `make test` set up everything they need. From another folder: make -C PATH demo
SHELL := /bin/bash
.DELETE_ON_ERROR:
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test test-backends lint types install clean

# The whole main job on a synthetic data set, in minutes.
demo: $(VENV)/.installed
	$(BIN)/python run_search.py demo

# One more than processors, up to four: tests of killed workers and servers that are away mostly wait.
TEST_PROCESSES := $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() + 1, 4))')

# Lint, types, layering and every test.
test: lint types
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist worksteal

# The tests of networks, losses and training on PyTorch and JAX, as far as these are installed.
BACKEND_TESTS := $(addprefix tests/pipeline_tests/,test_across_backends.py networks_tests/test_builder.py networks_tests/test_context.py \
	networks_tests/test_keras_layers.py patches_tests/test_cutting.py patches_tests/test_samples.py models_tests/test_pretrained.py \
	training_tests/test_averaging.py training_tests/test_losses.py training_tests/test_optimisation.py training_tests/test_training.py)
test-backends: $(VENV)/.installed-dev
	@for name in torch jax; do \
	  if $(BIN)/python -c "import $$name" 2> /dev/null; then \
	    echo "On $$name:"; MAPGROVE_BACKEND=$$name $(BIN)/python -m pytest $(BACKEND_TESTS) || exit 1; \
	  else echo "SKIPPED: $$name is not installed: $(BIN)/pip install $$name"; fi; done

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

install: $(VENV)/.installed

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Mapgrove needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(BIN)/python
	@echo "Installing the requirements into $(VENV): about 3 GB, once, some minutes"
	$(PIP) -r $<
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) -r $<
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

# The two commands of the README; each sets up what it needs on a bare clone.
PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check fix clean

demo: $(VENV)/.installed  ## Discover five unnamed digits, with a table and a picture
	@rm -rf runs/demo
	$(BIN)/python tools/discover.py --dataset digits --pretrain --out runs/demo/discover
	@echo "confusion matrix: runs/demo/discover/confusion.png"

test: $(VENV)/.installed-dev  ## Format, lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

fix: $(VENV)/.installed-dev  ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

# The two commands of the README; each sets up what it needs on a bare clone.
# The first Python that is new enough; "make PYTHON=python3.13 test" picks another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
# A test that starts threads must not hold a processor while they wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

.PHONY: demo test test-oldest docs reliability wheel wheel-check sbom fix clean

demo: $(VENV)/.installed  ## Discover five unnamed digits, with a table and a picture
	@rm -rf runs/demo
	$(BIN)/python tools/discover.py --dataset digits --pretrain --out runs/demo/discover
	@echo "confusion matrix: runs/demo/discover/confusion.png"

test: $(VENV)/.installed-dev  ## Format, lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile

test-oldest: $(OLDEST)/.installed-dev  ## The fast tests on the oldest version of every direct dependency; installs 8 GB
	$(ONE_THREAD) $(OLDEST)/bin/python -m pytest -m "not slow" -n 2 --dist loadfile

docs: $(VENV)/.installed-dev  ## The pages of docs/ as a site in build/docs; a broken link fails
	$(BIN)/sphinx-build -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

reliability: $(VENV)/.installed-dev  ## The long forms of the tests; takes hours
	CRKD_LONG=1 CRKD_RECORD=benchmarks/results/reliability.json $(ONE_THREAD) \
		$(BIN)/python -m pytest tests/reliability tests/ot/test_grid_barrier_on_cpu.py --timeout 0

wheel: $(VENV)/.installed-release  ## Wheel and sdist in dist/; the same commit gives the same bytes
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	tests/wheel/reproducible.sh $(BIN)/python

sbom: $(VENV)/.installed-release  ## Software bill of materials of .venv in build/sbom.json (CycloneDX)
	@mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library \
		--output-reproducible -o build/sbom.json $(BIN)/python

wheel-check: $(VENV)/.installed-dev  ## Build the wheel, install it elsewhere, run it from another folder
	tests/wheel/check.sh $(BIN)/python

fix: $(VENV)/.installed-dev  ## Correct format and lint where ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.installed

$(OLDEST)/.installed-dev: pyproject.toml tests/constraints/oldest.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found"; exit 2; }
	$(PYTHON) -m venv $(OLDEST)
	$(PYTHON) tests/constraints/oldest.py > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --requirement $(OLDEST)/oldest.txt --editable .
	@touch $@

$(VENV)/.installed-release: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[release]"
	@touch $@

clean:
	rm -rf $(VENV) $(OLDEST) .mypy_cache .pytest_cache .ruff_cache

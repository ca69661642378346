# make demo: set up and run `escort demo`. make test: set up and run ruff, mypy and pytest.
# make test-fast: the quick tests alone, while you work. make docs: the documentation as a site, in site/.
# make dist: wheel and sdist in dist/, the same bytes from the same commit.
# make test-wheel: the wheel, installed with pip in an empty environment of each supported Python that is there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests start hundreds of processes: where Python may not keep what it compiled, each would compile our modules again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo docs dist test test-fast test-wheel lint types pytest clean

demo: $(READY)
	$(BIN)/escort demo

test: lint
	$(MAKE) --jobs 2 types pytest  # mypy fills the time that tests wait

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

pytest: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadgroup

test-fast: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow and not browser"

test-wheel: $(READY)
	$(BIN)/python -m tests.try_wheel

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m mkdocs build

dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600)
dist: $(READY)
	$(BIN)/python -m hatchling build -d dist

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "escort needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[all]'
	$(BIN)/python -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib || true  # pip would compile each package's tests, too, on one core
	@touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-out site dist

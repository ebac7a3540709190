# demo: raw text to benchmark report on real Chinese text    test: the test suite (what CI runs)    test-slow: what is too long for it    check: format, lint, types, fast tests    bench: speed beside peers
# Each sets up .venv from requirements.lock first if it is missing or the lock has changed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0
# Where it is set, each of Ray's processes compiles torch and its neighbours anew: 9 s of processor time apiece.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow check bench
.DELETE_ON_ERROR:

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed; choose one with make PYTHON=...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-compile --no-deps -e .
	touch $@

demo: $(STAMP)
	$(BIN)/ernie run pipelines/recipes/demo.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -n 0 --timeout 3600

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -x -n 2 --dist loadfile tests/unit -m "not heavy and not ray and not parity and not slow and not gpu and not bench"

bench: $(STAMP)
	$(BIN)/python -m pytest -m bench -s -n 0

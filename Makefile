# make demo    train, attack, plot and export models on the bundled data
# make test    run the tests under TensorFlow, JAX and PyTorch
# make test-all  every test under each, the slow ones too: takes far longer
# make test-external  other tools' attacks on our models, see docs/adapters.md
# make lint    check style, formatting and types
# make format  apply the formatting
# make clean   remove the virtual environments
#
# Each does its own set-up, in .venv. Variables (make test BACKENDS=jax):
#   PYTHON       Python 3.11 or newer, python3 unless given. A version that is
#                given has its own environment: PYTHON=python3.13 .venv-3.13
#   BACKENDS     backends to test, in order
#   PYTEST_ARGS  more arguments of pytest, e.g. tests/attacks -x
#   WORKERS      processes that share a backend's tests, file by file; 0 runs
#                them in one, where -s and --pdb work
#   TORCH        requirement for PyTorch. On Linux, pip's usual index holds the
#                build for NVIDIA GPUs, with gigabytes of libraries. Where
#                there is no GPU, set PIP_EXTRA_INDEX_URL to PyTorch's index of
#                CPU wheels (its install page names it): pip then prefers
#                2.13.0+cpu to 2.13.0.

BACKENDS ?= tensorflow jax torch
PYTEST_ARGS ?=
WORKERS ?= 2
TORCH ?= torch==2.13.0

NAMED := $(PYTHON)
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv$(if $(NAMED),-$(VERSION))
BIN := $(VENV)/bin
# Warnings and errors of TensorFlow's C++ side only.
export TF_CPP_MIN_LOG_LEVEL ?= 2

# A stamp tells what is installed; changed requirements make it out of date.
REQUIREMENTS := setup.py keras_neokd/_version.py
CREATED_STAMP := $(VENV)/created-by-$(VERSION)
DEMO_STAMP := $(VENV)/demo-installed
TEST_STAMP := $(VENV)/test-installed
EXTERNAL_STAMP := $(VENV)/external-installed

.PHONY: demo test test-all test-external lint format clean venv-demo venv-test
.DEFAULT_GOAL := demo

demo: $(DEMO_STAMP)
	KERAS_BACKEND=tensorflow $(BIN)/python -m apps.demo --workdir=runs/demo

# Every backend runs, even after another has failed. What is marked any_backend
# runs under the first.
test: $(TEST_STAMP)
	@failed=""; or_any=""; \
	for backend in $(BACKENDS); do \
	    echo "=== tests under KERAS_BACKEND=$$backend"; \
	    KERAS_BACKEND=$$backend $(BIN)/python -m pytest \
	        -n $(WORKERS) --dist=loadfile \
	        -m "not (slow or external$$or_any)" $(PYTEST_ARGS) \
	        || { [ $$? -eq 5 ] && [ -n "$$or_any" ]; } \
	        || failed="$$failed $$backend"; \
	    or_any=" or any_backend"; \
	done; \
	if [ -n "$$failed" ]; then echo "=== FAILED under:$$failed"; exit 1; fi; \
	echo "=== passed under: $(BACKENDS)"

test-all:
	KERAS_NEOKD_TEST_OPTIMIZED=1 \
	    $(MAKE) test PYTEST_ARGS='-m "not external" $(PYTEST_ARGS)'

# Foolbox and ART attack under TensorFlow, torchattacks and pyautoattack under
# PyTorch; each skips itself elsewhere.
test-external: $(EXTERNAL_STAMP)
	$(MAKE) test BACKENDS="tensorflow torch" \
	    PYTEST_ARGS='-m external tests/external $(PYTEST_ARGS)'

lint: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(TEST_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-*

venv-demo: $(DEMO_STAMP)

venv-test: $(TEST_STAMP)

# An environment of another version is made anew.
$(CREATED_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) \
	    else "keras-neokd needs Python 3.11 or newer, found " + \
	    sys.version.split()[0] + ": set PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(DEMO_STAMP): $(CREATED_STAMP) $(REQUIREMENTS)
	$(BIN)/python -m pip install --quiet --use-pep517 \
	    -e ".[tensorflow,apps,export]"
	touch $@

$(TEST_STAMP): $(CREATED_STAMP) $(REQUIREMENTS)
	$(BIN)/python -m pip install --quiet --use-pep517 "$(TORCH)" \
	    -e ".[tensorflow,jax,torch,data,cv,apps,export,litert,onnx,openvino]" \
	    -e ".[serve,test]"
	touch $@

# Torchattacks asks for a version of requests from 2020 and for torchvision,
# and imports neither: hence --no-deps.
$(EXTERNAL_STAMP): $(TEST_STAMP)
	$(BIN)/python -m pip install --quiet foolbox==3.3.4 \
	    adversarial-robustness-toolbox==1.20.1
	$(BIN)/python -m pip install --quiet --no-deps torchattacks==3.5.1 \
	    pyautoattack==0.2.0
	touch $@

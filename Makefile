# make demo | test | test-slow | lint | bench | gpu | parity | learning | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PARITY := .venv-parity

.PHONY: demo test test-slow lint bench gpu parity learning clean

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python demo.py

# Two processes, each file's tests in one of them, the longest files first
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

# BENCH: names and flags, such as `make bench BENCH="network-300 --quick"`
bench: $(VENV)/.installed-dev
	@$(BIN)/python benchmarks/bench.py $(BENCH)

# On a machine with a GPU; installs nothing. GPU: flags, as in `make gpu GPU="--rows step --output gpu.jsonl"`
gpu:
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py $(GPU)

# The peers, PyTorch and torchvision, have an environment of their own (5.5 GB)
$(PARITY)/.installed: requirements.txt requirements-parity.txt
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-parity.txt
	touch $@

# CASES: further flags, such as `make parity CASES="--coco-case mydata:test:cat,dog"`
parity: $(PARITY)/.installed
	$(PARITY)/bin/python benchmarks/parity.py --output docs/parity.md $(CASES)

# LEARNING: flags, such as `make learning LEARNING="--data VOC --vgg vgg16.npz"` or `LEARNING=--tiny`
learning: $(PARITY)/.installed
	$(PARITY)/bin/python benchmarks/learning.py $(LEARNING)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(PARITY) .pytest_cache .ruff_cache .mypy_cache .hypothesis

# make demo | test | test-slow | test-oldest | campaign | lint | bench | gpu | parity | learning | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PARITY := .venv-parity
OLDEST := .venv-oldest

.PHONY: demo test test-slow test-oldest campaign lint bench gpu parity learning clean

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m system.install requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@$(BIN)/python -m system.install requirements-dev.txt
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python demo.py

# Two processes, each file's tests in one of them, the longest files first
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

# With the oldest versions that requirements.txt allows, in an environment of their own. TESTS: folders and flags of pytest
$(OLDEST)/.installed: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(OLDEST)
	@sed -n 's/^\([a-z0-9-]*\)>=\([0-9.]*\).*/\1==\2/p' requirements.txt > $(OLDEST)/oldest.txt
	@$(OLDEST)/bin/python -m system.install $(OLDEST)/oldest.txt requirements-dev.txt
	@touch $@

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest -m "not slow" -n 2 --dist loadfile $(TESTS)

# Kills, full disks and damaged inputs; hours. CAMPAIGN: how many, as in `make campaign CAMPAIGN="kills=200 fuzz=2000"`
campaign: $(VENV)/.installed-dev
	$(BIN)/python -m tests.campaign $(CAMPAIGN)

# BENCH: names and flags, such as `make bench BENCH="network-300 --quick"`
bench: $(VENV)/.installed-dev
	@$(BIN)/python benchmarks/bench.py $(BENCH)

# On a machine with a GPU; installs nothing. GPU: flags, as in `make gpu GPU="--rows step --output gpu.jsonl"`
gpu:
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py $(GPU)

# The peers, PyTorch and torchvision, have an environment of their own (5.5 GB)
$(PARITY)/.installed: requirements.txt requirements-parity.txt
	$(PYTHON) -m venv $(PARITY)
	@$(PARITY)/bin/python -m system.install requirements.txt requirements-parity.txt
	@touch $@

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
	rm -rf $(VENV) $(PARITY) $(OLDEST) .pytest_cache .ruff_cache .mypy_cache .hypothesis

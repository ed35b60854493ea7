# make quickstart   a tiny model learns arithmetic with FRPO inside verl's main_ppo, and a picture of it
# make test         the whole test suite
# make test-megatron  verl's Megatron engine beside FSDP2 (megatron-core and mbridge into the environment, 19 MB; minutes)
#
# STEPS=60    longer quickstart         FRESH=1     start its run over
# PYTHON=...  another interpreter      TORCH=...   another torch (it goes in first, so that nothing pulls in a GPU build)

PYTHON ?= python3
TORCH  ?= torch==2.13.0
STEPS  ?= 20
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: quickstart test test-megatron lint env clean

quickstart: $(VENV)/.ready
	@$(BIN)/python -m frpo_verl.quickstart --steps $(STEPS) $(if $(FRESH),--fresh)

test: $(VENV)/.ready-test lint
	@MPLCONFIGDIR=build/matplotlib $(BIN)/python -m pytest $(PYTEST_ARGS)

test-megatron: $(VENV)/.ready-megatron
	@$(BIN)/python -m pytest tests/test_engines.py $(PYTEST_ARGS)

lint: $(VENV)/.ready-test
	@$(BIN)/ruff check .

env: $(VENV)/.ready

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml | $(VENV)/bin/python
	@echo "[0/4] environment in $(VENV): torch, verl, ray, transformers (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check "$(TORCH)"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[cpu]'
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null 2>&1 || true # on all cores; a dozen processes import it soon
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[cpu,test]'
	@touch $@

$(VENV)/.ready-megatron: $(VENV)/.ready-test
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[cpu,test,megatron-test]'
	@touch $@

clean:
	rm -rf $(VENV) build runs outputs

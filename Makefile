# Every target works from a fresh clone with Python 3.11 or newer and make; .venv is made on first use.

PYTHON ?= python3
# without --no-compile pip spends half a minute compiling files that nobody imports
PIP_INSTALL = bin/pip install --quiet --no-compile --disable-pip-version-check
RUN = .venv/bin/python
TRAIN = recipes/frame_classifier/train.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-newest test-adapters test-export check bench conformance clean

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

demo: .venv/.ready  ## synthetic speech, training and a report with pictures, in minutes
	$(RUN) $(TRAIN) --preset demo --out runs/demo
	@echo "The report: runs/demo/report.html"

# A test computes on one thread, so several run side by side. Each process takes about 1 GB.
SIDE_BY_SIDE = --numprocesses auto --maxprocesses 4 --dist worksteal
test: .venv/.ready  ## the tests, README examples included
	$(RUN) -m pytest $(SIDE_BY_SIDE)

check: .venv/.ready  ## lint, format and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

# Short forms, on one thread, in three minutes; each script's docstring has the long one.
bench: .venv/.ready  ## time and memory of attention, encoders and log-mel beside other people's: tables and runs/bench
	.venv/$(PIP_INSTALL) -c constraints.txt -e '.[bench]'
	$(RUN) scripts/benchmark_attention.py --frames 1024 2048 4096 --contexts 64,64 --peers --rounds 5 --seconds 2 \
		$(call BENCHED,attention) --plot runs/bench/attention.png
	$(RUN) scripts/benchmark_encoder.py --minutes 1 --seconds 3 --models speechattn 'speechattn, full' \
		'Emformer, forward' 'Emformer, infer' Conformer training 'training, checkpointed' $(call BENCHED,encoder)
	$(RUN) scripts/benchmark_frontend.py --minutes 5 --rounds 3 $(call BENCHED,frontend)
BENCHED = --csv runs/bench/$(1).csv --json runs/bench/$(1).json

conformance: .venv/.ready  ## what speechattn and three peers keep of the contracts: docs/conformance.md, in two minutes
	.venv/$(PIP_INSTALL) -c constraints.txt -e '.[peers]'
	$(RUN) scripts/conformance_table.py

# The install of somebody who has their own torch: the newest, and no torchaudio at all.
NEWEST_TESTS = tests/test_context.py tests/test_framing.py tests/test_lengths.py tests/test_config.py \
	tests/frontend tests/attention tests/encoder/test_encoder.py tests/encoder/test_convolution.py tests/contracts tests/conformance/test_suite.py
test-newest: .venv-newest/.ready  ## definitions, frontend, attention, encoder with the newest torch, without torchaudio
	.venv-newest/$(PIP_INSTALL) --upgrade torch librosa soundfile soxr safetensors tqdm matplotlib tyro pytest pytest-xdist hypothesis
	@.venv-newest/bin/python -c "import torch, sys; print('torch', torch.__version__, 'python', sys.version.split()[0])"
	PYTHONPATH=. .venv-newest/bin/python -m pytest $(SIDE_BY_SIDE) $(NEWEST_TESTS)

# What pyproject.toml calls an extra here: the toolkit of an adapter, in an environment of its own.
ADAPTERS = huggingface speechbrain espnet nemo
TOLD = torch|torchaudio|transformers|huggingface.hub|accelerate|speechbrain|espnet|nemo.toolkit
test-adapters: $(ADAPTERS:%=test-adapter-%)  ## adapters inside their toolkits, or ADAPTERS=espnet alone: 6 GB of disk each

.PHONY: $(ADAPTERS:%=test-adapter-%)
$(ADAPTERS:%=test-adapter-%): test-adapter-%: .venv-%/.ready
	@.venv-$*/bin/pip list --format=freeze --disable-pip-version-check | grep -iE '^($(TOLD))='
	.venv-$*/bin/python -m pytest -m integration tests/integrations/test_$*.py tests/test_readme.py

test-export: .venv-export/.ready  ## exported graphs in onnxruntime against eager, and the example that needs no torch
	.venv-export/bin/python -m pytest -m 'integration and not slow' tests/export/test_export.py

clean:  ## remove caches and build products; runs and environments stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find speechattn tests recipes scripts -name __pycache__ -prune -exec rm -rf {} +

# A stamp instead of the folder: a set-up that was interrupted is done again.
.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "setting up .venv with torch: some minutes, once"
	$(PYTHON) -m venv .venv
	.venv/$(PIP_INSTALL) -c constraints.txt -e '.[dev,synth]'
	@touch $@

.venv-newest/.ready:
	$(PYTHON) -m venv .venv-newest
	@touch $@

$(ADAPTERS:%=.venv-%/.ready) .venv-export/.ready: .venv-%/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/$(PIP_INSTALL) -c constraints.txt -e '.[$*]' pytest
	@touch $@

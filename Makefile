# Every target works from a fresh clone with Python 3.11 or newer and make; .venv is made on first use.

PYTHON ?= python3
# without --no-compile pip spends half a minute compiling files that are never imported
PIP_INSTALL = bin/pip install --quiet --no-input --no-compile --disable-pip-version-check
RUN = .venv/bin/python
TRAIN = recipes/frame_classifier/train.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-core test-newest test-integrations test-export check docs coverage bench conformance dist clean

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-22s%s\n", $$1, $$2 }'

demo: .venv/.ready  ## synthetic speech, training and a report with pictures, in minutes
	$(RUN) $(TRAIN) --preset demo --out runs/demo
	@echo "The report: runs/demo/report.html"

# A test computes on one thread, so several run side by side. Each process takes about 1 GB.
SIDE_BY_SIDE = --numprocesses auto --maxprocesses 4 --dist worksteal
test: .venv/.ready  ## the tests, README examples included
	$(RUN) -m pytest $(SIDE_BY_SIDE)

check: .venv/.ready  ## lint, format, spelling, YAML and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/codespell
	.venv/bin/check-yaml mkdocs.yml CITATION.cff .pre-commit-config.yaml .github/*.yml .github/*/*.yml
	.venv/bin/mypy

coverage: .venv/.ready  ## the tests, and how much of the package they run: a figure, and build/coverage/index.html
	$(RUN) -m pytest $(SIDE_BY_SIDE) --cov --cov-report term:skip-covered --cov-report html:build/coverage

# mkdocstrings reads source files, so torch is not needed. `mkdocs build --quiet` would not count warnings.
docs: .venv-docs/.ready  ## the documentation as a site: build/site/index.html
	PATH="$(CURDIR)/.venv-docs/bin:$$PATH" NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "The site: build/site/index.html; .venv-docs/bin/mkdocs serve shows it while you write"

dist: .venv/.ready  ## a wheel and a source archive, in dist
	rm -rf dist
	.venv/bin/pyproject-build --no-isolation

# Short forms, on one thread, in three minutes; each script's docstring has the long one.
bench: .venv/.ready  ## time and memory of attention, encoders and log-mel, compared with other libraries: tables and runs/bench
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

# What has to work with any torch from the oldest on, without torchaudio and without numba.
CORE_TESTS = tests/test_context.py tests/test_framing.py tests/test_lengths.py tests/test_config.py \
	tests/frontend tests/attention tests/encoder tests/contracts tests/conformance/test_suite.py
test-core:  ## definitions, frontend, attention, encoder, contracts, in the Python that is active or PYTHON=...
	PYTHONPATH=. $(PYTHON) -m pytest $(SIDE_BY_SIDE) $(CORE_TESTS)

# The install of somebody who has their own torch: the newest, and no torchaudio at all.
test-newest: .venv-newest/.ready  ## the same with the newest torch, without torchaudio, in an environment of its own
	.venv-newest/$(PIP_INSTALL) --upgrade torch librosa numba soundfile soxr safetensors tqdm matplotlib pytest pytest-xdist hypothesis
	@.venv-newest/bin/python -c "import torch, sys; print('torch', torch.__version__, 'python', sys.version.split()[0])"
	@$(MAKE) --no-print-directory PYTHON=.venv-newest/bin/python test-core

# Each toolkit is an extra of pyproject.toml, installed into an environment of its own.
TOOLKITS = huggingface speechbrain espnet nemo
SHOWN = torch|torchaudio|transformers|huggingface.hub|accelerate|speechbrain|espnet|nemo.toolkit
test-integrations: $(TOOLKITS:%=test-%)  ## integrations inside their toolkits, or TOOLKITS=espnet alone: 6 GB of disk each

.PHONY: $(TOOLKITS:%=test-%)
$(TOOLKITS:%=test-%): test-%: .venv-%/.ready
	@.venv-$*/bin/pip list --format=freeze --disable-pip-version-check | grep -iE '^($(SHOWN))='
	.venv-$*/bin/python -m pytest -m integration tests/integrations/test_$*.py tests/test_readme.py

test-export: .venv-export/.ready  ## exported graphs in onnxruntime against eager, and the example that needs no torch
	.venv-export/bin/python -m pytest -m 'integration and not slow' tests/export/test_export.py

clean:  ## remove caches and build products; runs and environments stay
	rm -rf build dist *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
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

.venv-docs/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/$(PIP_INSTALL) -c constraints.txt $$($(PYTHON) -c '$(DOCS_EXTRA)')
	@touch $@
DOCS_EXTRA = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])

$(TOOLKITS:%=.venv-%/.ready) .venv-export/.ready: .venv-%/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/$(PIP_INSTALL) -c constraints.txt -e '.[$*]' pytest
	@touch $@

# Every target sets up what it needs: Python 3.11 and make are enough on a fresh machine.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo

ROUNDS ?= 25
SEED ?= 1
# Two processes, each with a Ray: one computes while the other waits for its own.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-fast test-s3 test-all chaos lint clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/python jobs/make_sample.py --output $(DEMO)/archive --pairs 12
	$(BIN)/python jobs/fuse_archive.py --ir $(DEMO)/archive/ir --vis $(DEMO)/archive/vis \
		--output $(DEMO)/fused

# Every promise of the README once; the last lines say how many tests were left out.
test: $(READY)
	$(PYTEST) -m "not slow"

# What needs neither Ray nor object storage.
test-fast: $(READY)
	$(PYTEST) -m "not ray and not own_ray and not s3 and not slow"

# Everything: also what is killed in more ways, storage that fails, Kubernetes, each reference value.
test-all: $(READY)
	$(PYTEST)

# The tests on object storage alone; DMNET_TEST_S3_ENDPOINT and AWS_* name another server than moto's.
test-s3: $(READY)
	$(PYTEST) -m "s3 and not slow"

# Kills at random moments, ROUNDS times; the table goes into docs/reliability.md.
chaos: $(READY)
	$(BIN)/python -m tests.chaos.rounds --rounds $(ROUNDS) --seed $(SEED)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

# The pictures of docs/architecture.md, from the imports in the sources.
.PHONY: docs
docs: $(READY)
	$(BIN)/python docs/draw_architecture.py

clean:
	rm -rf $(DEMO) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

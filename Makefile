# Two commands: `make build` takes the bundled network to a verified bitstream, `make test` runs the tests.
# Both set up .venv on first use; they need Python 3.11 or newer with venv, make, a C++ compiler and perl.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Torch's CPU build is all that training here needs; the default index serves gigabytes of GPU libraries besides.
TORCH ?= torch==2.13.0
# The peer of the benchmark, without the libraries for pictures and sound that it asks for and does not use here.
PEER ?= spikingjelly==2.0.0
JOBS ?= 2

.PHONY: setup build test test-full lint docs formal formal-tools train train-tools suite suite-tools records clean

setup: $(STAMP)

build: $(STAMP)
	$(RUN) -m hw.build

test: $(STAMP) lint
	$(RUN) -m pytest -q -m "not full" -n $(JOBS) --dist worksteal

test-full: $(STAMP) lint
	$(RUN) -m pytest -q -n $(JOBS) --dist worksteal

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m mypy model hw sim boards
	$(VENV)/bin/lint-imports

docs: $(VENV)/.docs-tools
	$(RUN) -m mkdocs build --strict --quiet

formal-tools: $(VENV)/.formal-tools

formal: formal-tools
	$(RUN) -m sim.prove --docs docs/proof.md

train-tools: $(VENV)/.trained-tools

train: train-tools
	$(RUN) -m model.train --seed 1 --out model/zoo

suite-tools: $(VENV)/.suite-tools

suite: suite-tools
	$(RUN) -m model.suite
	$(RUN) -m sim.suite

# The builds that docs/records.md shows: board, plan, and the clock that is asked for; the table has what each seed came to.
RECORDS := build/records
ZOO := model/zoo
FAST := $(ZOO)/mnist-fast
record = $(RUN) -m hw.build $(ZOO)/$(2).npz --plan $(ZOO)/$(2)-$(3).json --board $(1) --clock $(4) --seeds 5 --dataset mnist --out $(RECORDS)/$(1) && \
	$(RUN) -m model.evaluate $(ZOO)/$(2).npz --dataset mnist --out $(RECORDS)/$(1) && \
	$(RUN) -m model.estimate $(ZOO)/$(2).npz --plan $(ZOO)/$(2)-$(3).json --dataset mnist --out $(RECORDS)/$(1)

records: $(STAMP)
	$(call record,icebreaker,mnist-narrow,folded,24)
	$(call record,ulx3s-85f,mnist-narrow,371,75)
	$(call record,ecpix5-85f,mnist-narrow,371,105)
	$(RUN) -m boards.records $(RECORDS)/* --docs docs/records.md
	$(RUN) -m sim.toggles $(FAST).npz --plan $(FAST)-folded.json --family ice40 --frames 32 --dataset mnist --docs docs/records.md
	$(RUN) -m sim.toggles $(FAST).npz --plan minimal --family ecp5 --frames 2 --dataset mnist --docs docs/records.md

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tally needs Python 3.11 or newer, not " + sys.version.split()[0])'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

$(VENV)/.trained-tools: $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check '$(TORCH)' -e '.[train]'
	touch $@

$(VENV)/.suite-tools: $(VENV)/.trained-tools
	$(RUN) -m pip install --quiet --disable-pip-version-check '$(TORCH)' -e '.[suite]'
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps '$(PEER)'
	touch $@

$(VENV)/.formal-tools: $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[formal]'
	touch $@

$(VENV)/.docs-tools: $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

clean:
	rm -rf build $(VENV) *.egg-info

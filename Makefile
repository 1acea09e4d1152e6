# What a person types. Everything here installs what it lacks: system packages by apt-get, the rest by the languages' own tools.
#
#   make run     build, start the broker, feed it a year of flights, print the streams' results; Ctrl-C ends it
#   make demo    the same, and ends by itself with totals
#   make test    every test, those with the real clients too
#
# RATE=5000      flights a second for run and demo (0: as fast as they go)
# DATA=DIR       the broker's folder for run (default: ./millpond-data)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# Outside the clone, so that clones share what takes half an hour to compile.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/millpond/target
BINARY := $(CARGO_TARGET_DIR)/release/millpond

.PHONY: run demo test test-rust test-clients test-crash test-flights fuzz bench bench-quick storm build setup setup-clients lint help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -10

build: setup
	cargo build --release --locked --package millpond

setup:
	@.ci/setup build

setup-clients:
	@.ci/setup clients

run: build
	@docker/demo/run --binary $(BINARY) --data "$${DATA:-millpond-data}" --rate "$${RATE:-2000}"

demo: build
	@docker/demo/run --binary $(BINARY) --rate "$${RATE:-0}" --end

test: setup setup-clients test-rust fuzz test-flights test-clients test-crash

test-rust: setup
	cargo test --release --locked --workspace

fuzz: setup
	protocol-tests/fuzz/run

test-flights: build setup-clients
	protocol-tests/flights/run

test-clients: build setup-clients
	protocol-tests/run

test-crash: build setup-clients
	protocol-tests/crash/run --kills 5

# A hundred kills under load: some minutes.
storm: build setup-clients
	protocol-tests/crash/run --kills 100

bench: build setup-clients
	bench/run

bench-quick: build setup-clients
	bench/run --quick

lint: setup
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

# The two commands of the README are `make dev` and `make test`; both install what they need.
# CARGO_TARGET_DIR and FLOTILLA_CACHE are honoured; the RocksDB library is built once per machine (deploy/rocksdb-static).
SHELL := /bin/bash
export ROCKSDB_STATIC := 1
TARGET = $(or $(CARGO_TARGET_DIR),target)
ROCKS = export ROCKSDB_LIB_DIR=$$(deploy/rocksdb-static) &&
# `sim` is built by itself: cargo unifies features across a workspace build, and the simulation must not link RocksDB.
PRODUCT = --workspace --exclude sim

.PHONY: dev build test test-long verify fix bench bench-peers sim sim-seed sim-shrink bootstrap sim-mutants

bootstrap:
	@deploy/bootstrap build

build: bootstrap
	@$(ROCKS) cargo build --locked --release -p node --bin flotilla

dev: build
	@$(TARGET)/release/flotilla dev $(ARGS)

# The whole proof with short counts; `make test-long` runs the full counts of the acceptance lines.
test:
	@deploy/bootstrap test
	@$(ROCKS) deploy/test

test-long:
	@deploy/bootstrap test
	@$(ROCKS) FLOTILLA_LONG=1 deploy/test

# Reads only.
verify:
	@deploy/bootstrap test
	cargo fmt --all --check
	@$(ROCKS) cargo clippy --locked $(PRODUCT) --all-targets -- -D warnings
	cargo clippy --locked -p sim --all-targets -- -D warnings
	@$(ROCKS) deploy/test

fix:
	cargo fmt --all
	@$(ROCKS) cargo clippy --fix --allow-dirty --allow-staged $(PRODUCT) --all-targets

bench: build
	@$(TARGET)/release/flotilla bench produce --dev --seconds 10 --batch 16KiB --acks all -o json

# Flotilla beside Apache Kafka, NATS and RabbitMQ, in one run; rewrites the tables of docs/performance.md. About 12 minutes.
bench-peers: build
	@deploy/bootstrap peers
	@FLOTILLA_BINARY=$(abspath $(TARGET))/release/flotilla tests/bench-peers/run $(ARGS)

# make sim SEEDS=1..60, then make sim-seed SEED=7 for the story of one, make sim-shrink SEED=7 for its shortest schedule.
# ARGS are further arguments: docs/simulation.md.
SIM = cargo run --locked --quiet --profile sim -p sim --
sim:
	$(SIM) run --seeds $(or $(SEEDS),1..60) $(ARGS)

sim-seed:
	$(SIM) seed $(SEED) $(ARGS)

sim-shrink:
	$(SIM) shrink $(SEED) $(ARGS)

# Plants one bug after the other: model/src/planted.rs.
sim-mutants:
	cargo run --locked --quiet --profile sim -p sim --features planted -- mutants $(ARGS)

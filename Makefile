# `make run` starts a member, `make test` runs every test; both install what
# they need, or say what to install. See README.md.

SHELL := /bin/bash
export SKIFF_BUILD_DIR ?= $(HOME)/.cache/skiff
export CARGO_TARGET_DIR := $(SKIFF_BUILD_DIR)/target
export ROCKSDB_LIB_DIR := $(SKIFF_BUILD_DIR)/rocksdb/lib
export ROCKSDB_STATIC := 1
export PATH := $(PATH):$(HOME)/.cargo/bin
# Whoever prefers sccache, offline mode or more output sets this.
CARGO_FLAGS ?= --locked
# Arguments for `skiff etcd`, e.g. make run ARGS="--name m1 --log-format console"
ARGS ?=
export SKIFF_DATA_DIR ?=

.PHONY: help run build test verify fix rocksdb mysql deps deps-test env

help: ## Lists the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

run: build ## Builds the release and starts a single member.
	@scripts/run.sh $(ARGS)

build: rocksdb ## Builds the release: <build folder>/target/release/skiff.
	cargo build $(CARGO_FLAGS) --release

test: deps-test rocksdb mysql ## Runs every test.
	cargo test $(CARGO_FLAGS) --workspace

verify: rocksdb ## Checks format, lints and docs; changes nothing.
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --workspace --no-deps

fix: rocksdb ## Formats, and applies what clippy can apply.
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

rocksdb: deps ## Compiles RocksDB, once for every profile and checkout.
	@scripts/rocksdb.sh

deps: ## Installs what the build needs, or says what to install.
	@scripts/deps.sh build

mysql: ## Unpacks a MySQL server for the tests, where one can be had.
	-@scripts/mysql.sh

deps-test: ## Installs what the tests need, or says what to install.
	@scripts/deps.sh test

env: ## Prints what to export for plain cargo: eval "$(make -s env)"
	@echo 'export CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)" ROCKSDB_LIB_DIR="$(ROCKSDB_LIB_DIR)" ROCKSDB_STATIC=1'

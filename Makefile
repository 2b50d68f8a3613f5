# Whatever a target needs, it sets up by itself under target/ and in a cache; see scripts/. `make` lists the targets.

# The demo and the tests look for the filter under target/.
override export CARGO_TARGET_DIR := $(CURDIR)/target

WASM := target/wasm32-wasip1/release/toolgate.wasm
PY := target/venv/bin/python
# The core needs no host: everything but the filter itself is built and tested without it.
CORE := --no-default-features --features schema
# Criterion's own times, which are meant for finer differences, would take half an hour.
BRIEF := --warm-up-time 0.3 --measurement-time 1
# Names the compiler and the linker for the wasm targets, where rustup's own cannot build for them.
WITH_WASM := . target/wasm-toolchain.env &&

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build run cli approvals test lint unit wasm-test e2e service-test load bench instructions size schema deny clean prerequisites wasm-toolchain python-env node-env

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: prerequisites wasm-toolchain ## Build the filter: target/wasm32-wasip1/release/toolgate.wasm
	$(WITH_WASM) cargo build --release --lib --target wasm32-wasip1

run: build approvals python-env ## Run it with a demo server; POLICY=file UPSTREAM=host:port for your own
	@$(PY) demo/run.py --policy '$(POLICY)' --upstream '$(UPSTREAM)'

cli: prerequisites ## Build the command line: target/cli/toolgate
	cargo build --profile cli -p toolgate-cli

approvals: prerequisites ## Build the approval service: target/cli/toolgate-approvals
	cargo build --profile cli -p toolgate-approvals

# Sends the requests of the benchmark: target/cli/toolgate-load
load: prerequisites
	cargo build --profile cli -p toolgate-load

test: lint unit wasm-test instructions size service-test e2e ## Everything below down to `e2e`, and the size check

lint: prerequisites wasm-toolchain ## Format and lints, of the core and of the filter
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(CORE) -- -D warnings
	$(WITH_WASM) cargo clippy --lib --target wasm32-wasip1 -- -D warnings

unit: prerequisites ## Tests of the core and the command line, native
	cargo $(if $(shell cargo nextest --version 2>/dev/null),nextest run,test --all-targets) --workspace $(CORE)
	cargo test --doc --workspace $(CORE)

wasm-test: wasm-toolchain ## Tests of the core as wasm, in Node
	runner=$$(scripts/wasm-bindgen-runner) && $(WITH_WASM) \
	    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER="$$runner" \
	    cargo test --target wasm32-unknown-unknown --no-default-features --test core_wasm

e2e: build cli approvals load python-env node-env ## Tests on a real Envoy; PYTEST='-k name' for some of them
	$(PY) -m pytest tests/envoy $(PYTEST)

service-test: approvals python-env node-env ## Tests of the approval service as a process, and of its page in Chromium
	$(PY) -m pytest approvals/tests --ignore approvals/tests/browser $(PYTEST)
	APPROVALS_BIN=target/cli/toolgate-approvals $(PY) -m pytest approvals/tests/browser $(PYTEST)

size: build ## Size of the filter, and what it asks of its host
	node scripts/check-module.mjs $(WASM)

# The core as wasm is not built beside the filter: it has the same name, and cargo would take it for the filter.
bench: build load python-env ## What it costs: the core, natively and as wasm, and requests in Envoy; BENCH='--rounds 30' and others
	cargo bench $(CORE) -- $(BRIEF)
	$(WITH_WASM) CARGO_TARGET_DIR=target/wasm-bench CRITERION_HOME=target/wasm-bench/criterion \
	    CARGO_TARGET_WASM32_WASIP1_RUNNER="node --single-threaded --no-warnings scripts/run-wasi.mjs" \
	    cargo bench --target wasm32-wasip1 $(CORE) -- $(BRIEF)
	$(PY) benches/gateway --report target/bench $(BENCH)

instructions: prerequisites ## Instructions of what the core does most, against those committed (needs valgrind)
	scripts/check-instructions

schema: ## Write the JSON schemas of policies and records anew
	UPDATE_SCHEMA=1 cargo test $(CORE) --test schema

deny: ## Licences, sources and bans of all dependencies (needs `cargo install cargo-deny`)
	cargo deny --all-features check bans licenses sources

clean: ## Remove what was built and installed here; the cache stays
	rm -rf target

prerequisites wasm-toolchain python-env node-env:
	@scripts/$@

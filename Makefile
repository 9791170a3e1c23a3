# What a person types. Every target says what it does; `make` alone lists them.
# CARGO_TARGET_DIR is honoured: nothing here assumes that it is ./target.

SHELL := /bin/bash
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help deps demo-deps build test demo fmt clean

help:
	@echo 'make demo    start everything on this machine, download a sample course, show the result'
	@echo 'make test    format check, lints and every test, against a real Redis and real ffmpeg'
	@echo 'make build   the release binary: $(TARGET_DIR)/release/hauld'
	@echo 'make deps    install what demo and test need and is missing (Debian packages, Node packages)'
	@echo 'make fmt     format the sources'
	@echo 'make clean   remove what was built'

deps:
	@.ci/install-dependencies run test

demo-deps:
	@.ci/install-dependencies run

build:
	@echo '==> release build'
	$(CARGO) build --release --locked
	@echo 'built $(TARGET_DIR)/release/hauld'

test: deps
	@echo '==> format'
	$(CARGO) fmt --check
	@echo '==> lints'
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@echo '==> tests'
	$(CARGO) test --locked

# The dev profile: a release build from nothing takes several minutes on two cores.
demo: demo-deps
	@echo '==> build'
	$(CARGO) build --locked
	@echo '==> demo'
	$(TARGET_DIR)/debug/hauld demo

fmt:
	$(CARGO) fmt

clean:
	$(CARGO) clean
	rm -rf tests/producers/node_modules

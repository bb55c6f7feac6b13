# The same few verbs serve people and CI. Each is a small script in scripts/; `make help` lists them.
#
# Variables: PYTHON (which interpreter makes .venv), ARGS (passed on to the program behind the verb), ROUNDS (of crash-test).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install node format check test sanitize fuzz bench run clean crash-test power-cut-test simulate

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## make .venv and build the broker into it
	@scripts/install

node: ## fetch mqtt.js into build/node, for the tests with Node clients
	@scripts/node

format: ## rewrite the sources in the one style
	@scripts/format

check: ## linters, types, floors and stubs, without running a test
	@scripts/check

test: ## everything: install, check, all tests, the core again under sanitizers
	@scripts/test $(ARGS)

sanitize: ## the tests of the core under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/sanitize $(ARGS)

fuzz: ## feed the core random bytes until it breaks (ARGS="--seconds 600")
	@scripts/fuzz $(ARGS)

crash-test: ## kill a broker in rounds and look what it forgot (ROUNDS=1000)
	@ROUNDS=$(ROUNDS) scripts/crash-test $(ARGS)

power-cut-test: ## cut the power at every write of recorded histories (ARGS="--seconds 600")
	@scripts/power-cut-test $(ARGS)

simulate: ## crash the broker in one process, with invented time, disk and network (ARGS="--seconds 600")
	@scripts/simulate $(ARGS)

bench: ## measure, print the table, write JSON
	@scripts/bench $(ARGS)

run: ## install if needed and start a broker on ./data (ARGS="--mqtt-port 1884")
	@scripts/run $(ARGS)

clean: ## remove what was built; ./data stays
	rm -rf build dist .venv .venv-* ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find broker api tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

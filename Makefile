# Everything a developer or a fresh machine needs; `make help` lists it. No step leaves the checkout except the
# installation of Python itself, if the machine has none.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# Files that say which lock the environment was last brought in line with.
RUN_READY := $(VENV)/.ready-run
DEV_READY := $(VENV)/.ready-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test faults fuzz lint format typecheck bench reference requirements lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV_READY) ## Make .venv with the locked packages and the outrider command

run: $(RUN_READY) ## Start the playground, a small Internet on loopback; ONCE=1 ends by itself
	@$(BIN)/python -m compileall -q src
	@exec $(BIN)/outrider playground $(if $(filter-out 0,$(ONCE)),--once)

test: lint typecheck ## Check style and types, then run every test, real mail servers included
	@tools/run-tests

faults: $(DEV_READY) ## Kill, cut off, starve and corrupt it, 90 minutes; write the figures; ARGS="-k power"
	@tools/run-faults $(ARGS)

fuzz: $(DEV_READY) ## Damaged input by the million for all that reads what MT2 peers send, 15 minutes; ARGS="-k seal"
	@$(BIN)/python -m pytest -q -n 2 -m long tests/fuzz tests/protocols/mt2/test_peer_properties.py $(ARGS)

lint: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(DEV_READY)
	$(BIN)/mypy

format: $(DEV_READY) ## Format the sources and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_READY) ## Measure against other mail servers and publish; ARGS="--list", "--only relay --keep"
	@tools/need-node
	@$(BIN)/python -m tests.peers.images postfix exim opensmtpd bind inn postgresql
	@exec $(BIN)/python -m bench.run $(ARGS)

reference: $(RUN_READY) ## Write docs/configuration.md anew from the code
	$(BIN)/python -m outrider.config.reference > docs/configuration.md

requirements: $(DEV_READY) ## Show which requirements the last test run covered; ARGS="--uncovered --step 1"
	@$(BIN)/python -m tools.requirements_index $(ARGS)

lock: var/lock-tools/bin/pip-compile ## Write the lock files anew from pyproject.toml; UPGRADE=1 for newer versions
	var/lock-tools/bin/python tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## Remove everything that was made here, unpacked mail servers included
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf var || sudo rm -rf var
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment whose Python has gone counts as missing: its link leads nowhere.
$(BIN)/python:
	python=$$(tools/find-python) && "$$python" -m venv --clear $(VENV)

$(RUN_READY): requirements/run.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/run.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_READY): requirements/dev.lock $(RUN_READY)
	@tools/need-ldap $(BIN)/python
	$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@

var/lock-tools/bin/pip-compile:
	python=$$(tools/find-python) && "$$python" -m venv --clear var/lock-tools
	var/lock-tools/bin/python -m pip --quiet install pip-tools

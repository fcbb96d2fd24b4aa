.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
TOOLS := $(VENV)/tools
TOOLS_STAMP := $(TOOLS)/.installed

# compiled once, not by each process anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test check format bench burst e2e e2e-compose e2e-ha e2e-observe alerts chaos chaos-long soak fuzz audit sbom check-kubernetes lock clean

help:  ## What there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Answerline needs Python 3.11 or newer; this is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV), once: about a minute ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_STAMP): requirements-dev.lock $(RUN_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(TOOLS_STAMP): requirements-tools.lock | $(VENV)/bin/python
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-tools.lock
	@touch $@

run: $(RUN_STAMP)  ## Everything in one process, with a sample centre, at http://127.0.0.1:8000
	@exec $(BIN)/answerline up --sample

test: $(DEV_STAMP)  ## All tests; brings up its own RabbitMQ and PostgreSQL
	$(BIN)/python -m tests.stack install
	$(BIN)/python -m compileall -q -j 0 answerline services shared
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: $(DEV_STAMP)  ## Style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP)  ## Put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_STAMP)  ## Measure ingest, decisions, the pipeline and whole contacts
	$(BIN)/python -m tests.bench

burst: $(DEV_STAMP)  ## 2,000 busy agents and a tenfold burst through all five services, some 15 minutes
	$(BIN)/python -m tests.stack install
	$(BIN)/python -m tests.bench.burst --after 720

e2e: $(DEV_STAMP)  ## The end-to-end and chaos tests alone
	$(BIN)/python -m tests.stack install
	$(BIN)/python -m pytest tests/e2e tests/chaos

e2e-compose: $(DEV_STAMP)  ## An installation's life under Docker Compose: first call, upgrade, restart, removal; needs a Docker engine
	$(BIN)/python -m pytest -v -s --timeout 1800 tests/compose/journey.py

# of a run's last line: the seed and the seconds that each fault had
STORM = $(if $(SEED),--seed $(SEED)) $(if $(EACH),--seconds $(EACH)) $(if $(FAULTS),--faults $(FAULTS))

chaos: $(DEV_STAMP)  ## Faults under load, a few minutes: what is lost, applied twice, stuck; FAULTS=wipe SEED=… EACH=seconds: one again
	$(BIN)/python -m tests.stack install
	-@$(BIN)/python -m tests.stack install clocks
	$(BIN)/python -m tests.chaos.storm --minutes $(or $(MINUTES),4) $(STORM)

chaos-long: $(DEV_STAMP)  ## The same for an hour, with 200 kills of one consumer and everything in random order
	$(BIN)/python -m tests.stack install
	-@$(BIN)/python -m tests.stack install clocks
	$(BIN)/python -m tests.chaos.storm --minutes $(or $(MINUTES),60) --long $(STORM)

soak: $(DEV_STAMP)  ## Half of the maximum for 30 minutes: fails where memory or backlog grows
	$(BIN)/python -m tests.stack install
	$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),30)

e2e-observe: $(DEV_STAMP)  ## Every panel's query and every alert on a real Prometheus that scrapes a real system; installs Prometheus as root on Debian
	$(BIN)/python -m tests.stack install watching
	$(BIN)/python -m pytest --timeout 600 tests/observe/journey.py

alerts:  ## Check the alerts, and let each fire and stay silent; needs promtool (Debian: prometheus)
	cd deploy/prometheus && promtool check rules rules.yml && promtool test rules rules_test.yml rules_days_test.yml

e2e-ha: $(DEV_STAMP)  ## Three broker nodes and two processes of each service: nodes and processes killed and cut off under load; needs a Docker engine
	$(BIN)/python -m pytest -v -s --timeout 3600 tests/compose/cluster.py

audit: $(TOOLS_STAMP)  ## Known vulnerabilities of all that is locked; asks the package index, and says so when it cannot
	@$(TOOLS)/bin/python tests/audit.py

sbom: $(TOOLS_STAMP)  ## The bill of materials (CycloneDX) of what is installed: sbom.json
	$(TOOLS)/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible --validate -o sbom.json requirements.lock

check-kubernetes: $(TOOLS_STAMP)  ## deploy/kubernetes against the published schemas (CRDS=file: and against KEDA's definitions)
	$(TOOLS)/bin/python tests/kubernetes.py $(CRDS)

fuzz: $(DEV_STAMP)  ## Requests made from the API's document, broken captures and all other random input, in great number
	$(BIN)/python -m tests.stack install
	ANSWERLINE_FUZZ=$(or $(TIMES),5) $(BIN)/python -m pytest --timeout 7200 tests/fuzz $$(grep -rl tests.thorough tests/unit)

lock: $(VENV)/bin/python  ## Pin all dependencies with hashes
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --strip-extras --allow-unsafe --extra build -o requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --strip-extras --allow-unsafe --extra build --extra dev -o requirements-dev.lock pyproject.toml
	$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --strip-extras --allow-unsafe -o requirements-tools.lock requirements-tools.in

clean:  ## Remove the environment and caches; data stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info

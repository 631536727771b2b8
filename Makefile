# make run    starts the engine, registers playbooks/ and runs the flagship
# make test   all tests but the slowest, which make test-slow runs
# make lint    style, types, layers        make bench, make soak   measurements
# make test-random SEED=7   in random order        make test-dates   the unit tests at New Year, on a leap day, ...
#
# make chaos MINUTES=5 SEED=7   breaks the whole stack at random while it works      make load MINUTES=10   holds it at 80 % of its peak
# make kills ROWS=10000 KILLS=25   kills workers while a loop claims so many rows
# make mutants SAMPLE=200 SEED=1 PACKAGES="engine store"   plants small faults: which of them does no test notice?
#
# make upgrade   the release before and this one over one store, side by side, back and forward
#
# make localstack   the AWS deployment on an emulator      make gcp   that on Google Cloud on stand-ins      make infra-check   checkov and trivy on infra/
#
# PYTHON=python3.12 make setup   picks the Python, otherwise the first of 3.13, 3.12, 3.11 that is found

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow test-random test-dates lint package localstack gcp infra-check infra-docs infra-schema reference bench bench-peers bench-quick simulate soak mutants chaos kills load upgrade upgrade-dump upgrade-forms lock clean

# each of the thousands of processes that tests and benches start would compile anew what it imports
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
BIN := $(VENV)/bin
FLAGSHIP ?= examples/flight_delays
DATA ?=

help:
	@sed -n '1,14s/^# \{0,1\}//p' Makefile

setup: $(VENV)/.runtime

$(BIN)/python:
	@sh .setup/make-venv.sh $(VENV) "$(PYTHON)"

$(VENV)/.runtime: $(BIN)/python requirements.txt pyproject.toml
	@$(BIN)/python .setup/install.py requirements.txt
	@touch $@

$(VENV)/.dev: $(BIN)/python requirements-dev.txt pyproject.toml
	@$(BIN)/python .setup/install.py requirements-dev.txt
	@touch $@ $(VENV)/.runtime

run: setup
	@$(BIN)/noetls demo playbooks $(FLAGSHIP) $(if $(DATA),--data $(DATA))

# three processes keep two cores busy: each waits some of its time for servers and clocks
test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(or $(JOBS),3) --dist loadfile --no-loadscope-reorder $(TESTS)

# processes killed at random, chaos for a minute, the walk of `make upgrade`, the fakes of Terraform's providers, planting faults
test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder -m slow $(TESTS)

# the order of the modules, and of the tests in each; it is printed, and SEED=N brings it back
test-random: $(VENV)/.dev
	$(BIN)/python -m pytest -q --random-order-bucket=module $(if $(SEED),--random-order-seed=$(SEED)) $(or $(TESTS),tests)

# New Year, the leap day, and the nights in which clocks go forward and back, each from shortly before
DATES := "2026-12-31T23:59:50 Europe/Berlin" "2028-02-29T23:59:50 UTC" "2027-03-28T01:59:50 Europe/Berlin" \
	"2027-10-31T02:59:50 Europe/Berlin" "2027-03-14T01:59:50 America/New_York"

test-dates: $(VENV)/.dev
	@for at in $(DATES); do echo "$$at"; $(BIN)/python -m pytest -q $(or $(TESTS),tests/unit) --at "$$at" || exit 1; done

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.structure

# the functions' zips for CLOUD, aws by default: make package PACKAGE="--python 3.13 --architecture arm64"
package: $(VENV)/.dev
	@$(BIN)/python -m noetl_serverless.packaging $(or $(CLOUD),aws) $(PACKAGE)

# STAY=--stay keeps it up before it is destroyed
localstack: $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/python localstack/run.py $(STAY)

gcp: $(VENV)/.dev
	@$(BIN)/python -m tests.infra.google_journey $(STAY)

infra-check: $(VENV)/.dev
	@$(BIN)/python -m infra.tools.check

# the tables of inputs and outputs in the READMEs of infra/
infra-docs: $(VENV)/.dev
	@$(BIN)/python -m infra.tools.tables

# playbooks/REFERENCE.md, from the schema of the language and the files of tests/conformance
reference: $(VENV)/.dev
	@$(BIN)/python -m tests.reference

# for developers of this project only: the schemas in the tests' fake providers, from the real providers' published
# bindings, when a resource of another type comes into infra/ or a provider's version changes
BINDINGS := aws==21.22.1 google==16.12.0

infra-schema: $(VENV)/.dev
	@rm -rf build/bindings
	@for one in $(BINDINGS); do name=$${one%%==*}; \
	  $(BIN)/python -m pip download --quiet --no-deps --dest build/bindings/$$name cdktf-cdktf-provider-$$one && \
	  $(BIN)/python -m tests.infra.fake_provider.bindings $$name build/bindings/$$name/*.whl || exit 1; done

# BENCH="chain100 history --steps 5000 --runs 1" runs some of it
bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks $(or $(BENCH),all --steps 100000 --page tests/benchmarks/RESULTS.md)

# the same workloads on Restate and DBOS, which are installed below build/peers; FULL=1 also on absurd, whose SQL
# ABSURD_SQL names, and on Temporal's development server, once
bench-peers: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.peers $(or $(PEERS),--page tests/benchmarks/RESULTS.md) $(if $(FULL),--full)

bench-quick: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks quick --runs 1

# make simulate SEEDS=N runs N worlds; SEED=X runs one, and tells its story; CONTROLS=1 those in which users do more
simulate: $(VENV)/.dev
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED) --trace,--seeds $(or $(SEEDS),2000) --start $(or $(START),0) $(if $(CONTROLS),--controls))

soak: $(VENV)/.dev
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),200000) --start $(or $(START),0) --minutes 45
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),200000) --start $(or $(START),0) --minutes 15 --controls

# PLANTED=1 only the table in tests/mutants/planted.toml, BASE=main only lines changed since then; JOBS=1 leaves a core free
mutants: $(VENV)/.dev
	$(BIN)/python -m tests.mutants --sample $(or $(SAMPLE),200) --seed $(or $(SEED),1) --jobs $(or $(JOBS),2) \
	  $(if $(PACKAGES),--packages $(PACKAGES)) $(if $(BASE),--base $(BASE)) $(if $(PLANTED),--planted) \
	  --report $(or $(REPORT),build/mutants)

# the seed is drawn, and printed, if none is given; INSTANCES=1 of each function instead of 3; PROCESSES=together lets them
# share processes; REPORT=DIR gets chaos.json and chaos.md
chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED)) --instances $(or $(INSTANCES),3) \
	  --processes $(or $(PROCESSES),separate) --report $(or $(REPORT),build/chaos)

# the test of the suite at another size; the seed is printed
kills: $(VENV)/.dev
	ROWS=$(or $(ROWS),10000) KILLS=$(or $(KILLS),25) $(if $(SEED),SEED=$(SEED)) \
	  $(BIN)/python -m pytest -q -s tests/e2e/test_killed_workers.py

load: $(VENV)/.dev
	$(BIN)/python -m tests.load --minutes $(or $(MINUTES),10) --report $(or $(REPORT),build/load)

upgrade: $(VENV)/.dev
	$(BIN)/python -m tests.upgrade

# the store that it begins with, written by the release before
upgrade-dump: $(VENV)/.dev
	$(BIN)/python -m tests.upgrade.store

# the forms of all that is stored: to be written down anew where one has changed
upgrade-forms: $(VENV)/.dev
	$(BIN)/python -m tests.upgrade.forms

lock: $(BIN)/python
	@$(BIN)/python .setup/lock.py requirements.txt --extra local
	@$(BIN)/python .setup/lock.py requirements-dev.txt --extra local --extra aws --extra gcp --group dev

clean:
	rm -rf $(VENV)

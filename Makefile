# The verbs of this project. `make demo` and `make test` are all the set-up there is.
# PYTHON chooses the interpreter; without it an environment that is there keeps its own, and a new one gets python3.
PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
BASE_PYTHON := $(or $(PYTHON),python3)
INSTALL := "$(BASE_PYTHON)" requirements/install.py $(if $(PYTHON),,--keep)
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  $(if $(UPGRADE),--upgrade)
unexport PYTHONPATH PYTHONHOME

PROTOCOLS ?= raft viewstamped primary_backup primary_backup_course
MINUTES ?= 60
ROUNDS ?= 20
RSM_TESTS ?= 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20

.DEFAULT_GOAL := help
.PHONY: help install install-run lock demo test coverage test-fast check fix sim soak rsm-tests mutants fuzz torture bench bench-gate bench-scale bench-tools bench-compare bench-wait bench-all bench-page cs6650-report docs ci clean

help:            ## say what each verb does
	@grep -E '^[a-z0-9-]+: .*##|^[a-z0-9-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort

install: install-run ## prepare the one environment that everything uses
	@$(INSTALL) $(VENV) requirements/dev.txt --editable . labs

install-run:     ## prepare what running needs, and nothing else
	@"$(BASE_PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || \
	  { echo 'install: no Python 3.11 or later is called "$(BASE_PYTHON)"; install one, or name it: make PYTHON=python3.13 ...' >&2; exit 1; }
	@$(INSTALL) $(VENV) requirements/run.txt --editable .

lock: install    ## write requirements/*.txt from the groups of pyproject.toml; what is pinned stays unless UPGRADE is given
	$(LOCK) --group pip -o requirements/pip.txt
	$(LOCK) --group dev --extra cli --extra speed --extra http --extra tokens --extra tls --extra objects --extra age pyproject.toml -o requirements/dev.txt
	$(LOCK) --group run --extra cli pyproject.toml -c requirements/dev.txt -o requirements/run.txt
	$(LOCK) --group fuzz -c requirements/dev.txt -o requirements/fuzz.txt
	$(LOCK) --group bench-build -o requirements/bench-build.txt
	$(LOCK) --group bench --no-binary pysyncobj --emit-build-options -c requirements/dev.txt -o requirements/bench.txt

demo: install-run ## three replicas, load, SIGKILL of the leader, proof that nothing acknowledged was lost
	$(BIN)/viewstamp demo

check: install   ## read-only checks: format, lint, layers, types, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/codespell

fix: install     ## format and repair what can be repaired by a tool
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check      ## all tests, at most ten minutes on two cores
	$(BIN)/python -m pytest -n 2 -m "not process"
	$(BIN)/python -m pytest -n 2 -m process

coverage: check  ## the same tests, with what of the source they reach; takes twice as long
	$(BIN)/python -m pytest -n 2 -m "not process" --cov --cov-report= --cov-fail-under=0
	$(BIN)/python -m pytest -m process --cov --cov-append --cov-report=term

test-fast: install ## the tests that take seconds
	$(BIN)/python -m pytest -n 2 -m "not slow and not process"

test-%: install  ## the tests of one package: make test-raft, test-replica, test-sim, ...
	$(BIN)/python -m pytest $(or $(wildcard tests/$* tests/protocols/$*),$(error there is no tests/$* and no tests/protocols/$*))

sim: install     ## 200 seeds of each protocol through the simulator's disasters; MISHAPS trials of each play, OUTAGES of each protocol
	for protocol in $(PROTOCOLS); do $(BIN)/viewstamp sim --protocol $$protocol --seeds 0..199 || exit 1; done
	if [ "$(MISHAPS)" ]; then MISHAPS=$(MISHAPS) $(BIN)/python -m pytest -n 2 --timeout 3600 tests/sim/faults/test_search.py; fi
	if [ "$(OUTAGES)" ]; then OUTAGES=$(OUTAGES) $(BIN)/python -m pytest -n 2 --timeout 36000 tests/sim/faults/test_outages.py; fi

mutants: install ## plant every sabotage in a copy of the source; writes docs/mutation-score.md
	$(BIN)/python -m mutants.run

soak: install    ## new seeds for MINUTES (60) a protocol, adding to docs/simulation-ledger.md; ROUNDS (20) of rsm-tests; a large transfer
	for protocol in $(PROTOCOLS); do $(BIN)/viewstamp sim --protocol $$protocol --seeds new --minutes $(MINUTES) \
	  --ledger docs/simulation-ledger.md || exit 1; done
	labs/6.824/rsm_tests -n $(ROUNDS) $(RSM_TESTS)
	$(BIN)/python benchmarks/transfer.py --megabytes 200

rsm-tests: install ## tests 0 to 16 of 6.824 and our own with real servers, ROUNDS (20) times with new seeds
	labs/6.824/rsm_tests -n $(ROUNDS) $(RSM_TESTS)

torture: install ## kill the leader 20 times under load, with three and with five nodes
	$(BIN)/python benchmarks/torture.py --nodes 3 --kills 20
	$(BIN)/python benchmarks/torture.py --nodes 5 --kills 20

bench: install   ## a few minutes: the service, each part of it alone, the simulator, the checker
	$(BIN)/python -m benchmarks.service --json benchmarks/results/service.json
	$(BIN)/python -m benchmarks.micro --json benchmarks/results/micro.json
	$(BIN)/python -m benchmarks.simulator
	$(BIN)/python -m benchmarks.checker

bench-gate: install ## is the path of a write slower than the committed figures? Processor time, half a minute
	$(BIN)/python -m benchmarks.gate

fuzz: MINUTES = 20
fuzz: install    ## fuzz every decoder and every protocol's step for MINUTES (20) in all, adding to docs/fuzz-ledger.md
	@$(INSTALL) $(VENV) requirements/fuzz.txt
	$(BIN)/python -m fuzz --minutes $(MINUTES) --minimise

bench-scale: install ## what an operation costs against the size of what it works on; a minute or two
	$(BIN)/python -m benchmarks.scale

bench-tools: install ## install what comparisons and plots need beyond the rest
	@$(INSTALL) $(VENV) requirements/bench-build.txt requirements/bench.txt

bench-wait: install ## what users wait for: fail-over, restart, start, snapshots, memory, idle cost, floods
	$(BIN)/python -m benchmarks.wait --json benchmarks/results/wait.json

bench-all: MINUTES = 20
bench-all:       ## all of it on a quiet machine: compare in MINUTES (20), wait, bench, then the page
	$(MAKE) bench-compare MINUTES=$(MINUTES)
	-$(MAKE) bench-wait
	$(MAKE) bench
	$(MAKE) bench-page

bench-page: bench-tools ## put what was measured into docs/benchmarks.md and draw its pictures
	$(BIN)/python -m benchmarks.document

bench-compare: MINUTES = 20
bench-compare: bench-tools ## the same loads on etcd, ZooKeeper, PySyncObj and the bare pipe, in MINUTES (20)
	$(BIN)/python -m benchmarks.compare --minutes $(MINUTES) --json benchmarks/results/compare.json

cs6650-report: bench-tools ## measure the factories of CS6650, and draw the graphs of their report
	$(BIN)/python -m benchmarks.cs6650_report
	$(BIN)/python -m benchmarks.cs6650_pdf

docs: install    ## check that every link, command and snippet of the documentation works
	$(BIN)/python -m pytest tests/test_docs.py tests/test_tidy.py

ci: coverage demo    ## what .ci/run calls

clean:           ## remove what the build made
	rm -rf .venv .venv-3.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* dist build

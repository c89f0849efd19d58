# Everything is done through these targets; each sets up what it needs first. `make help` lists them.
# The machine needs Python >= 3.11 and make. No C compiler, no Docker, no Java, no node.

PYTHON ?= python3
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
MEMBERS := shared producer flusher compose/embedded
MANIFESTS := pyproject.toml $(MEMBERS:%=%/pyproject.toml)
STAMP := $(VENV)/.installed

# pyright asks the package index for a newer version of itself at each start; the lock decides that here.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# An activated environment of something else must not be the one that is changed.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

.PHONY: help
help: ## List the targets
	@printf 'usage: make TARGET [ARGS="..."]\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 19

##### Set up

.PHONY: install
install: $(STAMP) ## Make .venv with the locked dependencies and the four distributions, editable

# uv itself comes by pip, with its hash; it then installs the rest.
$(UV): locks/uv.txt
	@$(PY) -c '' 2>/dev/null || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(PYTHON) is older than Python 3.11: name another one, as in make install PYTHON=python3.12" >&2; exit 2; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { set -x; $(PYTHON) -m venv --clear $(VENV); }
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement locks/uv.txt
	@touch $@

# Building is not isolated, because an isolated build fetches its backend from the index, past the lock.
$(STAMP): $(UV) locks/dev.txt locks/demo.txt $(MANIFESTS)
	$(UV) pip sync --quiet --python $(PY) --require-hashes locks/dev.txt locks/uv.txt
	$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --require-hashes --requirement locks/demo.txt
	$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation $(MEMBERS:%=--editable %)
	@touch $@

##### Check

.PHONY: lint
lint: $(STAMP) lock-check ## Check style, types, locks and the generated code
	$(PY) -m ruff check
	$(PY) -m ruff format --check --quiet || { $(PY) -m ruff format --diff --quiet; echo "run: make fmt" >&2; exit 1; }
	$(PY) -m mypy
	$(PY) -m pyright
	$(PY) producer/unasync.py --check

.PHONY: fmt
fmt: $(STAMP) ## Format the code and mend what ruff can mend safely
	$(PY) -m ruff check --fix-only --exit-zero --quiet
	$(PY) -m ruff format

.PHONY: unasync
unasync: $(STAMP) ## Generate the synchronous producer from the asynchronous one
	$(PY) producer/unasync.py

# Most tests wait for servers, each worker has its own, and a file's tests share theirs. Files are given out in this
# order, the long ones first, so that unit tests fill the end; xdist would keep the files of few, long tests for it.
JOBS ?= 4

.PHONY: test
test: $(STAMP) ## Run the tests on real servers; ARGS goes to pytest, as in ARGS="-k fold -x"
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
	    tests/docs tests/integration tests/examples tests/deploy tests/properties tests/unit $(ARGS)

# Versions that Go 1.26 builds. The tests of k8s/ use what is here, and the raw manifests where Go is missing.
.PHONY: k8s-tools
k8s-tools: .cache/go/kustomize .cache/go/kubeconform ## Build kustomize and kubeconform where Go is installed; make test then uses them
.cache/go/kustomize: GO_PACKAGE := sigs.k8s.io/kustomize/kustomize/v5@v5.8.1
.cache/go/kubeconform: GO_PACKAGE := github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
.cache/go/kustomize .cache/go/kubeconform:
	@command -v go >/dev/null || echo "Go is not installed: the manifests are checked as they are written" >&2
	@! command -v go >/dev/null || GOBIN=$(CURDIR)/.cache/go go install $(GO_PACKAGE)

##### Secure

SECURITY := .cache/security
$(SECURITY)/.installed: $(UV) locks/security.txt
	$(UV) venv --quiet --allow-existing --python $(PY) $(SECURITY)
	$(UV) pip sync --quiet --python $(SECURITY)/bin/python --require-hashes locks/security.txt
	@touch $@

.PHONY: sbom
sbom: $(SECURITY)/.installed ## Write what producer, flusher and the example need, as CycloneDX, into build/
	@mkdir -p build
	@for name in producer flusher example; do \
	    $(SECURITY)/bin/cyclonedx-py requirements --output-reproducible --output-file build/sbom-$$name.json locks/$$name.txt \
	        && echo "build/sbom-$$name.json" || exit; done

.PHONY: pip-audit
pip-audit: $(SECURITY)/.installed ## Ask the index for known vulnerabilities of all that the locks pin; needs the network
	@failed=0; for lock in $(filter-out locks/demo.txt,$(wildcard locks/*.txt)); do echo "$$lock"; \
	    $(SECURITY)/bin/pip-audit --strict --disable-pip --require-hashes --requirement $$lock $(ARGS) || failed=1; done; exit $$failed

##### Break it on purpose

MINUTES ?= 60
SEED ?= $(shell date +%s)

.PHONY: faults soak simulate zombies
faults: $(STAMP) ## Break servers, network and flushers under load and check every promise; ARGS="--seed 7" repeats a plan
	$(PY) -m tests.faults.run --seconds 300 $(ARGS)

soak: $(STAMP) ## The same for MINUTES=60; SEED=7 repeats a plan
	$(PY) -m tests.faults.run --seconds $$(( $(MINUTES) * 60 )) --seed $(SEED) $(ARGS)

simulate: $(STAMP) ## 20,000 histories of flusher and producer in memory, with crashes at every I/O; ARGS="--seed 7 --trace"
	$(PY) -m tests.faults.simulation --seeds 20000 $(ARGS)

zombies: $(STAMP) ## 100 flushers suspended under load until others own their partitions, then let go on; ARGS="--cycles 10"
	$(PY) -m tests.faults.zombies $(ARGS)

##### See and measure

# MkDocs 2 will be another program; the lock keeps this one.
.PHONY: docs
docs: $(STAMP) ## Build the documentation site into build/docs; ARGS="serve" shows it while you write
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs $(if $(ARGS),$(ARGS),build --strict --quiet)

.PHONY: demo
demo: $(STAMP) ## Replay a year of real departures and compare every row; ARGS: --json, --keep
	$(VENV)/bin/writebehind demo $(ARGS)

.PHONY: bench bench-flush bench-produce bench-latency bench-memory bench-poison bench-audit bench-recovery bench-strategies bench-telemetry
bench: bench-flush bench-produce bench-latency bench-memory bench-poison bench-audit bench-recovery bench-strategies bench-telemetry ## Run all benchmarks; ARGS, as in ARGS=--quick, goes to each

bench-flush: $(STAMP) ## Flusher against what one bare connection can do
	$(PY) -m tests.benchmarks.bench_flush $(ARGS)

# Not one of `bench`: it fetches another 40 MB, of a program that is not ours.
.PHONY: bench-peer
bench-peer: $(STAMP) ## Flusher beside the Debezium JDBC sink, whose jars are fetched the first time; ARGS: --quick, --rounds
	$(PY) -m tests.benchmarks.bench_peer $(ARGS)

bench-produce: $(STAMP) ## Acknowledged writes per second of one process
	$(PY) -m tests.benchmarks.bench_produce $(ARGS)

bench-poison: $(STAMP) ## What refused records cost
	$(PY) -m tests.benchmarks.bench_poison $(ARGS)

bench-recovery: $(STAMP) ## How fast a flusher catches up after 60 s without the database; ARGS: --outage, --rate
	$(PY) -m tests.benchmarks.bench_recovery $(ARGS)

bench-audit: $(STAMP) ## The drift audit against bare reads, and what it finds among live writes
	$(PY) -m tests.benchmarks.bench_audit $(ARGS)

bench-latency: $(STAMP) ## An acknowledged write beside a plain UPDATE and COMMIT
	$(PY) -m tests.benchmarks.bench_latency $(ARGS)

bench-memory: $(STAMP) ## Memory of producer and flusher over many messages
	$(PY) -m tests.benchmarks.bench_memory $(ARGS)

bench-telemetry: $(STAMP) ## Flusher and producer with telemetry against themselves without
	$(PY) -m tests.benchmarks.bench_telemetry $(ARGS)

bench-strategies: $(STAMP) ## Cache-aside and write-through against the bare calls they are made of
	$(PY) -m tests.benchmarks.bench_strategies $(ARGS)

##### Locks

# What each lock is made from. Images get the versions that the tests ran with: dev's. The demo's data goes without
# dependencies, because it names pandas and only its CSV file is read.
NEW := .cache/locks
INPUTS_dev := --group pyproject.toml:dev $(MEMBERS:%=%/pyproject.toml)
INPUTS_producer := shared/pyproject.toml producer/pyproject.toml --constraints $(NEW)/dev.txt --no-annotate
INPUTS_flusher := flusher/pyproject.toml $(INPUTS_producer)
INPUTS_example := --group pyproject.toml:example $(INPUTS_producer)
INPUTS_demo := --group pyproject.toml:demo --no-deps
INPUTS_security := --group pyproject.toml:security
INPUTS_uv := --group pyproject.toml:uv
LOCKS := dev producer flusher example demo security uv
OWN := writebehind-shared writebehind-producer writebehind-flusher writebehind-embedded

# $(call compile,OPTIONS) makes the locks anew in a folder beside. What a lock pins already stays as long as it fits the
# inputs: a lock changes when they do, not when something was published.
define compile
@rm -rf $(NEW) && mkdir -p $(NEW) && cp locks/*.txt $(NEW)
$(foreach lock,$(LOCKS),@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --custom-compile-command "make lock" $(OWN:%=--no-emit-package %) \
    $(INPUTS_$(lock)) --output-file $(NEW)/$(lock).txt $(1)
)
@! grep -nE '://|index-url|find-links' $(NEW)/*.txt || { echo "a lock names a host or a folder" >&2; exit 1; }
endef

# A lock that stays the same keeps its time, so that nothing is installed again.
.PHONY: lock
lock: $(UV) ## Bring locks/ in line with what the pyproject.toml files ask for
	$(call compile,$(ARGS))
	@for lock in $(LOCKS); do \
	    cmp -s $(NEW)/$$lock.txt locks/$$lock.txt || { cp $(NEW)/$$lock.txt locks/ && echo "locks/$$lock.txt changed"; }; done

.PHONY: upgrade
upgrade: ## Lock the newest versions that the pyproject.toml files allow
	@$(MAKE) --no-print-directory lock ARGS=--upgrade

.PHONY: lock-check
lock-check: $(UV) ## Fail when locks/ is not what `make lock` would write
	$(call compile)
	@diff -r locks $(NEW) || { echo "locks/ is not current: run make lock" >&2; exit 1; }

##### Clean

.PHONY: clean
clean: ## Remove caches and built files
	rm -rf .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find $(MEMBERS) tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove .venv as well
	rm -rf $(VENV)

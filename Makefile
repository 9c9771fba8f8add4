# The two commands of the README. Each sets up its own environment in .venv first; a second run reuses it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test figures clean

demo: .venv/installed
	$(BIN)/mobilenets compare --data digits --recipe quick --width-mult 0.5 --out demo-report \
		--models mobilenet_v1,mobilenet_v2,mobilenet_v3_small,mobilenet_v3_large

test: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mobilenets needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,export,openvino,litert,executorch,cluster,heic,dev]'
	touch $@

figures: .venv/installed
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf .venv demo-report build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

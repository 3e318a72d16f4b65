# Everything sets up what it needs in .venv by itself; a second call is quick.
.PHONY: help install demo test examples check soak clean

PYTHON ?= python3
SEED ?= 0
VENV := .venv/bin
DEVICE := .venv-device/bin
# New files need a new editable install: its links are made once.
SOURCES := $(shell find package train export runtime cli -name '*.py' -o -name '*.parquet' -o -name '*.html' -o -name '*.css' -o -path '*/kit/device/*' | sort)
LISTING := $(shell echo $(SOURCES) pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

help:
	@echo "make demo      train on a real shop's log, export, prove, and recommend (SEED=1: other customers)"
	@echo "make test      the tests of all that is in the package (about 9 minutes on 2 cores)"
	@echo "make examples  the examples (Node, browser, C, web servers, ...), and every command of the documents"
	@echo "make soak      the tests that take minutes"
	@echo "make check     ruff, mypy, and the rules of imports"

.venv/requirements: pyproject.toml constraints.txt
	test -x $(VENV)/pip || $(PYTHON) -m venv .venv
	$(VENV)/pip install --quiet --disable-pip-version-check -c constraints.txt 'setuptools>=77' wheel
	$(VENV)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.venv/linked-$(LISTING): .venv/requirements
	$(VENV)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	rm -f .venv/linked-*
	touch $@

install: .venv/linked-$(LISTING)

# What a device needs: the wheel, numpy and onnxruntime. No torch, no training code runs there.
.venv-device/installed: .venv/linked-$(LISTING)
	rm -rf .venv-device build/device
	$(VENV)/python -m build --quiet --wheel --no-isolation --outdir build/device .
	$(PYTHON) -m venv .venv-device
	$(DEVICE)/pip install --quiet --disable-pip-version-check -c constraints.txt build/device/*.whl
	touch $@

demo: install .venv-device/installed
	@if test -f demo-run/config.json; then \
		echo "--- 1/5 demo-run is trained already; make clean removes it"; \
	else \
		echo "--- 1/5 train on a year of a shop's purchases (a shortened training, about 3 minutes on 2 cores)"; \
		echo "$(VENV)/attnrec-train --epochs 6 --out demo-run --resume"; \
		$(VENV)/attnrec-train --epochs 6 --out demo-run --resume; \
	fi
	@echo "--- 2/5 export to one small file, and prove it against the torch model"
	$(VENV)/attnrec-export demo-run --quantize --tags title
	@echo "--- 3/5 measure the file on the purchases that were held back"
	$(VENV)/attnrec-evaluate demo-run/model.onnx
	@echo "--- 4/5 recommend, with nothing but numpy and onnxruntime"
	$(VENV)/python examples/pick_customers.py demo-run --seed $(SEED) > demo-run.customers.jsonl
	$(DEVICE)/python examples/shop.py demo-run/model.onnx < demo-run.customers.jsonl
	@echo "--- 5/5 serve it over HTTP, and ask once"
	$(VENV)/python examples/ask_server.py demo-run/model.onnx < demo-run.customers.jsonl
	rm demo-run.customers.jsonl
	@echo "--- to look and click yourself: $(VENV)/attnrec-serve demo-run/model.onnx, then open http://127.0.0.1:8000"

# Half of the time a test waits for servers, browsers and other processes. Threads of these, one for
# each core by default, would wait for each other.
test examples: export OMP_NUM_THREADS = 1
WORKERS := $(shell $(PYTHON) -c 'import os; print(3 * (os.cpu_count() or 2) // 2)')

test: install
	$(VENV)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.venv/examples: .venv/requirements
	$(VENV)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[examples]'
	touch $@

# The locked npm packages alone; without npm the tests say what to install.
examples/%/node_modules: examples/%/package-lock.json
	! command -v npm >/dev/null || (cd $(@D) && npm ci --silent --no-audit --no-fund && touch node_modules)

examples: install .venv/examples examples/node/node_modules examples/browser/node_modules
	$(VENV)/python -m pytest -q -m examples -n 2 --dist loadfile

soak: install
	$(VENV)/python -m pytest -q -m soak

check: install
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-logo

clean:
	rm -rf .venv .venv-device build dist demo-run demo-run.unfinished demo-run.customers.jsonl attnrec-run
	rm -rf examples/node/node_modules examples/browser/node_modules examples/browser/site

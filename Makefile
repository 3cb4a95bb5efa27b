# `make run` and `make test` do all the set-up they need: Python 3.11+ with pip, and git, are enough.
.DEFAULT_GOAL := help
.PHONY: help setup run sim test faults quick check fix docs cover bench-overhead bench-decision policy-bench mutate clean

PY := .venv/bin/python
ARGS ?=

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: ## .venv with everything for development
	@GROUPS_WANTED=dev scripts/setup

.venv/run-ready: pyproject.toml uv.lock scripts/setup
	@scripts/setup
	@touch $@

.venv/dev-ready: pyproject.toml uv.lock scripts/setup
	@GROUPS_WANTED=dev scripts/setup
	@touch $@ .venv/run-ready

run: .venv/run-ready ## the gateway on 127.0.0.1:8787; without a key it serves from the simulator
	@exec .venv/bin/keywheel serve --demo $(ARGS)

sim: .venv/run-ready ## the OpenRouter simulator alone on 127.0.0.1:8788
	@exec .venv/bin/keywheel sim $(ARGS)

test: .venv/dev-ready ## every test
	@$(PY) -m pytest -q $(ARGS)

faults: .venv/dev-ready ## the catalogue of faults three ways: under -X dev -W error, in single bytes, with jitter; about 3 minutes
	@$(PY) -X dev -W error -m pytest -q tests/faults $(ARGS)
	@KEYWHEEL_TEST_WEATHER=slices $(PY) -m pytest -q tests/faults $(ARGS)
	@KEYWHEEL_TEST_WEATHER=jitter $(PY) -m pytest -q tests/faults $(ARGS)

quick: .venv/dev-ready ## core and wire, a few seconds
	@PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -q -x tests/core tests/wire  # half the time goes into rewriting asserts: keep them

check: .venv/dev-ready ## format, lint, types, layers, docs fresh, sizes
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/basedpyright
	@.venv/bin/mypy
	@.venv/bin/pyrefly check --summary=none
	@$(PY) -m pytest -q tests/test_layers.py tests/test_docs.py
	@$(PY) scripts/sizes.py

fix: .venv/dev-ready ## format and mend what can be mended
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .
	@$(PY) scripts/docs.py

docs: .venv/dev-ready ## write the tables of the docs anew
	@$(PY) scripts/docs.py

cover: .venv/dev-ready ## branch coverage of everything
	@$(PY) -m coverage run -m pytest -q
	@$(PY) -m coverage report

bench-overhead: .venv/dev-ready ## cost beside nginx; ARGS=--rivals: beside other gateways, too; writes docs/performance.md
	@$(PY) scripts/bench_overhead.py $(ARGS)

policy-bench: .venv/dev-ready ## routing beside rivals and an oracle in a simulated world; writes docs/policy.md
	@$(PY) -m scripts.policy $(ARGS)

bench-decision: .venv/dev-ready ## microseconds to choose a lane and record what came of it
	@$(PY) scripts/bench_decision.py

mutate: .venv/dev-ready ## mutation tests of core and of the reading of failures, about 20 minutes; ARGS='keywheel.core.quota.*' for a part
	@test -x .tools/mutmut/bin/mutmut || { uv=$$(command -v uv || echo .tools/bin/uv); $$uv venv -q --python $(PY) .tools/mutmut && $$uv pip install -q --python .tools/mutmut/bin/python 'mutmut>=3.8,<4' pytest hypothesis pytest-timeout anyio trustme msgspec httpx2 starlette structlog; }
	@nice .tools/mutmut/bin/mutmut run --max-children 2 $(ARGS)

clean: ## remove what was built
	@rm -rf .venv .tools .pytest_cache .ruff_cache .mypy_cache .hypothesis htmlcov .coverage mutants

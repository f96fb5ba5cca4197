# make demo   frames become forecasts over real ROS 2, in one command
# make test   the tests          make test-long   soak, benches, exports: what takes minutes
# make lint   style and types    make bench       timings         make clean  removes what the others made
SHELL := /bin/bash
PYTHON ?= python3
export PYTHON
# Tests start hundreds of Python processes: without its cache each of them compiles our code, and pytest's, again.
unexport PYTHONDONTWRITEBYTECODE
# More than cores: tests of the node wait for frames most of the time.
TEST_PROCESSES ?= 3
# A test process that ends by a signal ends the run: pytest-xdist would start another and may wait for it for ever.
IN_PARALLEL = -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --max-worker-restart=0
# Exit code of pytest if PYTEST_ARGS name no test of a kind.
NOTHING_CHOSEN := 5

.PHONY: demo test test-long lint bench clean
.DEFAULT_GOAL := demo

demo:
	@scripts/setup.sh demo
	@. scripts/env.sh && re2pix demo --out build/demo --drive data/drive_90002 --topic /camera/image/compressed

test:
	@scripts/setup.sh test
	@. scripts/env.sh && python -m pytest --strict-config $(IN_PARALLEL) $(PYTEST_ARGS)

test-long:
	@scripts/setup.sh test
	@. scripts/env.sh && python -m pytest --strict-config -m "long and not alone" $(IN_PARALLEL) $(PYTEST_ARGS) || [ $$? = $(NOTHING_CHOSEN) ]
	@. scripts/env.sh && python -m pytest --strict-config -m "long and alone" $(PYTEST_ARGS) || [ $$? = $(NOTHING_CHOSEN) ]

lint:
	@scripts/setup.sh test
	@. scripts/env.sh && ruff format --check . && ruff check . && mypy

bench:
	@scripts/setup.sh demo
	@. scripts/env.sh && re2pix bench
	@. scripts/env.sh && python -m tests.support build/tiny && re2pix bench-node --fast build/tiny \
		--drive data/drive_90002 --topic /camera/image/compressed --json build/bench-node.json

clean:
	rm -rf .venv build ros2_ws/build ros2_ws/install ros2_ws/log .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# `make demo` and `make test` need only a shell and Python 3.10-3.13; they install what is missing, once.
.PHONY: demo test floor mutants docs lint format clean

demo:
	@python=$$(sh tools/setup_env.sh) && "$$python" -m mmrazor_lite.cli demo $(ARGS)

# One thread a process, and one process more than cores (tests/conftest.py). Files start in their order, the slow ones first.
# Bytecode is kept, whatever the shell says: else each of some hundred processes would compile the package for itself.
test:
	@python=$$(sh tools/setup_env.sh) && unset PYTHONDONTWRITEBYTECODE && \
	OMP_NUM_THREADS=1 "$$python" -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	$(ARGS)

# What depends on the versions of torch and the others, with the oldest that requirements.txt allows, in .floor.
FLOOR = graph checkpoints models export estimators engine cli/test_five_steps.py
floor:
	@python=$$(sh tools/setup_floor.sh) && export OMP_NUM_THREADS=1 && unset PYTHONDONTWRITEBYTECODE && \
	"$$python" -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(addprefix tests/,$(FLOOR)) $(ARGS) && \
	"$$python" -m pytest -m wide tests/test_wheel.py

# One line of the package changed at a time: the tests named for it must notice. About five minutes on two cores.
mutants:
	@python=$$(sh tools/setup_env.sh) && "$$python" tests/mutants.py $(ARGS)

# The pages as a site in build/site; a link that leads nowhere is an error. What it needs is installed when first asked for.
docs:
	@python=$$(sh tools/setup_env.sh docs) && NO_MKDOCS_2_WARNING=1 "$$python" -m mkdocs build --strict $(ARGS)

lint:
	@python=$$(sh tools/setup_env.sh) && "$$python" -m ruff check . && "$$python" -m ruff format --check .

format:
	@python=$$(sh tools/setup_env.sh) && "$$python" -m ruff check --fix . ; "$$python" -m ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis work_dirs/demo
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './.floor/*' -prune -exec rm -rf {} +

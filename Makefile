# Two commands are enough: make train, make test. Both build their own virtual environment on the first call.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
PARALLEL = -n 2 --dist loadfile
TASKS = qqp douban rocstories

.PHONY: train test test-all lint docs clean
.DELETE_ON_ERROR:

# The stamp is newer than what it was installed from, so a second call installs nothing.
$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -r requirements.txt
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

# A stamp of its own: whoever trains and tests needs nothing of this.
$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@

# Each task's sample: generated if nothing is prepared yet, trained if it is not finished, scored on its test split.
train: $(VENV)/installed
	@for task in $(TASKS); do echo; \
	  $(BIN)/python -m hcl_tf.train --task=$$task --run_dir=runs/$$task/tiny && $(BIN)/python -m hcl_tf.evaluate --run_dir=runs/$$task/tiny || exit 1; \
	done

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-all: $(VENV)/installed
	$(BIN)/python -m pytest $(PARALLEL)

lint: $(VENV)/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-cache

# docs/ as pages: site/index.html.
docs: $(VENV)/docs-installed
	$(BIN)/python docs/tools/settings_page.py && $(BIN)/python docs/tools/floors_drawing.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) site build dist .pytest_cache .hypothesis .ruff_cache *.egg-info

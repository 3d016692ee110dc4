# Works with GNU make 3.81 (macOS) and later, and from a folder with spaces in its name: all paths are relative.

PYTHON ?= $(shell .venv/bin/python -c '' 2>/dev/null && echo .venv/bin/python || echo python3)
SETUP = $(PYTHON) tools/setup_venv.py
RUN = .venv/bin/python
NBVAL = --nbval --nbval-current-env --nbval-cell-timeout=300

.PHONY: help lab labs test check notebooks bench mutants clean venv lint layers unit nbval browser
.NOTPARALLEL:

help:  ## List what can be made
	@sed -n 's/^\([a-z]*\):.*## */\1|/p' Makefile | while IFS='|' read -r name what; do \
	  printf '  make %-10s %s\n' "$$name" "$$what"; done
	@echo
	@echo '  PYTHON=python3.12   the Python to make .venv with (now: $(PYTHON))'
	@echo '  TORCH=cpu           PyTorch without CUDA: a much smaller download on Linux'

lab: venv  ## Open the course in JupyterLab, at lesson 00 (installs it first, once)
	@set -- --ip=127.0.0.1 --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb; \
	if [ "$$(id -u)" = 0 ]; then \
	  echo 'You are root (a container?): JupyterLab is told to accept that, with --allow-root.'; \
	  set -- "$$@" --allow-root; fi; \
	if [ "$$(uname)" = Linux ] && [ -z "$$DISPLAY$$WAYLAND_DISPLAY" ]; then \
	  echo 'No screen here: open the address with "token=" that JupyterLab prints below.'; \
	  set -- "$$@" --no-browser; fi; \
	exec $(RUN) -m jupyterlab "$$@"

test: venv lint layers unit nbval browser  ## Run every test there is

check: venv lint layers unit  ## Run the quick tests: lint, layers, unit tests

notebooks: venv  ## Run the lessons again, in place; LESSON=00 for one
	$(RUN) tools/run_notebooks.py $(LESSON)

labs: venv  ## Make the learners' copies of the labs from their sources
	$(RUN) tools/labs.py

bench: venv  ## Measure against other libraries (installs them first)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@for file in $(filter-out benchmarks/measure.py benchmarks/fixed_budget.py,$(wildcard benchmarks/*.py)); do \
	  echo "== $$file"; $(RUN) "$$file" || exit 1; done

mutants: venv  ## Break the code in small ways: do tests notice? MODULE=moco for one
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutants]'
	$(RUN) tools/mutants.py $(MODULE)

clean:  ## Remove .venv and what the tools left behind
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build clbook.egg-info
	find clbook tests tools benchmarks notebooks -name __pycache__ -o -name .ipynb_checkpoints 2>/dev/null \
	  | while IFS= read -r folder; do rm -rf "$$folder"; done

# --- steps of the above ---

venv:
	@command -v $(PYTHON) >/dev/null || { echo "clbook set-up: there is no $(PYTHON) here; install Python first."; exit 1; }
	@$(SETUP)

lint:
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

layers:
	$(RUN) -c 'from importlinter.cli import lint_imports_command as main; main()' --no-cache

unit:
	$(RUN) -m pytest -q -n 2 --dist loadfile -m 'not browser and not slow'

nbval:
	$(RUN) -m pytest -q -n 2 --dist loadfile $(NBVAL) notebooks/[0-9]*.ipynb
	$(RUN) -m pytest -q -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks/labs/source
	$(RUN) -m pytest -q -n 2 --dist loadfile -m slow

browser:
	$(RUN) -m pytest -q -m browser

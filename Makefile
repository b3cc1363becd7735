# The two commands of the README are `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= build/demo
# What the image of `make image` serves with: embedded, preload or compiled-in.
SERVER ?= embedded
# The server's version for `make preload`.
TENSORFLOW ?= 2.20
CPP_FILES := $(shell find ops serving tests -name '*.cc' -o -name '*.h' -o -name '*.c')
BUILD_FILES := CMakeLists.txt pyproject.toml $(shell find ops serving -name '*.c' -o -name '*.cc' -o -name '*.h' -o -name 'CMakeLists.txt' -o -name '*.cmake')
BAZEL_FILES := BUILD WORKSPACE $(shell find ops serving tests tools -name BUILD -o -name '*.bzl')
BUILDIFIER_VERSION := 8.2.1
BUILDIFIER := build/buildifier-$(BUILDIFIER_VERSION)/node_modules/.bin/buildifier
# Our Bazels, 4.2 and 7.4, have the C++ rules built in.
BUILDIFIER_WARNINGS := -warnings=-native-cc-binary,-native-cc-library,-native-cc-test
CMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" cmake
CTEST := PATH="$(CURDIR)/$(BIN):$$PATH" ctest
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate
# A test waits for one core most of the time; four processes with TensorFlow fit into 8 GB. A file's tests share fixtures.
# The integration tests come first, as they lie: a long file that begins last would leave the other processes idle.
# A process that crashes ends the run: with files kept together, its replacement would wait for ever. A test that hangs in
# TensorFlow ignores the signal by which it is given up after 300 seconds: its process says where, and ends.
IN_PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
  -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true
CC_TESTS := -G Ninja -DCMAKE_BUILD_TYPE=Debug -DNANN_BUILD_OPS=OFF -DNANN_BUILD_TESTS=ON

.PHONY: help install peers messages lint format test test-py test-cc test-long arm64-test bazel-test docker-test image cross-version-test preload demo lock clean

help:
	@echo 'make demo       data to served answers on MovieLens-100K, in $(RUN)'
	@echo 'make test       all tests but the long ones'
	@echo 'make lint       what CI checks besides the tests, and how large the code is;  make format mends what can be mended'
	@echo 'make test-long  100,000 fuzz mutations, a million requests by atheris, thread sanitizer, tests of minutes'
	@echo 'make arm64-test the core and its tests for arm64, under qemu'
	@echo 'make bazel-test bazel test //ops/..., and its library against the one of CMake'
	@echo 'make cross-version-test  library and exports of each supported TensorFlow against the other'
	@echo 'make docker-test  builds and runs the images;  make image SERVER=embedded builds one, nann-serving'
	@echo 'make preload TENSORFLOW=2.20  what a stock tensorflow_model_server of that version preloads'
	@echo 'make install    .venv with everything;  make lock pins requirements.txt anew'
	@echo 'make peers      other index libraries into .venv, for `nann bench peers`'

install: .venv/installed

.venv/requirements: requirements.txt requirements-demo.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in [(3, 10), (3, 11), (3, 12)] or sys.exit(f"$(PYTHON) is Python {v[0]}.{v[1]}; expected 3.10 to 3.12: make PYTHON=python3.11 ...")'
	tools/install_system_packages
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-demo.txt
	@touch $@

.venv/installed: .venv/requirements $(BUILD_FILES)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

peers: install
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-peers.txt

$(BUILDIFIER):
	tools/install_system_packages npm
	npm install --silent --no-save --no-audit --no-fund --prefix build/buildifier-$(BUILDIFIER_VERSION) \
	  @bazel/buildifier@$(BUILDIFIER_VERSION)

lint: install $(BUILDIFIER)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)
	$(BUILDIFIER) -mode=check -lint=warn $(BUILDIFIER_WARNINGS) $(BAZEL_FILES)
	tools/link_tree build/tree
	cd build/tree && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache nann
	$(BIN)/pytest -q tests/unit/test_architecture.py
	$(BIN)/python tools/code_figures.py

format: install $(BUILDIFIER)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP_FILES)
	$(BUILDIFIER) -lint=fix $(BUILDIFIER_WARNINGS) $(BAZEL_FILES)

test: test-cc test-py

test-py: install
	-tools/install_system_packages chromium-headless-shell  # without it, the test of the console skips
	-tools/install_system_packages redis-server  # without it, its tests skip
	$(BIN)/pytest $(IN_PARALLEL) -m 'not slow and not bazel and not docker'

# `make bazel-test` runs the same tests without sanitizers.
test-cc: install
	$(CMAKE) -S . -B build/cc/sanitized $(CC_TESTS) -DNANN_SANITIZE=address,undefined
	$(CMAKE) --build build/cc/sanitized
	$(CTEST) --test-dir build/cc/sanitized --output-on-failure

test-long: test-cc
	build/cc/sanitized/tests/cc/filter_fuzz 100000
	build/cc/sanitized/tests/cc/index_fuzz 100000
	build/cc/sanitized/tests/cc_front/predict_fuzz 100000
	build/cc/sanitized/tests/cc/program_fuzz 100000
	build/cc/sanitized/tests/cc/segment_fuzz 100000
	$(CMAKE) -S . -B build/cc/threads $(CC_TESTS) -DNANN_SANITIZE=thread
	$(CMAKE) --build build/cc/threads
	$(CTEST) --test-dir build/cc/threads --output-on-failure
	$(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=3,<4'
	mkdir -p build/fuzz
	cd build/fuzz && PYTHONPATH=$(CURDIR)/tests ../../$(BIN)/python ../../tests/fuzz_serving.py -runs=1000000
	$(BIN)/pytest -m slow

arm64-test: install
	tools/arm64/install
	$(CMAKE) -S . -B build/cc/arm64 $(subst Debug,Release,$(CC_TESTS)) \
	  -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/tools/arm64/toolchain.cmake
	$(CMAKE) --build build/cc/arm64
	$(CTEST) --test-dir build/cc/arm64 --output-on-failure

bazel-test: install
	tools/install_system_packages bazel
	trap 'bazel shutdown' EXIT; bazel test //ops/... && $(BIN)/pytest tests/integration/bazel

# Without an engine, and none to be had, the tests skip, or with CI=1 fail.
docker-test: install
	-docker info >/dev/null 2>&1 || tools/install_system_packages dockerd
	-tools/install_system_packages mmdebstrap
	$(BIN)/pytest -m docker tests/integration/docker

image:
	tools/docker/build $(SERVER) --tag nann-serving

cross-version-test: install
	$(BIN)/pytest tests/integration/cross_version

# Compiled against the headers of a wheel of that version, in an environment that holds nothing else.
preload: .venv/requirements
	test -x build/tensorflow-$(TENSORFLOW)/bin/pip || $(PYTHON) -m venv build/tensorflow-$(TENSORFLOW)
	build/tensorflow-$(TENSORFLOW)/bin/pip install --quiet --disable-pip-version-check --no-deps 'tensorflow==$(TENSORFLOW).*'
	$(CMAKE) -S . -B build/cmake/preload-$(TENSORFLOW) -G Ninja -DCMAKE_BUILD_TYPE=Release -DNANN_OLD_ABI=ON \
	  -DPython3_EXECUTABLE=$(CURDIR)/build/tensorflow-$(TENSORFLOW)/bin/python
	$(CMAKE) --build build/cmake/preload-$(TENSORFLOW)
	mkdir -p build/preload-$(TENSORFLOW)
	cp build/cmake/preload-$(TENSORFLOW)/ops/libnann_ops.so \
	  build/cmake/preload-$(TENSORFLOW)/serving/tf_serving/libnann_preload.so \
	  serving/tf_serving/entrypoint build/preload-$(TENSORFLOW)/
	@echo 'Preload build/preload-$(TENSORFLOW)/libnann_preload.so; libnann_ops.so must lie beside it.'

# The client's protocol messages and the server's health and reflection, after a change of a .proto file.
messages: install
	$(BIN)/python -m grpc_tools.protoc -I serving/protocol \
	  --descriptor_set_out=serving/protocol/messages.binpb messages.proto
	$(BIN)/python -m grpc_tools.protoc -I serving/server/protos \
	  --descriptor_set_out=serving/server/protos/services.binpb configs.proto health.proto reflection.proto

demo: install
	$(BIN)/nann demo --run $(RUN)

# tensorflow-cpu is the same TensorFlow in half the size; TensorFlow never imports libclang.
lock: install
	$(BIN)/pip install --quiet uv
	mkdir -p build
	$(LOCK) --extra tensorflow --extra bench --extra docker --extra live --extra dev pyproject.toml --output-file requirements.txt
	sed -n 's/^tensorflow==/tensorflow-cpu==/p' requirements.txt >build/embedded.in
	printf '%s; sys_platform == "none"\n' tensorflow libclang >build/embedded.overrides
	$(LOCK) --constraint requirements.txt --override build/embedded.overrides --extra serve pyproject.toml \
	  build/embedded.in --output-file tools/docker/requirements-embedded.txt
	$(LOCK) --constraint requirements.txt --group image-build --output-file tools/docker/requirements-build.txt
	$(LOCK) --constraint requirements.txt --extra peers pyproject.toml --output-file requirements-peers.txt
	sed -i '1i # Pinned by `make lock` from pyproject.toml, for Python 3.10 to 3.12. Do not edit by hand.' \
	  requirements.txt requirements-peers.txt tools/docker/requirements-*.txt

clean:
	rm -rf build bazel-*

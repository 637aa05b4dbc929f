#!/usr/bin/env bash
# Installs Horovod 0.28.1 into .venv: built once from its patched source release, then taken from the wheel cache.
#
#   setup/horovod.sh check     says what is missing for the build; a cached wheel needs nothing
#   setup/horovod.sh install   builds the wheel if need be, and installs it
#   setup/horovod.sh cache     prints the folder of the wheel
#
# The last Horovod release knows neither C++20 (which torch 2.14 asks for) nor a CUDA torch on a machine without
# CUDA; horovod-0.28.1.patch beside this file mends both. A wheel belongs to one torch, one Python and one way of
# building, so the cache folder is named after them.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=0.28.1
PYTHON=${PYTHON:-python3.11}
PY=$PWD/.venv/bin/python
PATCH=$PWD/setup/horovod-$VERSION.patch
TORCH=$(sed -n 's/^torch==//p' requirements.lock)
RECIPE=$(cat "$PATCH" setup/horovod.sh <(echo "${HOROVOD_GPU_OPERATIONS:-}") | sha256sum | cut -c1-8)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/upsnet/horovod/torch-$TORCH-py311-$(uname -m)-$RECIPE
LOG=$CACHE/build.log

is_cached() { compgen -G "$CACHE/horovod-*.whl" >/dev/null; }

check() {
  is_cached && return
  if ! command -v g++ >/dev/null || ! command -v make >/dev/null || ! has_python_headers; then
    echo "setup: no C++ compiler found (g++, make and Python's headers are needed to build Horovod $VERSION)." >&2
    echo "setup: install them with 'sudo apt-get install g++ make python3-dev', or run 'make ... HOROVOD=0' for one process." >&2
    exit 2
  fi
}

has_python_headers() {
  "$PYTHON" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))'
}

build() {
  echo "setup: building Horovod $VERSION (3 to 6 minutes on 2 cores, once; log: $LOG)"
  mkdir -p "$CACHE"
  # Not in the cache: Horovod's CMake files take their own path for a regular expression, where a + breaks the build.
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  "$PY" -m pip download -q --no-deps --no-binary :all: --no-build-isolation -d "$WORK" horovod==$VERSION >"$LOG" 2>&1 ||
    stop "the source release of Horovod $VERSION could not be downloaded"
  tar -xzf "$WORK"/horovod-$VERSION.tar.gz -C "$WORK"
  (cd "$WORK/horovod-$VERSION" && "$PY" -m patch_ng -p 1 "$PATCH") >>"$LOG" 2>&1 ||
    stop "the patch does not fit Horovod $VERSION"
  # pip's own cache could hand out a wheel that was built against another torch.
  PATH=$PWD/.venv/bin:$PATH HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 \
    HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 MAKEFLAGS="-j$(nproc)" \
    "$PY" -m pip wheel --no-build-isolation --no-deps --no-cache-dir -w "$WORK/wheel" "$WORK/horovod-$VERSION" >>"$LOG" 2>&1 ||
    stop "Horovod $VERSION did not build"
  "$PY" -m zipfile -l "$WORK"/wheel/horovod-*.whl | grep -q '^horovod/torch/mpi_lib' ||
    stop "the wheel of Horovod $VERSION came without its library"
  cp "$WORK"/wheel/horovod-*.whl "$CACHE/wheel.part"
  mv "$CACHE/wheel.part" "$CACHE/$(basename "$WORK"/wheel/horovod-*.whl)"
}

stop() {
  echo "setup: $1; the end of $LOG:" >&2
  tail -n 20 "$LOG" >&2
  exit 1
}

install() {
  is_cached || build
  "$PY" -m pip install -q --no-deps --force-reinstall "$CACHE"/horovod-*.whl
}

case ${1:-} in
  check | install) "$1" ;;
  cache) echo "$CACHE" ;;
  *) echo "usage: setup/horovod.sh check|install|cache" >&2; exit 2 ;;
esac

#!/usr/bin/env bash
# Installs Horovod 0.28.1 into .venv: built once from its patched source release, then taken from the wheel cache.
#
#   setup/horovod.sh check     says what is missing for the build; a cached wheel needs nothing
#   setup/horovod.sh install   builds the wheel if need be, and installs it
#   setup/horovod.sh cache     prints the folder of the wheel
#
# Gloo is always in it. HOROVOD_WITH_MPI=1 builds it for mpirun as well (MPI's headers are needed),
# HOROVOD_GPU_OPERATIONS=NCCL for GPUs (CUDA comes from packages, see cuda_toolkit.sh).
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
MPI=${HOROVOD_WITH_MPI:-0}
GPU=${HOROVOD_GPU_OPERATIONS:-}
RECIPE=$(cat "$PATCH" setup/horovod.sh setup/cuda_toolkit.sh <(echo "$GPU $MPI") | sha256sum | cut -c1-8)
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
  if [ "$MPI" = 1 ] && ! command -v mpicxx >/dev/null; then
    echo "setup: HOROVOD_WITH_MPI=1, but no mpicxx found; install it with 'sudo apt-get install libopenmpi-dev'." >&2
    exit 2
  fi
}

has_python_headers() {
  "$PYTHON" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))'
}

# Says which parts to build; the names are Horovod's.
choose_parts() {
  export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1
  unset HOROVOD_WITH_MPI HOROVOD_GPU_OPERATIONS # it asks whether they are there, not what they say
  if [ "$MPI" = 1 ]; then export HOROVOD_WITH_MPI=1; else export HOROVOD_WITHOUT_MPI=1; fi
  [ -z "$GPU" ] || choose_gpu_parts
}

choose_gpu_parts() {
  setup/cuda_toolkit.sh "$WORK/cuda" >>"$LOG" 2>&1 || stop "the CUDA toolkit could not be put together"
  export HOROVOD_GPU_OPERATIONS=$GPU HOROVOD_NCCL_LINK=SHARED
  export CUDA_HOME=$WORK/cuda HOROVOD_CUDA_HOME=$WORK/cuda CUDAToolkit_ROOT=$WORK/cuda
  export HOROVOD_NCCL_INCLUDE=$WORK/cuda/include HOROVOD_NCCL_LIB=$WORK/cuda/lib
  export HOROVOD_BUILD_CUDA_CC_LIST=${HOROVOD_BUILD_CUDA_CC_LIST:-80,90} # A100, H100
  PATH=$WORK/cuda/bin:$PATH
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
  choose_parts
  # pip's own cache could hand out a wheel that was built against another torch.
  PATH=$PWD/.venv/bin:$PATH MAKEFLAGS="-j$(nproc)" \
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

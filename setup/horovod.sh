#!/usr/bin/env bash
# Installs Horovod 0.28.1 into .venv: built once from its patched source release, then taken from the wheel cache.
#
# The last Horovod release knows neither C++20 (which torch 2.14 asks for) nor a CUDA torch on a machine without
# CUDA; horovod-0.28.1.patch beside this file mends both. The wheel belongs to one torch and one Python, so the
# cache folder is named after them and after the patch.
set -euo pipefail
cd "$(dirname "$0")/.."

PY=$PWD/.venv/bin/python
VERSION=0.28.1
PATCH=$PWD/setup/horovod-$VERSION.patch
KEY=$("$PY" -c 'import sys, platform, torch; print(f"torch-{torch.__version__}-py{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}")')
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/upsnet/horovod/$KEY-$(sha256sum "$PATCH" | cut -c1-8)
LOG=$CACHE/build.log

if ! ls "$CACHE"/horovod-*.whl >/dev/null 2>&1; then
  if ! command -v g++ >/dev/null || ! command -v make >/dev/null; then
    echo "setup: no C++ compiler found (g++ and make are needed to build Horovod $VERSION)." >&2
    echo "setup: install them with 'sudo apt-get install g++ make python3-dev', or run 'make ... HOROVOD=0' for one process." >&2
    exit 2
  fi
  echo "setup: building Horovod $VERSION (3 to 6 minutes on 2 cores, once; log: $LOG)"
  mkdir -p "$CACHE"
  WORK=$(mktemp -d "$CACHE/build-XXXXXX")
  trap 'rm -rf "$WORK"' EXIT
  "$PY" -m pip download -q --no-deps --no-binary :all: --no-build-isolation -d "$WORK" horovod==$VERSION >"$LOG" 2>&1 ||
    { echo "setup: the source release of Horovod $VERSION could not be downloaded, see $LOG" >&2; exit 1; }
  tar -xzf "$WORK"/horovod-$VERSION.tar.gz -C "$WORK"
  (cd "$WORK/horovod-$VERSION" && "$PY" -m patch_ng -p 1 "$PATCH") >>"$LOG" 2>&1
  # pip's own cache could hand out a wheel that was built against another torch.
  PATH=$PWD/.venv/bin:$PATH HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 \
    HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 MAKEFLAGS="-j$(nproc)" \
    "$PY" -m pip wheel --no-build-isolation --no-deps --no-cache-dir -w "$WORK/wheel" "$WORK/horovod-$VERSION" >>"$LOG" 2>&1 ||
    { echo "setup: Horovod did not build; the end of $LOG:" >&2; tail -n 20 "$LOG" >&2; exit 1; }
  mv "$WORK"/wheel/horovod-*.whl "$CACHE"/
fi
"$PY" -m pip install -q --no-deps --force-reinstall "$CACHE"/horovod-*.whl

#!/usr/bin/env bash
# Puts a CUDA toolkit together from packages, to build Horovod for GPUs where no CUDA is installed.
#
#   setup/cuda_toolkit.sh FOLDER
#
# The compiler comes from packages that are needed for the build only; libraries, headers and NCCL are those that torch
# brought into .venv. FOLDER becomes what compilers expect: bin, include, lib, lib64, nvvm.
set -euo pipefail
cd "$(dirname "$0")/.."
TOOLKIT=$(mkdir -p "$1" && cd "$1" && pwd)
PY=$PWD/.venv/bin/python
COMPILER="nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85"
BROUGHT=$("$PY" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/nvidia

# shellcheck disable=SC2086 # several packages
"$PY" -m pip install -q --no-deps --target "$TOOLKIT/packages" $COMPILER
cp -r "$TOOLKIT"/packages/nvidia/cu13/. "$TOOLKIT"
rm -r "$TOOLKIT/packages"
cp -rsf "$BROUGHT"/cu13/include "$BROUGHT"/nccl/include "$BROUGHT"/cu13/lib "$BROUGHT"/nccl/lib "$TOOLKIT"
ln -sfn lib "$TOOLKIT/lib64"
# Packages carry only names with a version (libcudart.so.13); a linker asks for libcudart.so.
for library in "$TOOLKIT"/lib/lib*.so.*; do
  plain=${library%%.so.*}.so
  [ -e "$plain" ] || ln -s "$(basename "$library")" "$plain"
done
"$TOOLKIT/bin/nvcc" --version

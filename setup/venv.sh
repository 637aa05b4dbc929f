#!/usr/bin/env bash
# Makes .venv with the locked packages, this package and Horovod; does nothing when all of them are up to date.
#
# HOROVOD=0 leaves Horovod out (one process, no compiler needed). A stamp in .venv holds the checksum of everything
# that an install depends on; it is written last, so an interrupted install is noticed and made anew.
set -euo pipefail
cd "$(dirname "$0")/.."
exec 9<setup
flock 9 # two calls of make at once: the second waits for the first

export PATH=${PATH//$PWD\/.venv\/bin:/} # an activated .venv cannot make itself anew
export PYTHON=${PYTHON:-python3.11}
HOROVOD=${HOROVOD:-1}
PACKAGES=.venv/.packages
WITH_HOROVOD=.venv/.horovod
UNFINISHED=.venv/.unfinished

fail() {
  printf 'setup: %s\n' "$@" >&2
  exit 2
}

# Scripts in .venv name its path, so a moved checkout needs a new one.
packages_key() {
  { echo "$PWD"; cat requirements.lock pyproject.toml setup/venv.sh; } | sha256sum | cut -c1-16
}
horovod_key() {
  {
    packages_key
    echo "${HOROVOD_GPU_OPERATIONS:-} ${HOROVOD_WITH_MPI:-}"
    cat setup/horovod.sh setup/cuda_toolkit.sh setup/horovod-*.patch
  } | sha256sum | cut -c1-16
}
is_stamped() { # file key
  [ "$(cat "$1" 2>/dev/null)" = "$2" ] && [ ! -e "$UNFINISHED" ]
}

check_python() {
  command -v "$PYTHON" >/dev/null ||
    fail "$PYTHON not found." "install it with 'sudo apt-get install python3.11 python3.11-venv', or name it: make PYTHON=/path/to/python3.11"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    fail "$PYTHON is not Python 3.11, for which the packages are locked." "name another one: make PYTHON=/path/to/python3.11"
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$PYTHON cannot make virtual environments." "install what is missing with 'sudo apt-get install python3.11-venv'"
}

install_packages() {
  # What an interrupted pip leaves behind can look complete to the next pip.
  if [ -e "$UNFINISHED" ] || [ "$(cat .venv/.path 2>/dev/null)" != "$PWD" ]; then
    "$PYTHON" -m venv --clear .venv
    echo "$PWD" >.venv/.path
  fi
  touch "$UNFINISHED"
  echo "setup: installing the packages of requirements.lock into .venv (about 4 minutes the first time, 7 GB)"
  .venv/bin/python -m pip install -q --no-deps -r requirements.lock
  .venv/bin/python -m pip install -q --no-deps --no-build-isolation -e .
  packages_key >"$PACKAGES"
  rm "$UNFINISHED"
}

if ! is_stamped "$PACKAGES" "$(packages_key)"; then
  check_python
  [ "$HOROVOD" = 0 ] || setup/horovod.sh check # before the long part, not after it
  install_packages
fi
if [ "$HOROVOD" != 0 ] && ! is_stamped "$WITH_HOROVOD" "$(horovod_key)"; then
  setup/horovod.sh check
  setup/horovod.sh install
  horovod_key >"$WITH_HOROVOD"
fi

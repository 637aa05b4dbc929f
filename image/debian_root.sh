#!/usr/bin/env bash
# Makes the image's file system in a folder, without a container engine: a plain Debian 12, then the steps of build.sh.
# Needs root, debootstrap and a network; takes 15 to 25 minutes on 2 cores, and 20 GB while it builds.
#
#   image/debian_root.sh FOLDER      DEVICE=cuda: as the image for GPUs
#
# What is already in FOLDER is made anew, except for a finished Debian.
set -euo pipefail
cd "$(dirname "$0")/.."
ROOT=$(mkdir -p "${1:?usage: image/debian_root.sh FOLDER}" && cd "$1" && pwd)
SOURCES="requirements.lock pyproject.toml params.yaml dvc.yaml setup image configs upsnet components pipelines"
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

fail() {
  echo "debian_root.sh: $1" >&2
  exit 2
}

[ "$(id -u)" = 0 ] || fail "needs root"
command -v debootstrap >/dev/null || fail "debootstrap not found; install it with 'apt-get install debootstrap'"

make_debian() {
  debootstrap --variant=minbase bookworm "$ROOT" >"$ROOT.log" 2>&1 || fail "debootstrap failed, see $ROOT.log"
  # As in a container, no package may start a server.
  printf '#!/bin/sh\nexit 101\n' >"$ROOT/usr/sbin/policy-rc.d"
  chmod 755 "$ROOT/usr/sbin/policy-rc.d"
  touch "$ROOT/.debian"
}

copy_sources() {
  rm -rf "$ROOT/opt/upsnet"
  mkdir -p "$ROOT/opt/upsnet"
  # shellcheck disable=SC2086 # several paths
  tar -c --exclude='__pycache__' --exclude='*.pyc' $SOURCES | tar -x --no-same-owner -C "$ROOT/opt/upsnet"
}

# One step in the root, with this machine's names, certificates, proxies and pip cache; all mounts end with it.
run_step() {
  cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
  [ ! -e $CERTIFICATES ] || cp $CERTIFICATES "$ROOT/run/builder-certificates.crt"
  mkdir -p "$ROOT/root/.cache/pip" "$HOME/.cache/pip"
  # shellcheck disable=SC2016 # it is the inner shell that expands
  ROOT=$ROOT unshare --mount --pid --fork --kill-child bash -c '
    mount -t proc proc "$ROOT/proc"
    mount --rbind /dev "$ROOT/dev"
    mount --bind "$HOME/.cache/pip" "$ROOT/root/.cache/pip"
    exec chroot "$ROOT" "$@"' bash env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "${CARRIED[@]}" DEVICE="${DEVICE:-cpu}" /opt/upsnet/image/build.sh "$1"
}

CARRIED=()
[ ! -e $CERTIFICATES ] || CARRIED+=("PIP_CERT=/run/builder-certificates.crt")
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_DEFAULT_TIMEOUT http_proxy https_proxy no_proxy; do
  [ -z "${!name:-}" ] || CARRIED+=("$name=${!name}")
done

[ -e "$ROOT/.debian" ] || make_debian
echo "debian_root.sh: Debian after $SECONDS s"
copy_sources
for step in runtime compiler venv horovod app user clean check; do
  run_step "$step"
  echo "debian_root.sh: $step after $SECONDS s"
done
rm -f "$ROOT/run/builder-certificates.crt"
rmdir "$ROOT/root/.cache/pip"

#!/usr/bin/env bash
# The steps of the container image, one function each. The Dockerfile runs them one by one; image/debian_root.sh runs
# them in a plain Debian 12 root, so that they can be tested without a container engine. As root:
#
#   image/build.sh STEP...      with the sources in /opt/upsnet
#
#   runtime    Debian packages that the image keeps: Python, Open MPI, ssh, git (for data at a revision), tini
#   compiler   Debian packages that only the build needs
#   venv       the locked Python packages in /opt/upsnet/.venv
#   horovod    Horovod for MPI and Gloo; for NCCL too where DEVICE=cuda
#   app        this program in that environment
#   user       the user upsnet (1000), its sshd and ssh
#   clean      take the compiler away again, where there is no build stage to leave behind
#   check      start every program once, as that user; fails with what is missing
set -euo pipefail

APP=/opt/upsnet
PYTHON=$APP/.venv/bin/python
DEVICE=${DEVICE:-cpu}
RUNTIME="ca-certificates git openmpi-bin openssh-client openssh-server python3 tini"
COMPILER="g++ libopenmpi-dev make python3-dev python3-venv"

export DEBIAN_FRONTEND=noninteractive
# Nodes with GPUs often have RDMA network cards, which NCCL uses through these drivers.
[ "$DEVICE" = cpu ] || RUNTIME="$RUNTIME ibverbs-providers"

fail() {
  echo "build.sh: $1" >&2
  exit 2
}

install_packages() {
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$@"
  rm -rf /var/lib/apt/lists/*
}

runtime() {
  # shellcheck disable=SC2086 # several packages
  install_packages $RUNTIME
  rm -f /etc/ssh/ssh_host_* # made by the package: everybody who has the image would have them
}

compiler() {
  # shellcheck disable=SC2086
  install_packages $COMPILER
}

venv() {
  python3.11 -m venv "$APP/.venv"
  "$PYTHON" -m pip install -q --no-deps -r "$APP/requirements.lock"
}

horovod() {
  [ "$DEVICE" = cpu ] || export HOROVOD_GPU_OPERATIONS=NCCL
  export HOROVOD_WITH_MPI=1 XDG_CACHE_HOME=${XDG_CACHE_HOME:-/var/cache}
  "$APP/setup/horovod.sh" check
  "$APP/setup/horovod.sh" install
}

app() {
  "$PYTHON" -m pip install -q --no-deps --no-build-isolation -e "$APP"
  # ssh brings ranks up in their home: everything of the application is found from any folder.
  echo "$APP" >"$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/upsnet-app.pth"
  "$PYTHON" -m compileall -q "$APP/upsnet" "$APP/components" "$APP/pipelines"
}

user() {
  id upsnet >/dev/null 2>&1 || useradd --uid 1000 --create-home --shell /bin/bash --password '*' upsnet
  install -d -o 1000 -g 1000 -m 700 /home/upsnet/.ssh
  install -d -o 1000 -g 1000 /data
  install -m 644 "$APP/image/sshd_config" /etc/ssh/sshd_config_upsnet
  install -m 644 "$APP/image/ssh_config" /etc/ssh/ssh_config.d/upsnet.conf
  install -m 755 "$APP/image/start-sshd" /usr/local/bin/start-sshd
}

clean() {
  # shellcheck disable=SC2086
  apt-get purge -y -qq --auto-remove $COMPILER
  rm -rf /var/cache/upsnet
}

check() {
  check_sshd
  as_user mpirun --version | head -n 1
  as_user upsnet --help >/dev/null
  as_user python -c 'import components, pipelines, mlflow, dvc'
  as_user python - "$DEVICE" <<'PYTHON'
import sys
import horovod
import horovod.torch as hvd

built = {"MPI": hvd.mpi_built(), "Gloo": hvd.gloo_built(), "NCCL": bool(hvd.nccl_built())}
print("Horovod", horovod.__version__, *[name for name in built if built[name]])
wanted = {"MPI", "Gloo"} | ({"NCCL"} if sys.argv[1] == "cuda" else set())
missing = sorted(name for name in wanted if not built[name])
sys.exit(f"build.sh: Horovod came without {', '.join(missing)}" if missing else 0)
PYTHON
}

# With a key that does not stay: in a pod it comes from the operator's secret.
check_sshd() {
  local folder
  folder=$(as_user mktemp -d)
  as_user ssh-keygen -q -t ed25519 -N '' -f "$folder/key"
  as_user start-sshd -t -h "$folder/key"
  rm -r "$folder"
}

# Without the builder's environment, in a folder that holds nothing of the application.
as_user() {
  (cd /tmp && setpriv --reuid 1000 --regid 1000 --clear-groups env -i HOME=/home/upsnet \
    PATH="$APP/.venv/bin:/usr/local/bin:/usr/bin:/bin" "$@")
}

[ "$(id -u)" = 0 ] || fail "these steps need root"
case $DEVICE in cpu | cuda) ;; *) fail "DEVICE=$DEVICE: must be cpu or cuda" ;; esac
[ $# -gt 0 ] || fail "usage: image/build.sh runtime|compiler|venv|horovod|app|user|clean|check ..."
for step in "$@"; do
  case $step in
    runtime | compiler | venv | horovod | app | user | clean | check)
      echo "build.sh: $step"
      "$step"
      ;;
    *) fail "unknown step: $step" ;;
  esac
done

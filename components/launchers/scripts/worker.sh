# Start of a Worker container: worker.sh ENVIRONMENT_FILE
# The ranks come in by ssh, which hands on nothing of this container's environment (image, Secrets, MLflow, device
# plugin). It is written, readable by this user alone, to where rank.sh finds it; then the image's sshd takes over.
set -euo pipefail
(
  umask 077
  unset PWD OLDPWD SHLVL
  export -p >"$1.new"
)
mv "$1.new" "$1"
exec start-sshd

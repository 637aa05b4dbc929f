# Start of the Launcher container: launcher.sh HOSTFILE WAIT_SECONDS COMMAND...
# Pods that are Ready are not yet names that DNS knows, and after a suspend nobody waits for them at all: the command
# (mpirun) starts when every host of the file answers by ssh, or the container ends with 75 (try again).
set -euo pipefail
hostfile=$1 seconds=$2
shift 2
trap 'exit 143' TERM
mapfile -t hosts < <(awk 'NF && $1 !~ /^#/ { print $1 }' "$hostfile")
if [ ${#hosts[@]} -eq 0 ]; then
  echo "launcher: $hostfile names no host" >&2
  exit 75
fi
for host in "${hosts[@]}"; do
  until answer=$(timeout 10 ssh -o BatchMode=yes -o ConnectTimeout=5 "$host" true 2>&1 </dev/null); do
    if [ "$SECONDS" -ge "$seconds" ]; then
      echo "launcher: no ssh to $host in $seconds s: ${answer:-no answer}" >&2
      exit 75
    fi
    sleep 1
  done
done
# mpirun would cut the names to their first part, which DNS does not know. Open MPI 4 reads the first variable, 5 the
# second.
export OMPI_MCA_orte_keep_fqdn_hostnames=1 PRTE_MCA_prte_keep_fqdn_hostnames=1
echo "launcher: ${#hosts[@]} host(s) answer after $SECONDS s" >&2
exec "$@"

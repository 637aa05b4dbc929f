# Start of one rank: rank.sh ENVIRONMENT_FILE COMMAND...
if [ ! -r "$1" ]; then
  echo "error: $1 is missing on $(hostname), so this is no Worker; does mpirun read the --hostfile?" >&2
  exit 2
fi
# shellcheck source=/dev/null
. "$1"
umask 022 # the sshd's is stricter, and later steps read the checkpoints
shift
exec "$@"

#!/usr/bin/env bash
# Writes requirements.lock from pyproject.toml: exact versions of everything, without places to fetch them from.
#
# The resolver (uv) lives in a throwaway environment. Versions already locked stay unless pyproject.toml rules them
# out; 'UPGRADE=1 make lock' takes the newest of all.
set -euo pipefail
cd "$(dirname "$0")/.."
TEMPORARY=$(mktemp -d)
trap 'rm -rf "$TEMPORARY"' EXIT

"${PYTHON:-python3.11}" -m venv "$TEMPORARY/venv"
"$TEMPORARY/venv/bin/pip" install -q uv
[ -n "${UPGRADE:-}" ] || cp requirements.lock "$TEMPORARY/lock"
"$TEMPORARY/venv/bin/uv" pip compile -q pyproject.toml --all-extras --python-version 3.11 \
  --no-annotate --no-header --no-emit-index-url --no-emit-find-links -o "$TEMPORARY/lock" >/dev/null
{ echo "# Made by 'make lock' from pyproject.toml; install with --no-deps."; cat "$TEMPORARY/lock"; } >"$TEMPORARY/headed"
mv "$TEMPORARY/headed" requirements.lock

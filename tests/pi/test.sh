#!/bin/sh
# make test-pi: the agent's tests on an emulated Raspberry Pi. Arguments go to pytest. See selection.py for what runs.
# Where the emulation cannot be set up it is skipped with a reason; with MAGPIE_REQUIRE_PI=1 that is a failure.
set -eu
cd "$(dirname "$0")/../.."
status=0
{ reason=$(tests/pi/setup.sh 2>&1 >&3); } 3>&1 || status=$?
case $status in
0) ;;
69)
    echo "make test-pi: skipped: $reason"
    [ "${MAGPIE_REQUIRE_PI:-0}" != 1 ]
    exit
    ;;
*)
    echo "make test-pi: $reason" >&2
    exit "$status"
    ;;
esac
exec 9<"${MAGPIE_PI_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/magpie-pi}/lock"
flock -s 9 # nobody sets it up anew before the tests have ended
# Servers are no part of a Pi: they run on the host's own Python.
MAGPIE_HOST_PYTHON=${MAGPIE_HOST_PYTHON:-$PWD/.venv/bin/python}
export MAGPIE_HOST_PYTHON HYPOTHESIS_PROFILE=pi OMP_NUM_THREADS=1
exec tests/pi/run -m pytest -p tests.pi.selection -p no:cacheprovider -n "${MAGPIE_PI_JOBS:-2}" -rs "$@"

#!/bin/bash
# The checks of test_comm.c over 2 and 4 ranks, and a rank that aborts.
# usage: mpi_comm.sh BUILD_DIR
set -u
build=${1:?build directory}
skip() { echo "SKIP: $*"; exit 77; }
command -v mpirun >/dev/null || skip "no mpirun on this machine"
grep -q '^WITH_MPI:[^=]*=OFF' "$build/CMakeCache.txt" 2>/dev/null && skip "built with WITH_MPI=OFF"
grep -q '^MPI_C_HEADER_DIR:[^=]*=.*NOTFOUND' "$build/CMakeCache.txt" 2>/dev/null && skip "built without MPI"
[ -x "$build/test_comm" ] || { echo "no $build/test_comm"; exit 1; }

# As root, more ranks than cores, no pinning of a rank to one core; shared memory only (Open MPI's names; others ignore them).
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader OMP_NUM_THREADS=1
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 # Open MPI itself leaks

for n in 2 4; do
    timeout 120 mpirun -np $n "$build/test_comm" $n >"${TMPDIR:-/tmp}/mpi_comm.$$" 2>&1
    rc=$?
    if [ $rc -ne 0 ]; then
        cat "${TMPDIR:-/tmp}/mpi_comm.$$"; rm -f "${TMPDIR:-/tmp}/mpi_comm.$$"
        echo "not ok: $n ranks ended with $rc"; exit 1
    fi
    echo "ok: $n ranks"
done
rm -f "${TMPDIR:-/tmp}/mpi_comm.$$"
timeout 60 mpirun -np 2 "$build/test_comm" 2 7 >/dev/null 2>&1
rc=$?
[ $rc -eq 7 ] || { echo "not ok: a rank that aborts with 7 ended the job with $rc"; exit 1; }
echo "ok: abort ends the job with its code"

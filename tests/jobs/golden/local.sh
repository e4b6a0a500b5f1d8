#!/bin/bash

# hpcfilter on local: nodes 1, ranks per node 2
# shellcheck disable=SC2317,SC2054  # traps call functions; there are commas in words
began=$(date +%s)
# The scheduler's notice may come at any time, and must not end this shell
told=0 again=0 pid=
forward() { kill -USR1 "$1"; ( sleep 5; kill -USR1 "$1" ) > /dev/null 2>&1 & :; }
trap 'told=1 again=1; [ -z "$pid" ] || forward "$pid"' USR1
trap '[ -z "$pid" ] || { kill -TERM "$pid"; wait "$pid"; }; exit 143' TERM INT HUP

cd /home/you/project || exit
say() { printf '%s  %s\n' "$(date +%FT%T%z)" "$*"; }

set -uo pipefail
ulimit -c 0
export OMP_NUM_THREADS=1
export PYTHONUNBUFFERED=1
export PYTHONFAULTHANDLER=1
export HDF5_USE_FILE_LOCKING=FALSE
export HOROVOD_STALL_CHECK_TIME_SECONDS=60
export HOROVOD_STALL_SHUTDOWN_TIME_SECONDS=600
export CUDA_VISIBLE_DEVICES=''
export OMPI_ALLOW_RUN_AS_ROOT=1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export HPCFILTER_DEADLINE=$(( began + 5280 ))

run=runs/hpcfilter
HPCFILTER_JOB=$$
export HPCFILTER_RUN_DIR=$run
# Where ranks without MPI meet: rank 0 is on the first host
MASTER_ADDR=127.0.0.1
export MASTER_ADDR
MASTER_PORT=$(( 20000 + $(printf %s "$HPCFILTER_JOB" | cksum | cut -d ' ' -f 1) % 12000 )) # below those that Linux gives away
export MASTER_PORT
mkdir -p -- "$run" || exit
if [ -e "$run/DONE" ]; then
  say "$run is finished"
  exit 0
fi
rm -f -- "$run/REQUEUE"

launcher=(mpirun -n 2)
program=(/opt/env/bin/python -u -m mpi4py -m hpcfilter train run.toml --run-dir "$run" --resume --set train.epochs=3)

say "job $HPCFILTER_JOB: run folder $run, deadline in 5280 s"
say "host $(hostname)"
if type module > /dev/null 2>&1; then (set +u; module list); fi
env | grep -E '^(HOROVOD|NCCL|RCCL|GLOO|FI|OMP|HDF5|MPICH|MIOPEN)_' | sort

finish() { # wait for process $1 to its end, through signals, which end a wait early; its exit code is in $status
  again=1
  while [ "$again" = 1 ]; do
    again=0 status=0
    wait "$1" || status=$?
  done
}

status=0
if [ "$told" = 0 ]; then
  "${launcher[@]}" "${program[@]}" &
  pid=$!
  [ "$told" = 0 ] || forward "$pid" # told since the last line but two
  finish "$pid"
  say "the ranks have left with exit code $status"
  if [ "$told" = 1 ] && [ "$status" = 138 ] && [ ! -e "$run/DONE" ]; then
    status=0 # told before the ranks listened, which ended them
    touch -- "$run/REQUEUE"
  fi
elif [ $(( $(date +%s) - began )) -gt 4752 ]; then
  say "nothing trained: what comes before has taken the walltime; ask for more (job.walltime)"
  exit 1
else # told before there were ranks to tell it to
  touch -- "$run/REQUEUE"
fi

if [ "$status" = 0 ] && [ -e "$run/REQUEUE" ]; then
  say "not finished; submit again to go on"
fi
exit "$status"

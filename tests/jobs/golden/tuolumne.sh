#!/bin/bash
# flux: --job-name=hpcfilter
# flux: -N2
# flux: -n8
# flux: -c24
# flux: -g1
# flux: -t 90m
# flux: -q pbatch
# flux: -B abc123
# flux: --output=logs/hpcfilter-{{id}}.out
# flux: --signal=USR1@300s
# flux: --exclusive

# hpcfilter on tuolumne: nodes 2, ranks per node 4
# shellcheck disable=SC2317,SC2054  # traps call functions; there are commas in words
began=$(date +%s)
# The scheduler's notice may come at any time, and must not end this shell
told=0 again=0 pid=
forward() { :; }
trap 'told=1 again=1; [ -z "$pid" ] || forward "$pid"' USR1

cd /home/you/project || exit
say() { printf '%s  %s\n' "$(date +%FT%T%z)" "$*"; }

module load cce/21.0.0 || exit
module load cray-mpich/9.1.0 || exit
module load rocm/7.1.1 || exit
module load rccl/fast-env-slows-mpi || exit
set -uo pipefail
ulimit -c 0
export OMP_NUM_THREADS=12
export PYTHONUNBUFFERED=1
export PYTHONFAULTHANDLER=1
export HDF5_USE_FILE_LOCKING=FALSE
export HOROVOD_STALL_CHECK_TIME_SECONDS=60
export HOROVOD_STALL_SHUTDOWN_TIME_SECONDS=600
export FI_CXI_DEFAULT_CQ_SIZE=131072
export FI_CXI_DISABLE_HOST_REGISTER=1
export FI_CXI_RDZV_PROTO=alt_read
export FI_CXI_RDZV_EAGER_SIZE=0
export FI_CXI_RDZV_THRESHOLD=0
export FI_CXI_RDZV_GET_MIN=0
export FI_CXI_DEFAULT_TX_SIZE=1024
export FI_CXI_RX_MATCH_MODE=hybrid
export FI_MR_CACHE_MONITOR=userfaultfd
export MPICH_GPU_SUPPORT_ENABLED=0
export NCCL_NET_PLUGIN=/collab/usr/global/tools/rccl/toss_4_x86_64_ib_cray/rocm-7.1.1/install/lib/librccl-net.so
export NCCL_NET_GDR_LEVEL=3
export MIOPEN_USER_DB_PATH="/tmp/${USER-}-miopen"
export MIOPEN_CUSTOM_CACHE_DIR="/tmp/${USER-}-miopen"
export NCCL_CROSS_NIC=1
export NCCL_SOCKET_IFNAME=hsi0
export HPCFILTER_DEADLINE=$(( began + 5100 ))

run=runs/hpcfilter
HPCFILTER_JOB=$(flux getattr jobid)
export HPCFILTER_RUN_DIR=$run
# Where ranks without MPI meet: rank 0 is on the first host
MASTER_ADDR=$(flux getattr hostlist | sed -E 's/^([^],[]*)(\[([^],-]*)[^]]*\])?.*/\1\3/')
export MASTER_ADDR
MASTER_PORT=$(( 20000 + $(printf %s "$HPCFILTER_JOB" | cksum | cut -d ' ' -f 1) % 12000 )) # below those that Linux gives away
export MASTER_PORT
mkdir -p -- "$run" || exit
if [ -e "$run/DONE" ]; then
  say "$run is finished"
  exit 0
fi
rm -f -- "$run/REQUEUE"

launcher=(flux run -N2 -n8 -c24 -g1 -u -o fastload=on -o nosetpgrp -o mpibind=omp_proc_bind,omp_places --setattr=rdzv_get_en=0)
program=(/opt/env/bin/python -u -m mpi4py -m hpcfilter train run.toml --run-dir "$run" --resume --set train.epochs=3)

say "job $HPCFILTER_JOB: run folder $run, deadline in 5100 s"
say "nodes $(flux getattr hostlist)"
if type module > /dev/null 2>&1; then (set +u; module list); fi
env | grep -E '^(HOROVOD|NCCL|RCCL|GLOO|FI|OMP|HDF5|MPICH|MIOPEN)_' | sort

by_hand() { # $1 submits the script
  say "the scheduler refuses to go on by itself (see above); all is saved; to go on: cd $PWD && $1"
}

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
elif [ $(( $(date +%s) - began )) -gt 4590 ]; then
  say "nothing trained: what comes before has taken the walltime; ask for more (job.walltime)"
  exit 1
else # told before there were ranks to tell it to
  touch -- "$run/REQUEUE"
fi

if [ "$status" = 0 ] && [ -e "$run/REQUEUE" ]; then
  count=$(cat "$run/requeues" 2>/dev/null || echo 0)
  if [ "$count" -ge 10 ]; then
    say "not finished after 10 requeues (job.max_requeues); submit again to go on"
    exit 1
  fi
  echo $(( count + 1 )) > "$run/requeues" || exit
  say "requeue $(( count + 1 )) of 10"
  if next=$(flux --parent batch --dependency=afterany:"$HPCFILTER_JOB" runs/hpcfilter/job.sh); then
    say "goes on as job $next"
  else
    by_hand 'flux batch runs/hpcfilter/job.sh'
  fi
fi
exit "$status"

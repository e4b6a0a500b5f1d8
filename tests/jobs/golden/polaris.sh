#!/bin/bash -l
#PBS -N hpcfilter
#PBS -A abc123
#PBS -l walltime=01:30:00
#PBS -q prod
#PBS -j oe
#PBS -o logs/
#PBS -r y
#PBS -l select=10:system=polaris
#PBS -l place=scatter
#PBS -l filesystems=home:eagle
#PBS -k doe

# hpcfilter on polaris: nodes 10, ranks per node 4
# shellcheck disable=SC2317,SC2054  # traps call functions; there are commas in words
began=$(date +%s)
# The scheduler's notice may come at any time, and must not end this shell
told=0 again=0 pid=
forward() { kill -USR1 "$1"; }
trap 'told=1 again=1; [ -z "$pid" ] || forward "$pid"' USR1

cd /home/you/project || exit
say() { printf '%s  %s\n' "$(date +%FT%T%z)" "$*"; }

module use /soft/modulefiles || exit
module load conda || exit
set -uo pipefail
ulimit -c 0
export OMP_NUM_THREADS=4
export PYTHONUNBUFFERED=1
export PYTHONFAULTHANDLER=1
export HDF5_USE_FILE_LOCKING=FALSE
export HOROVOD_STALL_CHECK_TIME_SECONDS=60
export HOROVOD_STALL_SHUTDOWN_TIME_SECONDS=600
export HPCFILTER_GPU=CUDA_VISIBLE_DEVICES=3,2,1,0
export FI_CXI_DEFAULT_CQ_SIZE=131072
export FI_CXI_DISABLE_HOST_REGISTER=1
export FI_MR_CACHE_MONITOR=userfaultfd
export MPICH_GPU_SUPPORT_ENABLED=0
export TMPDIR=/tmp
export NCCL_NET='AWS Libfabric'
export LD_LIBRARY_PATH="/soft/libraries/aws-ofi-nccl/v1.9.1-aws/lib:/soft/libraries/hwloc/lib:${LD_LIBRARY_PATH-}"
LD_LIBRARY_PATH=${LD_LIBRARY_PATH#:} && LD_LIBRARY_PATH=${LD_LIBRARY_PATH%:} # an empty entry is the current folder
export NCCL_NET_GDR_LEVEL=PHB
export NCCL_CROSS_NIC=1
export NCCL_COLLNET_ENABLE=1
export HPCFILTER_DEADLINE=$(( began + 5100 ))

run=runs/hpcfilter
HPCFILTER_JOB=$PBS_JOBID
export HPCFILTER_RUN_DIR=$run
# Where ranks without MPI meet: rank 0 is on the first host
MASTER_ADDR=$(head -n 1 "$PBS_NODEFILE")
export MASTER_ADDR
MASTER_PORT=$(( 20000 + $(printf %s "$HPCFILTER_JOB" | cksum | cut -d ' ' -f 1) % 12000 )) # below those that Linux gives away
export MASTER_PORT
mkdir -p -- "$run" || exit
if [ -e "$run/DONE" ]; then
  say "$run is finished"
  exit 0
fi
rm -f -- "$run/REQUEUE"

launcher=(mpiexec -n 40 --ppn 4 --depth=8 --cpu-bind depth)
program=(/opt/env/bin/python -u -m mpi4py -m hpcfilter train run.toml --run-dir "$run" --resume --set train.epochs=3)

say "job $HPCFILTER_JOB: run folder $run, deadline in 5100 s"
say "nodes $(sort -u "$PBS_NODEFILE" | tr '\n' ' ')"
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
  if next=$(qsub -W depend=afterany:"$PBS_JOBID" runs/hpcfilter/job.sh); then # the owner of a job may not send it back to the queue
    say "goes on as job $next"
  else
    by_hand 'qsub runs/hpcfilter/job.sh'
  fi
fi
exit "$status"

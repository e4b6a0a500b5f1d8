#!/bin/bash
#SBATCH --job-name=hpcfilter
#SBATCH --account=abc123
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=01:30:00
#SBATCH --output=logs/hpcfilter-%j.out
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --requeue

# hpcfilter on slurm-cpu: nodes 2, ranks per node 4
# shellcheck disable=SC2317,SC2054  # traps call functions; there are commas in words
began=$(date +%s)
# The scheduler's notice may come at any time, and must not end this shell
told=0 again=0 pid=
forward() { kill -USR1 "$1"; }
trap 'told=1 again=1; [ -z "$pid" ] || forward "$pid"' USR1

cd /home/you/project || exit
say() { printf '%s  %s\n' "$(date +%FT%T%z)" "$*"; }

set -uo pipefail
ulimit -c 0
export OMP_NUM_THREADS=16
export PYTHONUNBUFFERED=1
export PYTHONFAULTHANDLER=1
export HDF5_USE_FILE_LOCKING=FALSE
export HOROVOD_STALL_CHECK_TIME_SECONDS=60
export HOROVOD_STALL_SHUTDOWN_TIME_SECONDS=600
export CUDA_VISIBLE_DEVICES=''
export HOROVOD_CPU_OPERATIONS=MPI
export HPCFILTER_DEADLINE=$(( began + 5280 ))

run=runs/hpcfilter
HPCFILTER_JOB=$SLURM_JOB_ID
export HPCFILTER_RUN_DIR=$run
# Where ranks without MPI meet: rank 0 is on the first host
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export MASTER_ADDR
MASTER_PORT=$(( 20000 + $(printf %s "$HPCFILTER_JOB" | cksum | cut -d ' ' -f 1) % 12000 )) # below those that Linux gives away
export MASTER_PORT
mkdir -p -- "$run" || exit
if [ -e "$run/DONE" ]; then
  say "$run is finished"
  exit 0
fi
rm -f -- "$run/REQUEUE"

launcher=(srun -N 2 -n 8 --ntasks-per-node=4 -c 16 --kill-on-bad-exit=1 --unbuffered --cpu-bind=cores)
program=(/opt/env/bin/python -u -m mpi4py -m hpcfilter train run.toml --run-dir "$run" --resume --set train.epochs=3)

say "job $HPCFILTER_JOB: run folder $run, deadline in 5280 s"
say "nodes $SLURM_JOB_NODELIST, start $(( ${SLURM_RESTART_COUNT:-0} + 1 ))"
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
elif [ $(( $(date +%s) - began )) -gt 4752 ]; then
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
  if scontrol requeue "$HPCFILTER_JOB"; then
    sleep 120 # Slurm ends this shell meanwhile
    exit 1
  fi
  by_hand 'sbatch runs/hpcfilter/job.sh'
fi
exit "$status"

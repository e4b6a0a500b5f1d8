#!/bin/bash -l
#PBS -N hpcfilter
#PBS -P abc123
#PBS -l walltime=01:30:00
#PBS -q rt_HF
#PBS -j oe
#PBS -o logs/
#PBS -r y
#PBS -l select=2:mpiprocs=8
#PBS -k oed

# hpcfilter on abci: nodes 2, ranks per node 8
# shellcheck disable=SC2317,SC2054  # traps call functions; there are commas in words
began=$(date +%s)
# The scheduler's notice may come at any time, and must not end this shell
told=0 again=0 pid=
forward() { kill -USR1 "$1"; }
trap 'told=1 again=1; [ -z "$pid" ] || forward "$pid"' USR1

cd /home/you/project || exit
say() { printf '%s  %s\n' "$(date +%FT%T%z)" "$*"; }

module load hpcx-mt/2.20 || exit
set -uo pipefail
ulimit -c 0
export OMP_NUM_THREADS=6
export PYTHONUNBUFFERED=1
export PYTHONFAULTHANDLER=1
export HDF5_USE_FILE_LOCKING=FALSE
export HOROVOD_STALL_CHECK_TIME_SECONDS=60
export HOROVOD_STALL_SHUTDOWN_TIME_SECONDS=600
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

launcher=(mpirun -np 16 -hostfile "$PBS_NODEFILE" -bind-to none -map-by slot -x OMP_NUM_THREADS -x PYTHONUNBUFFERED -x PYTHONFAULTHANDLER -x HDF5_USE_FILE_LOCKING -x HOROVOD_STALL_CHECK_TIME_SECONDS -x HOROVOD_STALL_SHUTDOWN_TIME_SECONDS -x HPCFILTER_DEADLINE -x HPCFILTER_RUN_DIR -x PATH ${LD_LIBRARY_PATH+-x LD_LIBRARY_PATH} ${PYTHONPATH+-x PYTHONPATH} ${MASTER_ADDR+-x MASTER_ADDR} ${MASTER_PORT+-x MASTER_PORT})
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

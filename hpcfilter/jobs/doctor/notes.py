"""What is not wrong, but worth knowing: a pure function of the facts of all ranks."""

from collections import Counter

from hpcfilter.jobs.doctor.rules import threads, wants_no_gpu
from hpcfilter.jobs.doctor.words import where

PAIRS = 3  # that are named


def notes(ranks):
    """ranks: the facts of all ranks, in rank order. Returns list of str, one line each."""
    on_node = Counter(facts["host"] for facts in ranks)
    found = (["one process: start doctor with mpirun, srun, jsrun or torchrun to see how the ranks stand"]
             if len(ranks) == 1 else [])
    if which := where(ranks, lambda facts: "" if threads(facts) is None else None):
        found.append(f"OMP_NUM_THREADS is unset on {which}: a run on CPUs shares the cores of a node among "
                     "its ranks")
    if which := where(ranks, lambda facts: "" if facts["gpu_files"] and wants_no_gpu(facts) else None):
        found.append(f"GPUs are hidden from {which}: a run takes the CPU")
    if pairs := where(ranks, _apart):
        found.append(f"GPUs of a node cannot read each other's memory: {pairs}; NCCL or RCCL takes the way "
                     "through the host, which is slow, or stops: have the scheduler bind no GPUs to tasks, "
                     "and set HPCFILTER_GPU")
    if which := where(ranks, lambda facts: "" if on_node[facts["host"]] > facts["machine_cores"] else None):
        found.append(f"more ranks than cores on the node of {which}")
    if len(ranks) > 1 and (which := where(ranks, lambda facts: "" if _never_shuts_down(facts["environment"])
                                          else None)):
        found.append(f"HOROVOD_STALL_SHUTDOWN_TIME_SECONDS is 0 or unset on {which}: "
                     "the watchdog ends a job that stalls (stop.stall_seconds)")
    return found


def _apart(facts):
    """The pairs of GPUs that a rank sees without P2P, in words; None when there are none."""
    pairs = facts["torch"].get("apart") or []
    more = f" and {len(pairs) - PAIRS} pairs more" if len(pairs) > PAIRS else ""
    return ", ".join(f"{one} and {other}" for one, other in pairs[:PAIRS]) + more if pairs else None


def _never_shuts_down(environment):
    return environment.get("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", "0") in ("", "0")

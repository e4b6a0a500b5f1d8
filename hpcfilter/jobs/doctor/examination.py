"""Is this machine ready: what each rank finds, what is wrong with it, and how fast the ranks add up."""

from hpcfilter.base.alive.watchdog import watching
from hpcfilter.jobs.doctor.facts import gather, launcher, own_facts
from hpcfilter.jobs.doctor.notes import notes
from hpcfilter.jobs.doctor.report import describe, speed
from hpcfilter.jobs.doctor.rules import problems
from hpcfilter.jobs.doctor.trial import measure

__all__ = ["doctor"]

PATIENCE = 300  # seconds without a sign of life, after which the job ends: a broken network hangs


def doctor(comm, folder="."):
    """Examine this launch and print what is found on rank 0. All ranks must call. folder: where HDF5
    is tried, once per node.

    Returns list of str on all ranks, one line per problem; empty when the machine is ready.
    """
    with watching(comm, PATIENCE):
        own = own_facts(comm, folder)
        ranks = gather(comm, own)
        # before the trial, which a broken network lets hang
        comm.on_first(lambda: _show(describe(ranks, launcher())))
        measured = measure(comm, own)
        return comm.on_first(lambda: _judge(ranks, measured))


def _judge(ranks, measured):
    found = problems(ranks, measured)
    _show([*speed(measured), *(f"note: {text}" for text in notes(ranks)),
           *(f"problem: {text}" for text in found or ["none"])])
    return found


def _show(lines):
    print("\n".join(lines), flush=True)

"""What the queues of a machine take, and the memory of its nodes: what is refused, and what is only said.

Refused is what the site forbids. A profile does not list every queue of a site: one that it does not know
is said, and left to the scheduler.
"""

from pathlib import PurePosixPath

from hpcfilter.base.errors import InputError
from hpcfilter.jobs.schema import clock

SUCCESSORS = "pbs", "flux"  # schedulers where a job hands in its successor while it still runs
RANK_MEMORY = 4  # GiB that a rank is taken to need beside staged data: Python, torch, what it reads ahead


def limits_of(job, machine):
    """The limits of the queue, and of the QOS, that a job asks for. Returns a list of Limit; empty when the
    profile knows none of them."""
    queue = job.queue or (machine.limits[0].queue if machine.limits else None)
    return [limit for limit in machine.limits if limit.queue == queue and limit.qos == job.qos]


def check_queue(job, machine):
    """Raise InputError when the queue takes no job of that size and length."""
    own = limits_of(job, machine)
    if not own:
        return
    fits = [limit for limit in own if limit.nodes[0] <= job.nodes <= limit.nodes[1]]
    if not fits:
        ranges = ", ".join(f"{limit.nodes[0]} to {limit.nodes[1]}" for limit in own)
        raise InputError(f"job.nodes: got {job.nodes} for queue {_named(own[0])} of {machine.name}; "
                         f"expected {ranges}")
    longest = max(limit.walltime for limit in fits)
    if job.walltime > longest:
        raise InputError(f"job.walltime: got {clock(job.walltime)} for {job.nodes} nodes in queue "
                         f"{_named(own[0])} of {machine.name}; expected at most {clock(longest)}")


def requeued(job, machine, asked):
    """The job, not requeued where the site forbids chains of jobs. asked: whether the user wants it to be.
    Returns Job. Raises InputError for what is asked for and forbidden."""
    forbidden = [limit for limit in limits_of(job, machine) if not limit.chain]
    if not (forbidden and job.requeue):
        return job
    if asked:
        raise InputError(f"job.requeue: got true for queue {_named(forbidden[0])} of {machine.name}, where "
                         "the site forbids jobs that follow each other; expected false, or another queue")
    return job.model_copy(update={"requeue": False})


def check_follow(job, machine, chain):
    """Raise InputError for a chain of jobs where the site forbids it. chain: how many jobs."""
    for limit in limits_of(job, machine):
        if chain > 1 and not limit.chain:
            raise InputError(f"--chain: got {chain} for queue {_named(limit)} of {machine.name}, where the "
                             "site forbids jobs that follow each other; expected 1, or another queue")


def check_memory(job, machine, size):
    """Raise InputError when data that is staged to memory is larger than it. size: bytes for one node."""
    if _to_memory(job, machine) and size > machine.node.memory_gib * 2**30:
        raise InputError(f"job.stage.method: got {job.stage.method} of {size / 2**30:.3g} GiB to "
                         f"{machine.node.storage} of {machine.name}, which is memory, of "
                         f"{machine.node.memory_gib} GiB; expected less, more nodes with job.stage.part, "
                         "or job.stage.folder on a disk")


def warnings(job, machine, jobs, size):
    """What may go wrong at the site, and is no reason to refuse, after the profile's own hints. jobs: how
    many are submitted together. size: bytes of staged data for one node. Returns a list of lines."""
    lines = (*_of_the_machine(job, machine), *_of_the_queue(job, machine, jobs),
             *_of_the_memory(job, machine, size), *_of_the_container(job, machine))
    hints = [machine.hint, machine.container_hint if job.container.kind != "none" else None]
    return [*(f"note: {machine.name}: {hint}" for hint in hints if hint),
            *(f"warning: {line}" for line in lines)]


def _of_the_machine(job, machine):
    if machine.retired:
        yield (f"{machine.name} is gone ({machine.retired}); its profile is for machines like it: "
               "hpcfilter jobs list-machines has those of today")
    if machine.limits and not limits_of(job, machine):
        queues = dict.fromkeys(limit.queue for limit in machine.limits)
        what = (f"qos {job.qos}" if job.queue in (None, *queues) and job.qos else f"queue {job.queue}")
        yield (f"the profile of {machine.name} does not know the {what}, and its limits are not checked; "
               f"it knows the queues {', '.join(queues)}")


def _of_the_queue(job, machine, jobs):
    own = limits_of(job, machine)
    where = f"queue {_named(own[0])} of {machine.name}" if own else ""
    most = min((limit.jobs for limit in own if limit.jobs), default=None)
    if most and jobs > most:
        yield f"{where} takes {most} of your jobs at a time, and these are {jobs}: it may refuse the others"
    if most == 1 and job.requeue and machine.scheduler in SUCCESSORS:
        yield (f"{where} takes one job of yours at a time: it may refuse the one that is to go on; "
               "then submit again")
    if own and not all(limit.chain for limit in own):
        yield f"{where}: the site forbids jobs that follow each other: not requeued; submit again to go on"
    for text in dict.fromkeys(limit.preempt for limit in own if limit.preempt):
        yield (f"{where} may be taken away from a job ({text}): only what it has saved by then counts "
               "(checkpoint.seconds)")


def _of_the_memory(job, machine, size):
    ranks = job.ranks_per_node * RANK_MEMORY
    if _to_memory(job, machine) and size / 2**30 + ranks > machine.node.memory_gib:
        yield (f"the data goes to {machine.node.storage} of {machine.name}, which is memory: "
               f"{size / 2**30:.3g} GiB of it and about {RANK_MEMORY} GiB for each of "
               f"{job.ranks_per_node} ranks are more than {machine.node.memory_gib} GiB")


def _of_the_container(job, machine):
    if job.container.kind == "edf" and job.stage.method != "none":
        yield (f"the data is staged to {job.stage.folder or machine.node.storage} of each node, which only "
               f"the mounts of {job.container.image} can show to the ranks: it must stand there")


def _to_memory(job, machine):
    """Whether the data is staged to what is the memory of the node, of known size."""
    node, stage = machine.node, job.stage
    if stage.method == "none" or not (node.storage_is_memory and node.memory_gib):
        return False
    return not stage.folder or PurePosixPath(stage.folder).is_relative_to(node.storage)


def _named(limit):
    return limit.queue + (f" with qos {limit.qos}" if limit.qos else "")

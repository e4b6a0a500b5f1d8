"""How the ranks of a job lie on the nodes of a machine, and whether they can."""

import math
from dataclasses import dataclass

from hpcfilter.base.errors import InputError
from hpcfilter.jobs.schema import clock

ONLY = {  # what not every scheduler has a word for -> those that have
        "qos": ("slurm",), "reservation": ("slurm", "lsf", "sge"), "constraint": ("slurm", "lsf"),
        "dependency": ("slurm", "lsf", "pbs", "flux", "sge"), "mail_user": ("slurm", "lsf", "pbs", "sge"),
        "mail_type": ("slurm", "pbs", "sge"), "directives": ("slurm", "lsf", "pbs", "flux", "sge")}
WIDTH = 56  # characters that picture the cores of a node


@dataclass(frozen=True)
class Layout:
    """Equal nodes, equal ranks, equal resource sets (of jsrun; elsewhere a set is a rank). Cores are counted
    as the scheduler counts them."""

    nodes: int
    ranks_per_node: int
    cpus_per_rank: int
    gpus_per_rank: int
    ranks_per_set: int
    threads: int  # OMP_NUM_THREADS of a rank

    @property
    def ranks(self):
        return self.nodes * self.ranks_per_node

    @property
    def sets_per_node(self):
        return self.ranks_per_node // self.ranks_per_set

    @property
    def gpus_per_node(self):
        return self.ranks_per_node * self.gpus_per_rank

    @property
    def cpus_per_node(self):
        return self.ranks_per_node * self.cpus_per_rank


def lay_out(job, machine):
    """The layout that a job asks for on a machine. Returns Layout. Raises InputError, with what would
    fit, when it does not."""
    node, ranks = machine.node, job.ranks_per_node
    layout = Layout(job.nodes, ranks, job.cpus_per_rank, job.gpus_per_rank, job.ranks_per_set,
                    _threads(job, node))
    if layout.gpus_per_node > node.gpus:
        raise InputError(f"job.gpus_per_rank: got {ranks} ranks with a GPU each on {machine.name}, "
                         f"whose nodes have {node.gpus}; expected "
                         + (f"job.ranks_per_node up to {node.gpus}" if node.gpus else "0"))
    if ranks > node.cpus:
        raise InputError(f"job.ranks_per_node: got {ranks} on {machine.name}, whose nodes have {node.cpus} "
                         f"cores; expected at most {node.cpus}")
    if layout.cpus_per_node > node.cpus:
        raise InputError(f"job.cpus_per_rank: got {ranks} ranks of "
                         f"{layout.cpus_per_rank} cores on {machine.name}, whose nodes have {node.cpus}; "
                         f"expected at most {node.cpus // ranks} for {ranks} ranks")
    if layout.ranks_per_node % layout.ranks_per_set:
        fit = [number
               for number in range(1, layout.ranks_per_node + 1) if layout.ranks_per_node % number == 0]
        raise InputError(f"job.ranks_per_set: got {layout.ranks_per_set} for {layout.ranks_per_node} ranks "
                         f"per node; expected one of {', '.join(map(str, fit))}")
    if layout.threads > layout.cpus_per_rank:
        raise InputError(f"job.omp_num_threads: got {layout.threads} for ranks of {layout.cpus_per_rank} "
                         f"cores; expected 1 to {layout.cpus_per_rank}")
    return layout


def _threads(job, node):
    """The threads of a rank: its cores; beside a GPU half of them, which leaves some to the reader, Horovod
    and the launching of kernels."""
    cores = max(1, job.cpus_per_rank // node.threads_per_core)
    return job.omp_num_threads or (max(1, cores // 2) if job.gpus_per_rank else cores)


def check_options(job, machine):
    """Raise InputError for an option that the machine has no word for, or one that it requires and that is
    missing."""
    for option, schedulers in ONLY.items():
        if getattr(job, option) and machine.scheduler not in schedulers:
            also = ("" if machine.scheduler == "local"
                    else "; write it into job.directives as the scheduler wants it")
            raise InputError(f"job.{option}: got {getattr(job, option)!r} for {machine.name} with "
                             f"{machine.scheduler}, which has none{also}")
    if machine.scheduler == "sge" and job.name[0].isdigit():
        raise InputError(f"job.name: got {job.name!r}; SGE takes no name that begins with a digit")
    if job.qos and machine.queue_option == "--qos":
        raise InputError(f"job.qos: got {job.qos!r}; the queues of {machine.name} are QOS: "
                         f"expected it as job.queue (--queue {job.qos})")
    for option in machine.requires:
        if getattr(job, option) is None:
            raise InputError(f"job.{option}: missing; {machine.name} requires one (--{option}, "
                             f"or [job] {option} in the run config)")
    if job.grace_seconds >= job.walltime:
        raise InputError(f"job.grace_seconds: got {job.grace_seconds} for a walltime of "
                         f"{clock(job.walltime)}; expected less, so that some time is left for training")


def draw(layout, machine):
    """The ranks on one node as text, one line per rank, a mark per core (or per few cores). Returns str."""
    node = machine.node
    scale = math.ceil(node.cpus / WIDTH)
    lines = [f"each node: {node.cpus} cores, {node.gpus} GPUs"
             + (f"   (one mark is {scale} cores)" if scale > 1 else "")]
    for rank in range(layout.ranks_per_node):
        first = rank * layout.cpus_per_rank
        last = first + layout.cpus_per_rank - 1
        marks = "".join("#" if first <= (place + 1) * scale - 1 and place * scale <= last else "."
                        for place in range(math.ceil(node.cpus / scale)))
        parts = [f"local rank {rank:3d}", f"cores {first:3d}-{last:3d} [{marks}]"]
        if layout.gpus_per_rank:
            parts.append(f"GPU {rank}")
        if layout.ranks_per_set > 1:
            parts.append(f"set {rank // layout.ranks_per_set}")
        lines.append("  ".join(parts))
    return "\n".join(lines)

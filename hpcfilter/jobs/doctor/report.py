"""Facts in readable lines: pure functions of `ranks`, the facts of all ranks in rank order."""

import math
from collections import defaultdict

from hpcfilter.base.spans import spans
from hpcfilter.jobs.doctor.rules import device
from hpcfilter.jobs.doctor.words import across, numbers

HEAD = 13  # width of the first column
GIB = 1 << 30


def describe(ranks, launcher):
    """What the ranks have found. launcher: of `facts.launcher`, on rank 0. Returns list of lines."""
    variables = sorted({name for facts in ranks for name in facts["environment"]})
    looks = {"interpreter": lambda facts: facts["python"], "MPI": mpi, "Horovod": horovod, "torch": torch,
             "HDF5": hdf5, "folder": folder}
    return [
        line("versions",
             ", ".join(f"{name} {across(ranks, lambda facts, n=name: facts['versions'].get(n) or 'missing')}"
                       for name in ranks[0]["versions"])),
        line("launcher", " ".join([launcher["name"],
                                   *(f"{name}={value}" for name, value in launcher["variables"].items())])),
        *(line(head, across(ranks, look)) for head, look in looks.items()),
        line("deadline", deadline(ranks[0])),
        *(line("variable",
               f"{name}={across(ranks, lambda facts, n=name: facts['environment'].get(n, '(unset)'))}")
          for name in variables),
        *nodes(ranks),
    ]


def speed(measured):
    """How fast the ranks add up. measured: of `trial.measure`. Returns list of lines."""
    lines = [line("engine", f"{measured['engine']}: {measured['why']}")] if "engine" in measured else []
    if "seconds" in measured:
        seconds, ranks = measured["seconds"], measured["ranks"]
        bus = 2 * (ranks - 1) / ranks * measured["bytes"] / seconds / 1e9
        lines.append(line("gradients", f"allreduce of {measured['bytes'] >> 20} MiB by {measured['engine']}: "
                          f"{seconds:.4f} s, bus bandwidth {bus:.2f} GB/s"))
    if "latency" in measured:
        lines.append(line("thresholds", f"allreduce of {measured['counted'] >> 10} KiB by "
                          f"{measured['backend']}: {1e6 * measured['latency']:.0f} us"))
    return lines


def nodes(ranks):
    """The map: a line per node, in the order of their first ranks."""
    there = defaultdict(list)
    for rank, facts in enumerate(ranks):
        there[facts["host"]].append(rank)
    lines = [line("nodes", f"{len(there)}, with {spans(list(range(len(ranks))))}")]
    for host, members in there.items():
        own = [ranks[rank] for rank in members]
        parts = [f"{own[0]['machine_cores']} cores: {each(numbers(facts['cores']) for facts in own)}"]
        if own[0]["memory"]:
            parts.insert(0, f"{own[0]['memory'] / GIB:.0f} GiB")
        if any(facts["torch"].get("gpus") for facts in own):
            parts.append(f"GPU: {each(device(facts) or 'none' for facts in own)}")
        lines.append(line(f"  {host}", "; ".join([spans(members), *parts])))
    return lines


def each(texts):
    """What the ranks of a node have, in their order; once if all have the same."""
    texts = list(texts)
    return " | ".join(texts) if len(set(texts)) > 1 else texts[0] + " each" * (len(texts) > 1)


def line(head, text):
    """One line of two columns."""
    return f"{head:{HEAD}}{text}"


def mpi(facts):
    """MPI in words."""
    return (f"{facts['mpi']['library']}; thread level {facts['mpi']['threads']}" if facts["mpi"]
            else "not started")


def horovod(facts):
    """Horovod in words."""
    built = facts["horovod"]
    if "error" in built:
        return f"cannot be used ({built['error']})"
    return "built " + "; ".join(f"{word} {', '.join(those)}"
                                for word, wanted in (("with", True), ("without", False))
                                if (those := [name for name, there in built.items() if there is wanted]))


def torch(facts):
    """torch in words."""
    found = facts["torch"]
    if "error" in found:
        return f"cannot be used ({found['error']})"
    return (f"for {found['build']}, with {', '.join(found['backends']) or 'no torch.distributed'}, sees "
            + (f"{found['gpus']} x {found['name']}" if found["gpus"] else "no GPU"))


def hdf5(facts):
    """HDF5 in words."""
    found = facts["hdf5"]
    return (f"cannot be used ({found['error']})" if "error" in found
            else f"{found['version']}, h5py {'with' if found['mpi'] else 'without'} MPI")


def folder(facts):
    """The folder in words; None on ranks that have not tried it."""
    found = facts["folder"]
    if not found or "error" in found:
        return None
    if found["write"]:
        return f"{found['path']}: cannot write"
    off = facts["environment"].get("HDF5_USE_FILE_LOCKING") in ("FALSE", "0")
    locks = "locks are off" if off else "cannot lock" if found["lock"] else "can lock"
    return f"{found['path']}: can write, {locks}, {found['free'] / GIB:.0f} GiB free"


def deadline(facts):
    """HPCFILTER_DEADLINE in words."""
    when = facts["deadline"]
    if isinstance(when, dict) or math.isinf(when):
        return "none"
    return f"in {when - facts['now']:.0f} s" if when > facts["now"] else "past"

"""mpirun of Open MPI inside a job: every rank is taken to be on another node, where it has no variable that
was not named."""

import os
from collections import Counter
from pathlib import Path

import table
from table import Refused, directives

MPIRUN = {"-np": directives.NUMBER, "-hostfile": directives.FILE, "-map-by": r"slot|node|ppr:\d+:node",
          "-bind-to": "none|core|numa", "-x": r"[A-Za-z_]\w*"}
THERE = ("FAKE_", "HOME", "USER")  # what a node has by itself


def mpirun(words):
    given, program = directives.options(words, MPIRUN, joined=False)
    if table.MARK not in os.environ:
        raise Refused("the fake knows it inside a job only")
    row, ranks = table.read(os.environ[table.MARK]), int(given.get("-np", 1))
    slots = hosts(given.get("-hostfile"), row)
    by = given.get("-map-by", "slot")
    each = int(by.split(":")[1]) if by.startswith("ppr") else max(slots.values())
    if ranks > each * len(slots):
        raise Refused(f"There are not enough slots available: {ranks}, {each} on each of {len(slots)}")
    named = given.get("-x", [])
    if missing := [name for name in named if name not in os.environ]:
        raise Refused(f"Warning: could not find environment variable {missing[0]}")
    unknown = [name for name in os.environ if name not in named and not name.startswith(THERE)]

    def of(rank):
        local = rank % each
        return {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": ranks,
                "OMPI_COMM_WORLD_LOCAL_RANK": local,
                "OMPI_COMM_WORLD_LOCAL_SIZE": min(each, ranks - rank // each * each)}

    bare = ["env", *(word for name in unknown for word in ("-u", name))]
    return table.start_ranks(row["id"], [*bare, *program], ranks, dict(os.environ), of)


def hosts(hostfile, row):
    """{host: slots}, of a host file that names a host once for each slot, else of SGE."""
    if hostfile:
        return Counter(Path(hostfile).read_text().split())
    if "PE_HOSTFILE" not in os.environ:
        return {"localhost": table.CORES}
    lines = Path(os.environ["PE_HOSTFILE"]).read_text().splitlines()
    return {line.split()[0]: int(line.split()[1]) for line in lines}

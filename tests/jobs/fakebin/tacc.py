"""Slurm as TACC has it: sbatch, which takes no word of GPUs and memory, and ibrun in place of srun."""

import os
from pathlib import Path

import table
from table import Refused, directives

BANNER = """
-----------------------------------------------------------------
           Welcome to the Vista Supercomputer
-----------------------------------------------------------------

No reservation for this job
--> Verifying valid submit host (login1)...OK
--> Verifying valid jobname...OK
--> Verifying access to desired queue (gh)...OK
--> Checking available allocation (abc123)...OK
"""  # on the output, with --parsable too
REFUSED = "--gres", "--gpus-per-node", "--gpus-per-task", "--mem"


def sbatch(words):
    given, rest = directives.options(words, directives.SBATCH, directives.ALIASES["SBATCH"])
    if len(rest) != 1:
        raise Refused("error: expected one script")
    try:
        text = Path(rest[0]).read_text()
    except OSError as error:
        raise Refused(f"error: Unable to open file {rest[0]}: {error.strerror}") from None
    sentinel, found = directives.read(text, complete=False)
    wanted = {**(found if sentinel == "#SBATCH" else {}), **given}
    if bad := [option for option in REFUSED if option in wanted]:
        raise Refused(f"--> TACC: {bad[0]} is not supported on this system")
    after = wanted["--dependency"].split(":")[1:] if "--dependency" in wanted else []
    for other in after:
        table.read(other)
    job, nodes = table.new("{}"), int(wanted["--nodes"])
    tasks = nodes * int(wanted["--ntasks-per-node"])
    environment = {**os.environ, "SLURM_JOB_ID": job, "SLURM_NNODES": str(nodes), "SLURM_NTASKS": str(tasks),
                   "SLURM_JOB_NODELIST": f"c[1-{nodes}]", "SLURM_NTASKS_PER_NODE": str(tasks // nodes)}
    hours, minutes, seconds = (int(part) for part in wanted["--time"].split(":"))
    table.start(job, text, environment, output=wanted["--output"].replace("%j", job), error=None,
                cwd=os.getcwd(), spool=False, after=after, nodes=nodes, warn=[], signals="shell",
                walltime=hours * 3600 + minutes * 60 + seconds, options=wanted)
    print(BANNER + job)


def scontrol(words):
    if words[:2] == ["show", "hostnames"]:
        nodes = int(words[2].removeprefix("c[1-").removesuffix("]"))
        return print("\n".join(f"c{number + 1}" for number in range(nodes)))
    if words[:1] != ["requeue"] or len(words) != 2:
        raise Refused(f"invalid keyword: {' '.join(words)}")
    table.read(words[1])
    return table.ask(words[1], "requeue")


def scancel(words):
    """scancel --batch --signal=SIG ID: the batch shell alone is told."""
    given, rest = directives.options(words, {"--batch": None, "--signal": directives.SIGNAL})
    table.notify(table.read(rest[0]), table.signal_number(given["--signal"]))


def ibrun(words):
    """One rank for each task of the job. A shell on the real thing, that SIGUSR1 ends."""
    if words and words[0].startswith("-"):
        raise Refused(f"ERROR: unknown option {words[0]}")
    row, ranks = table.read(os.environ[table.MARK]), int(os.environ["SLURM_NTASKS"])
    each = int(os.environ["SLURM_NTASKS_PER_NODE"])

    def of(rank):
        return {"PMI_RANK": rank, "PMI_SIZE": ranks, "MPI_LOCALRANKID": rank % each}

    return table.start_ranks(row["id"], words, ranks, dict(os.environ), of, forward=("TERM", "INT"))

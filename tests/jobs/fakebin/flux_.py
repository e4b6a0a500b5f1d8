"""Flux: flux batch, run, getattr, job kill.

FAKE_FLUX_OLD: as before 2025, the batch script is not told of signals, and they end `flux run`.
FAKE_FLUX_WARN: the signal of --signal is sent when it says, else only by `flux job kill`.
"""

import os
from pathlib import Path

import table
from table import Refused, directives

BATCH = directives.FLUX_BATCH
RUN = {**directives.FLUX_JOB, "--ntasks": directives.NUMBER, "--unbuffered": None, "--label-io": None,
       "--env": r"\S+", "--input": directives.FILE}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def flux(words):
    given, rest = directives.options(words, {"--parent": None}, {"-p": "--parent"})
    if not rest or rest[0] not in ("batch", "run", "getattr", "job"):
        raise Refused(f"`{' '.join(rest)}' is not a flux command. See 'flux --help'")
    inside = table.MARK in os.environ
    if given and not inside:
        raise Refused("--parent: this is no instance of another")
    if rest[0] == "batch":
        if inside and not given:
            raise Refused("batch: would be submitted to the instance of this job, and end with it")
        return batch(rest[1:])
    if rest[0] == "job":
        return kill(rest[1:])
    if not inside:
        raise Refused(f"{rest[0]}: the fake knows it inside a job only")
    return {"run": run, "getattr": getattr_}[rest[0]](rest[1:])


def batch(words):
    given, rest = directives.options(words, BATCH, directives.ALIASES["flux"])
    if len(rest) != 1:
        raise Refused("batch: expected one script")
    try:
        text = Path(rest[0]).read_text()
    except OSError as error:
        raise Refused(f"batch: ERROR: {rest[0]}: {error.strerror}") from None
    sentinel, found = directives.read(text, complete=False)
    wanted = {**(found if sentinel == "# flux:" else {}), **given}
    for flag in ("--nodes", "--nslots", "--time-limit"):
        if flag not in wanted:
            raise Refused(f"batch: ERROR: {flag} is required")
    nodes, slots = int(wanted["--nodes"]), int(wanted["--nslots"])
    fits(slots, nodes, nodes, wanted)
    after = [wanted["--dependency"].partition(":")[2]] if "--dependency" in wanted else []
    for other in after:
        table.read(other)
    job = table.new("ƒ2A{}")
    warn = []
    if "--signal" in wanted and os.environ.get("FAKE_FLUX_WARN"):
        name, _, before = wanted["--signal"].partition("@")
        warn = [[duration(before), table.signal_number(name)]]
    environment = {**os.environ, "FLUX_URI": f"local:///run/{job}"}
    output, error = (wanted[flag].replace("{{id}}", job) if flag in wanted else None
                     for flag in ("--output", "--error"))
    signals = "steps" if os.environ.get("FAKE_FLUX_OLD") else "both"
    table.start(job, text, environment, output=output or f"flux-{job}.out", error=error, cwd=os.getcwd(),
                spool=False, after=after, nodes=nodes, walltime=duration(wanted["--time-limit"], "m"),
                warn=warn, signals=signals, options=wanted)
    print(job)


def run(words):
    given, program = directives.options(words, RUN, {**directives.ALIASES["flux"], "-n": "--ntasks",
                                                     "-u": "--unbuffered", "-l": "--label-io"})
    row = table.read(os.environ[table.MARK])
    ranks = int(given.get("--ntasks", 1))
    nodes = int(given.get("--nodes", min(ranks, row["nodes"])))
    fits(ranks, nodes, row["nodes"], given)
    gpus, per_node = int(given.get("--gpus-per-slot", 0)), -(-ranks // nodes)
    environment = {**os.environ, **dict(word.split("=", 1) for word in given.get("--env", []) if "=" in word)}

    def each(rank):
        local = rank % per_node
        visible = ({"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(local * gpus, local * gpus + gpus)))}
                   if gpus else {})
        return {"FLUX_JOB_ID": f"{row['id']}1", "FLUX_TASK_RANK": rank, "FLUX_JOB_SIZE": ranks,
                "FLUX_JOB_NNODES": nodes, "FLUX_TASK_LOCAL_ID": local, "PMI_RANK": rank,
                "PMI_SIZE": ranks, **visible}

    forward = ("INT",) if os.environ.get("FAKE_FLUX_OLD") else ("USR1", "USR2", "TERM", "INT")
    return table.start_ranks(row["id"], program, ranks, environment, each, forward)


def fits(slots, nodes, there, given):
    """Raises Refused unless the slots, or tasks, find room on as many nodes."""
    cores, gpus = int(given.get("--cores-per-slot", 1)), int(given.get("--gpus-per-slot", 0))
    per_node = -(-slots // nodes)
    if nodes > there or slots < nodes or per_node * cores > table.CORES or per_node * gpus > table.GPUS:
        raise Refused(f"ERROR: unsatisfiable request: {slots} of {cores} cores and {gpus} GPUs on {nodes} of "
                      f"{there} nodes")


def kill(words):
    """flux job kill."""
    found, rest = directives.options(words[1:], {"--signal": r"[A-Z0-9]+"}, {"-s": "--signal"})
    if words[:1] != ["kill"] or len(rest) != 1:
        raise Refused("job: expected kill [--signal=SIG] ID")
    table.notify(table.read(rest[0]), table.signal_number(found.get("--signal", "TERM")))


def getattr_(words):
    row = table.read(os.environ[table.MARK])
    known = {"jobid": row["id"], "hostlist": f"node[1-{row['nodes']}]", "size": str(row["nodes"])}
    if len(words) != 1 or words[0] not in known:
        raise Refused(f"getattr: {' '.join(words)}: No such file or directory")
    print(known[words[0]])


def duration(text, unit="s"):
    """Seconds of Flux's standard duration; unit: of a bare number."""
    return float(text.rstrip("smhd")) * UNITS[text[-1] if text[-1] in UNITS else unit]

"""SGE, AGE: qsub. A job gets nothing of the submitter's environment, and one that exits with 99 is queued
again.

FAKE_SGE: the qsub of this folder is SGE's. FAKE_SGE_WARN: the soft limit s_rt sends SIGUSR1 when it says,
else only `fake-notice` does.
"""

import math
import os
from pathlib import Path

import pbs
import table
from table import Refused, directives

AGAIN = 99  # the exit code that puts a job back into the queue
QSUB = {**directives.SGE, "-g": directives.WORD}


def qsub(words):
    given, rest = directives.options(words, QSUB, joined=False)
    if len(rest) != 1:
        raise Refused("ERROR! exactly one script is expected")
    try:
        text = Path(rest[0]).read_text()
    except OSError as error:
        raise Refused(f"Unable to open script file: {rest[0]}: {error.strerror}") from None
    sentinel, found = directives.read(text, complete=False)
    found = found if sentinel == "#$" else {}
    resources = {**found.pop("-l", {}), **given.pop("-l", {})}
    wanted = {**found, **given}
    slots = int(wanted.get("-pe slots", 0)) or table.CORES * int(resources.get("node_f", 0))
    if not slots or "h_rt" not in resources:
        raise Refused("job rejected: no -pe, no -l node_f, or no -l h_rt")
    after = [name for name in wanted.get("-hold_jid", "").split(",") if name]
    for other in after:
        table.read(other)
    start(wanted, resources, slots, text, after)


def notice(words):
    """fake-notice ID: as if the soft limit had come."""
    table.notify(table.read(words[0]), table.signal_number("USR1"))


def start(wanted, resources, slots, text, after):
    job, nodes = table.new("{}"), math.ceil(slots / table.CORES)
    hosts = table.folder() / f"{job}.hosts"
    each = min(slots, table.CORES)
    hosts.write_text("".join(f"node{number + 1:02d} {each} all.q UNDEFINED\n" for number in range(nodes)))
    name = wanted.get("-N", "job")
    fakes = {key: value for key, value in os.environ.items() if key.startswith("FAKE_") and key != table.MARK}
    environment = {**fakes, "HOME": str(table.folder()), "USER": "somebody", "PATH": os.environ["PATH"],
                   "JOB_ID": job, "JOB_NAME": name, "NHOSTS": str(nodes), "NSLOTS": str(slots),
                   "PE_HOSTFILE": str(hosts), "SGE_O_WORKDIR": os.getcwd(), "SGE_TASK_ID": "undefined"}
    output = wanted.get("-o", "")
    output = os.path.join(output, f"{name}.o{job}") if not output or Path(output).is_dir() else output
    hard, soft = (pbs.seconds(resources.get(limit, resources["h_rt"])) for limit in ("h_rt", "s_rt"))
    warn = [[hard - soft, table.signal_number("USR1")]] if os.environ.get("FAKE_SGE_WARN") else []
    table.start(job, text, environment, output=output, error=None, cwd=os.getcwd(), spool=False, after=after,
                nodes=nodes, walltime=hard, warn=warn, signals="group", again=AGAIN,
                options={**wanted, "-l": resources})
    print(f'Your job {job} ("{name}") has been submitted')

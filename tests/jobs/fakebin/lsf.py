"""LSF and its job step manager: bsub, bkill, brequeue, jsrun, jskill.

FAKE_LSF_STDIN_ONLY: directives are read from the standard input only, as LSF does by default.
FAKE_LSF_ARGUMENT_ONLY: from a script that is an argument only, as on Summit. FAKE_LSF_SIGNAL=group:
signals reach the whole process group of the batch shell, jsrun with it. FAKE_LSF_WARN: -wa is sent when
-wt says, else only by bkill -s.
"""

import math
import os
import re
import sys
from pathlib import Path

import table
from table import Refused, directives

NUMBER = directives.NUMBER
NEAR = "(gpu|cpu|memory)-(cpu|gpu|mem)"
JSRUN = {
    "--nrs": NUMBER, "--rs_per_host": NUMBER, "--tasks_per_rs": NUMBER, "--cpu_per_rs": rf"{NUMBER}|ALL_CPUS",
    "--gpu_per_rs": r"\d+|ALL_GPUS", "--bind": rf"none|rs|packed:{NUMBER}",
    "--launch_distribution": rf"packed|cyclic|plane:{NUMBER}", "--latency_priority": rf"{NEAR}(,{NEAR})*",
    "--env": r"[A-Za-z_]\w*(=.*)?", "--smpiargs": ".*", "--exit_on_error": "[01]",
    "--stdio_mode": "individual|collected|prepended", "--chdir": directives.FILE,
}
SHORT = {"-n": "--nrs", "-r": "--rs_per_host", "-a": "--tasks_per_rs", "-c": "--cpu_per_rs",
         "-g": "--gpu_per_rs", "-b": "--bind", "-d": "--launch_distribution", "-l": "--latency_priority",
         "-E": "--env", "-M": "--smpiargs", "-X": "--exit_on_error", "-h": "--chdir"}
NOT_SUBMITTED = "Request aborted by esub. Job not submitted."


def bsub(words):
    given, rest = options(words)
    if rest and os.environ.get("FAKE_LSF_STDIN_ONLY"):
        text, found = Path(rest[0]).read_text(), {}
    elif not rest and os.environ.get("FAKE_LSF_ARGUMENT_ONLY"):
        raise Refused(f"bsub < script does not work here, name the script. {NOT_SUBMITTED}")
    else:
        text = script(rest[0]) if rest else sys.stdin.read()
        found = directives_of(text)
    wanted = {**found, **given}
    for flag in ("-W", "-nnodes"):
        if flag not in wanted:
            raise Refused(f"{flag} is required. {NOT_SUBMITTED}")
    if ("-P" in wanted) == ("-G" in wanted):
        raise Refused(f"one of -P and -G is required. {NOT_SUBMITTED}")
    if ("-wt" in wanted) != ("-wa" in wanted):
        raise Refused(f"-wa and -wt must be used together. {NOT_SUBMITTED}")
    for flag in ("-o", "-e"):
        if not Path(wanted.get(flag, "out")).parent.is_dir():
            raise Refused(f"{flag} {wanted[flag]}: no such folder. {NOT_SUBMITTED}")
    after = re.findall(r"\((\d+)\)", wanted.get("-w", ""))
    for other in after:
        if not (table.folder() / f"{other}.json").exists():
            raise Refused(f"{other}: No matching job found. Job not submitted.")
    job, queue, nodes = table.new("{}"), wanted.get("-q", "batch"), int(wanted["-nnodes"])
    hosts = ["batch1", *(f"node{number + 1:02d}" for number in range(nodes) for _ in range(table.CORES))]
    (table.folder() / f"{job}.hosts").write_text("".join(f"{host}\n" for host in hosts))
    environment = {**os.environ, "LSB_JOBID": job, "LSB_JOBINDEX": "0",
                   "LSB_JOBNAME": wanted.get("-J", "script"), "LSB_QUEUE": queue,
                   "LSB_HOSTS": " ".join(hosts), "LSB_DJOB_HOSTFILE": str(table.folder() / f"{job}.hosts"),
                   "LS_SUBCWD": os.getcwd()}
    output, error = (wanted[flag].replace("%J", job) if flag in wanted else None for flag in ("-o", "-e"))
    warn = ([[60 * minutes(wanted["-wt"]), table.signal_number(wanted["-wa"])]]
            if "-wt" in wanted and os.environ.get("FAKE_LSF_WARN") else [])
    table.start(job, text, environment, output=output, error=error, cwd=os.getcwd(),
                walltime=60 * minutes(wanted["-W"]), warn=warn, after=after, spool=False, nodes=nodes,
                signals=os.environ.get("FAKE_LSF_SIGNAL", "shell"), options=wanted)
    print(f"Job <{job}> is submitted to default queue <{queue}>.")


def options(words):
    try:
        return directives.options(words, directives.BSUB, joined=False)
    except AssertionError as error:
        raise Refused(f"{error}. {NOT_SUBMITTED}") from None


def directives_of(text):
    try:
        sentinel, found = directives.read(text, complete=False)
    except AssertionError as error:
        raise Refused(f"{error}. {NOT_SUBMITTED}") from None
    return found if sentinel in ("", "#BSUB") else {}  # the words of others are comments


def script(path):
    try:
        return Path(path).read_text()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}. {NOT_SUBMITTED}") from None


def minutes(text):
    hours, _, rest = text.rpartition(":")
    return 60 * int(hours or 0) + int(rest)


def bkill(words):
    found, rest = directives.options(words, {"-s": r"[A-Z0-9]+"}, joined=False)
    for job in rest:
        row = table.read(job)
        if row["state"] not in ("RUN", "PEND"):
            raise Refused(f"Job <{job}>: Job has already finished")
        if "-s" not in found:
            table.ask(job, "kill")
            print(f"Job <{job}> is being terminated")
        elif row["state"] == "RUN":
            table.notify(row, table.signal_number(found["-s"]))
            print(f"Job <{job}> is being signaled")


def brequeue(words):
    (job,) = words
    if table.read(job)["state"] != "RUN":
        raise Refused(f"Job <{job}>: Job has already finished or is pending")
    table.ask(job, "requeue")
    print(f"Job <{job}> is being requeued")


def jsrun(words):
    try:
        given, program = directives.options(words, JSRUN, SHORT)
    except AssertionError as error:
        raise Refused(f"{error}\nUsage: jsrun [OPTIONS] program") from None
    row = table.read(os.environ.get("LSB_JOBID", "outside an allocation"))
    sets, per_host, tasks = layout(given, row["nodes"])
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    for word in given.get("--env", []):
        name, _, value = word.partition("=")
        environment[name] = value if "=" in word else os.environ.get(name, "")
    gpus = number(given, "--gpu_per_rs", 0, table.GPUS // per_host)

    def each(rank):
        on_host = per_host * tasks
        first = rank // on_host * on_host
        own = rank % on_host // tasks * gpus  # the first GPU of the rank's set
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(own, own + gpus)))} if gpus else {}
        return {"JSM_NAMESPACE_RANK": rank, "JSM_NAMESPACE_SIZE": sets * tasks,
                "JSM_NAMESPACE_LOCAL_RANK": rank - first,
                "JSM_NAMESPACE_LOCAL_SIZE": min(on_host, sets * tasks - first), **visible}

    return table.start_ranks(row["id"], program, sets * tasks, environment, each)


def layout(given, nodes):
    """(resource sets, sets per host, tasks per set) of a step. Raises Refused for what the
    nodes do not hold."""
    tasks = int(given.get("--tasks_per_rs", 1))
    fit = int(given.get("--rs_per_host", 0))
    cpus, gpus = (number(given, flag, least, total // (fit or 1)) for flag, least, total in
                  (("--cpu_per_rs", 1, table.CORES), ("--gpu_per_rs", 0, table.GPUS)))
    fit = fit or min(table.CORES // cpus, table.GPUS // gpus if gpus else math.inf)
    sets = int(given.get("--nrs", fit * nodes))
    bind, _, cores = given.get("--bind", "packed:1").partition(":")
    full = fit * cpus > table.CORES or fit * gpus > table.GPUS or not fit
    problems = {
        f"{fit} sets of {cpus} CPUs and {gpus} GPUs on a host of {table.CORES} and {table.GPUS}": full,
        f"{sets} sets, {fit} per host, on {nodes} hosts": sets > fit * nodes,
        f"{tasks} tasks bound to {cores} CPUs each in a set of {cpus}": bind == "packed"
        and tasks * int(cores) > cpus,
    }
    for problem, holds in problems.items():
        if holds:
            raise Refused(f"Error: resource sets cannot be made: {problem}. Exiting.")
    return sets, fit, tasks


def number(given, flag, default, everything):
    value = given.get(flag, str(default))
    return everything if value.startswith("ALL") else int(value)


def jskill(words):
    found, rest = directives.options(words, {"--signal": r"[A-Z0-9]+"}, {"-s": "--signal"})
    under_way = table.steps(os.environ["LSB_JOBID"])
    if rest == ["all"]:
        rest = list(under_way)
    if not rest or set(rest) - set(under_way):
        raise Refused(f"no such job step: {' '.join(rest)}")
    for step in rest:
        table.send(under_way[step], table.signal_number(found.get("--signal", "TERM")))

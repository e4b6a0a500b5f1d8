"""PBS and PALS: qsub, mpiexec. A job gets nothing of the submitter's environment, starts in the home folder,
and has its output at its end."""

import os
import re
from pathlib import Path

import table
from table import Refused, directives

NUMBER = directives.NUMBER
MPIEXEC = {
    "--np": NUMBER,
    "--ppn": NUMBER, "--depth": NUMBER, "--env": r"[A-Za-z_]\w*=.*", "--line-buffer": None, "--label": None,
    "--exclusive": None, "--cpu-bind": r"none|thread|core|numa|socket|depth|list:[\d:,-]+|verbose,\w+",
    "--mem-bind": r"\w+(:\S+)?", "--gpu-bind": r"\w+(:\S+)?", "--no-vni": None, "--wdir": directives.FILE,
    "--pmi": "pmix|cray",
}
SHORT = {"-n": "--np", "-d": "--depth", "-l": "--label"}


def qsub(words):
    given, rest = directives.options(words, directives.QSUB, joined=False)
    if len(rest) != 1:
        raise Refused("usage: qsub [options] script")
    try:
        text = Path(rest[0]).read_text()
    except OSError as error:
        raise Refused(f"script file: {rest[0]}: {error.strerror}") from None
    sentinel, found = directives.read(text, complete=False)
    found = found if sentinel == "#PBS" else {}
    resources = {**found.pop("-l", {}), **given.pop("-l", {})}
    wanted = {**found, **given}
    for name in ("select", "walltime"):
        if name not in resources:
            raise Refused(f"Job violates queue and/or server resource limits: no {name}")
    after = wanted.get("-W", "depend=").partition(":")[2].split(":") if "-W" in wanted else []
    for other in after:
        table.read(other)
    start(wanted, resources, text, after)


def start(wanted, resources, text, after):
    job, nodes = table.new("{}.fake"), int(resources["select"].partition(":")[0])
    slots = int((re.search(r"mpiprocs=(\d+)", resources["select"]) or [0, 1])[1])
    (table.folder() / f"{job}.nodes").write_text("".join(f"node{number + 1:02d}\n" * slots
                                                         for number in range(nodes)))
    home = table.folder() / "home"
    home.mkdir(exist_ok=True)
    (home / ".bash_profile").write_text(f"export PATH={os.environ['PATH']}\n")  # of a login shell
    fakes = {key: value for key, value in os.environ.items() if key.startswith("FAKE_") and key != table.MARK}
    name, queue = wanted.get("-N", "script"), wanted.get("-q", "workq")
    environment = {
        **fakes, **variables(wanted.get("-v", "")), **(os.environ if "-V" in wanted else {}),
        "HOME": str(home), "PATH": os.environ["PATH"], "USER": "somebody", "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBID": job, "PBS_JOBNAME": name, "PBS_QUEUE": queue, "PBS_O_WORKDIR": os.getcwd(),
        "PBS_O_HOME": str(home), "PBS_NODEFILE": str(table.folder() / f"{job}.nodes"),
    }
    number = job.partition(".")[0]
    output = wanted.get("-o", "")
    if not output or output.endswith("/") or Path(output).is_dir():
        output = os.path.join(output, f"{name}.o{number}")
    table.start(job, text, environment, output=output, error=None, cwd=os.getcwd(), start_in=str(home),
                spool=True, after=after, nodes=nodes, walltime=seconds(resources["walltime"]), warn=[],
                signals="shell", options={**wanted, "-l": resources})
    print(job)


def variables(text):
    pairs = [word.partition("=") for word in text.split(",") if word]
    return {name: value if equals else os.environ.get(name, "") for name, equals, value in pairs}


def seconds(text):
    parts = [int(part) for part in text.split(":")]
    return sum(part * unit for part, unit in zip(reversed(parts), (1, 60, 3600), strict=False))


def mpiexec(words):
    given, program = directives.options(words, MPIEXEC, SHORT)
    row = table.read(os.environ.get("PBS_JOBID", "outside a job"))
    ranks = int(given.get("--np", 1))
    per_node, depth = int(given.get("--ppn", ranks)), int(given.get("--depth", 1))
    if ranks > per_node * row["nodes"]:
        raise Refused(f"{ranks} ranks, {per_node} per node, do not fit on {row['nodes']} nodes")
    if per_node * depth > table.CORES:
        raise Refused(f"{per_node} ranks of {depth} CPUs do not fit on a node of {table.CORES}")
    if given.get("--cpu-bind") == "depth" and "--depth" not in given:
        raise Refused("--cpu-bind depth needs --depth")
    environment = {**os.environ,
                   **dict(re.fullmatch(r"(\w+)=(.*)", word).groups() for word in given.get("--env", []))}

    def each(rank):
        first = rank // per_node * per_node
        if given.get("--pmi") == "pmix":  # nobody says of how many
            return {"PMIX_RANK": rank, "PALS_RANKID": rank, "PALS_LOCAL_RANKID": rank - first}
        return {"PMI_RANK": rank, "PMI_SIZE": ranks, "PMI_LOCAL_RANK": rank - first,
                "PMI_LOCAL_SIZE": min(per_node, ranks - first), "PALS_RANKID": rank,
                "PALS_LOCAL_RANKID": rank - first}

    return table.start_ranks(row["id"], program, ranks, environment, each)

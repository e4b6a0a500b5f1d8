"""What the fake schedulers share: the table of jobs, refusals, and the start of real ranks.
Standard library only.

Everything a fake scheduler knows stands in the folder $FAKE_SCHEDULER: ID.json (state, exit code, restarts,
processes), ID.script (the copy that runs), ID.kill and ID.requeue (what has been asked for), ID.step.N
(the launcher of a step), ID.log (where no output was named). The node of the fake machine: FAKE_NODE_CORES
(default 42), FAKE_NODE_GPUS (6). FAKE_MPIRUN: the words that start a real mpirun.
"""

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "helpers"))

import directives  # noqa: F401  beside this folder

CORES = int(os.environ.get("FAKE_NODE_CORES", "42"))
GPUS = int(os.environ.get("FAKE_NODE_GPUS", "6"))
HERE = Path(__file__).parent
MARK = "FAKE_JOB"  # in the environment of everything that a job starts: its id
OPEN_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
            "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_NODE_RANK")
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # in containers


class Refused(Exception):
    """What a command says on its error output before it fails."""


def command(function, code, prefix=""):
    """Run a command to its exit. function: takes the words behind its name, returns the exit
    code. code: of a refusal."""
    try:
        sys.exit(function(sys.argv[1:]))
    except (Refused, AssertionError) as error:
        print(f"{prefix}{error}", file=sys.stderr)
        sys.exit(code)


def folder():
    return Path(os.environ["FAKE_SCHEDULER"])


def read(job):
    """The row of a job. Raises Refused when there is none."""
    try:
        return json.loads((folder() / f"{job}.json").read_text())
    except FileNotFoundError:
        raise Refused(f"{job}: no such job") from None


def write(row):
    path = folder() / f"{row['id']}.json"
    path.with_suffix(".new").write_text(json.dumps(row))
    path.with_suffix(".new").replace(path)


def new(name):
    """A new id. name: its format, such as "{}.fake"."""
    for number in itertools.count(123):
        try:
            with open(folder() / f"{name.format(number)}.json", "x"):
                return name.format(number)
        except FileExistsError:
            continue


def start(job, script, environment, **row):
    """Start a job, which runs by itself from here, in a process of its own.

    row: output and error (paths), cwd, walltime (s), warn ([[seconds before its end, signal]]), signals
    (see `notify`), again (an exit code that queues it again), after (ids),
    spool (whether the output is brought back at the end only), nodes, options.
    """
    (folder() / f"{job}.script").write_text(script)
    (folder() / f"{job}.script").chmod(0o700)
    write({"id": job, "state": "PEND", "exit": None, "restarts": 0, "shell": None, **row})
    clean = {key: value for key, value in environment.items() if key != MARK}
    with open(folder() / f"{job}.runner", "w") as complaints:
        subprocess.Popen([sys.executable, str(HERE / "runner.py"), job], env=clean, start_new_session=True,
                         stdin=subprocess.DEVNULL, stdout=complaints, stderr=complaints)


def ask(job, what):
    """Leave a wish for the runner of a job. what: kill, requeue."""
    (folder() / f"{job}.{what}").touch()


def marked(job=None):
    """The ids of the processes that a job has started; without a job those of all jobs of this folder."""
    signs = [f"\0FAKE_SCHEDULER={folder()}\0".encode()] + [f"\0{MARK}={job}\0".encode()] * bool(job)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = b"\0" + (process / "environ").read_bytes()
        except OSError:
            continue  # gone meanwhile
        if all(sign in environment for sign in signs):
            found.append(int(process.name))
    return [process for process in found if process != os.getpid()]


def signal_number(name):
    """The number of a signal given by name or number. Raises Refused."""
    try:
        return (signal.Signals(int(name)) if name.isdigit()
                else signal.Signals[f"SIG{name.removeprefix('SIG')}"])
    except (KeyError, ValueError):
        raise Refused(f"{name}: bad signal") from None


def send(process, number):
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass  # gone meanwhile


def notify(row, number):
    """Send a signal to a running job. row["signals"]: whom it reaches: shell, group (of the shell), steps,
    both (shell and steps)."""
    if row["signals"] == "group":
        os.killpg(row["shell"], number)
    for process in ([row["shell"]] * (row["signals"] in ("shell", "both"))
                    + list(steps(row["id"]).values()) * (row["signals"] in ("steps", "both"))):
        send(process, number)


def steps(job):
    """{number of a step: process id of its launcher} of the steps under way."""
    rows = ((path.name.rpartition(".")[2], path.read_text()) for path in folder().glob(f"{job}.step.*"))
    return {number: int(text) for number, text in rows if text}


def start_ranks(job, words, ranks, environment, each, forward=("USR1", "USR2", "TERM", "INT")):
    """Run a program on real ranks to its end. Returns its exit code, as a shell says it. forward: the
    signals that are passed on.

    words: the program. each: function of the rank, {variable: value}; mpirun's own variables are
    hidden from the program.
    """
    if not words:
        raise Refused("no executable specified")
    launch, hidden = shlex.split(os.environ["FAKE_MPIRUN"]), [word for name in OPEN_MPI
                                                              for word in ("-u", name)]
    # mpirun would heed them
    schedulers = {key: value for key, value in environment.items()
                  if key.startswith(("PBS_", "LSB_", "FLUX_", "SLURM_"))}
    for rank in range(ranks):
        own = [f"{name}={value}" for name, value in {**schedulers, **each(rank)}.items()]
        launch += [":"] * (rank > 0) + ["-n", "1", "env", *hidden, *own, *words]
    number = 1 + len(list(folder().glob(f"{job}.step.*")))
    step = folder() / f"{job}.step.{number}"
    step.touch()
    environment = {key: value for key, value in environment.items() if key not in schedulers}
    process = subprocess.Popen(launch, env={**environment, **AS_ROOT}, stdin=subprocess.DEVNULL)
    for name in forward:
        signal.signal(getattr(signal, f"SIG{name}"), lambda number, frame: send(process.pid, number))
    step.write_text(str(process.pid))
    code = process.wait()
    step.write_text("")
    return 128 - code if code < 0 else code


def wait_until(condition, seconds):
    """Whether the condition came to hold in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True

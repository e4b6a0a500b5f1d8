"""Hand a rendered script to the scheduler, as the site wants it."""

import re
import shlex
import subprocess
from pathlib import Path

from hpcfilter.base.errors import Failure, InputError, Interrupted
from hpcfilter.base.files import replace_text
from hpcfilter.jobs.limits import check_follow
from hpcfilter.jobs.render import render
from hpcfilter.jobs.surroundings import handed_on, settled
from hpcfilter.jobs.training import check_folder

PATIENCE = 120  # seconds that a scheduler may take to answer
# scheduler -> (words that submit, words that wait for job {}, what stands around the id in the answer)
# A site's own sbatch may print lines before the id, with --parsable too: the last one counts.
_COMMANDS = {
    "slurm": (["sbatch", "--parsable"], ["--dependency=afterany:{}"], r"(?:.*\n)?\s*(\d+)(?:;\S+)?\s*\Z"),
    "lsf": (["bsub"], ["-w", "ended({})"], r".*?Job <(\d+)>"),
    "pbs": (["qsub"], ["-W", "depend=afterany:{}"], r"\s*(\S+)"),
    "flux": (["flux", "batch"], ["--dependency=afterany:{}"], r"\s*(\S+)"),
    "sge": (["qsub"], ["-hold_jid", "{}"], r".*?[Yy]our job(?:-array)? (\d+)"),
    "local": (["bash"], [], ""),
}


def submit(plan, chain=1):
    """Write the script of a plan into its run folder and submit it. chain: how many times; each job waits for
    the end of the one before, and leaves at once when the run is done. Yields the id of each job as it is
    submitted; a local job has run to its end, and none.

    Raises InputError when the run is finished already, the folders cannot be made, or the
    scheduler refuses the script.
    """
    check_chain(plan, chain)
    check_folder(plan)
    plan = settled(plan)
    script = render(plan)
    _prepare(plan, script)
    after = None
    for _ in range(chain):
        after = _hand_over(plan, after)
        yield after


def check_chain(plan, chain):
    """Raise InputError when a plan cannot be submitted as so many jobs in a chain."""
    if chain > 1 and plan.machine.scheduler == "local":
        raise InputError("--chain: the local machine has no queue; expected job.requeue = true")
    check_follow(plan.job, plan.machine, chain)


def command(plan, after=None):
    """The words that submit the script of a plan. after: id of a job to wait for. A script that is to come on
    the input is not among them."""
    words, wait, _ = _COMMANDS[plan.machine.scheduler]
    waiting = [word.format(after) for word in wait] if after else []
    if plan.machine.account_option == "-g" and plan.job.account:  # which a script may not say
        words = [*words, "-g", plan.job.account]
    return [*words, *waiting, *([] if plan.machine.submit_by == "input" else [plan.script])]


def shown(plan, after=None):
    """The same as a line for a person."""
    return (shlex.join(command(plan, after))
            + (f" < {shlex.quote(plan.script)}" if plan.machine.submit_by == "input" else ""))


def _prepare(plan, script):
    """The folders and the script. What an earlier submission has counted is forgotten."""
    folder = Path(plan.workdir, plan.run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for count in (folder / "requeues", *folder.glob("repeat-*/requeues")):
            count.unlink(missing_ok=True)
        replace_text(folder / "job.sh", script)
        (folder / "job.sh").chmod(0o755)
    except OSError as error:
        raise InputError(f"{folder}: cannot be the run folder: {error.strerror} ({error.filename})") from None
    logs = Path(plan.workdir, plan.job.log_dir)
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"job.log_dir: {logs}: cannot be the folder of the logs: "
                         f"{error.strerror} ({error.filename})") from None


def _hand_over(plan, after):
    if plan.machine.scheduler == "local":
        return _run_here(plan)
    words = command(plan, after)
    try:
        with open(Path(plan.workdir, plan.script)) as script:
            done = subprocess.run(words, cwd=plan.workdir,
                                  stdin=script if plan.machine.submit_by == "input" else subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=PATIENCE, check=False,
                                  env=handed_on())
    except FileNotFoundError:
        raise InputError(f"{words[0]}: not found on PATH; {plan.machine.name} is a machine with "
                         f"{plan.machine.scheduler}, submit from its login node (hpcfilter jobs render needs "
                         "no scheduler)") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{words[0]}: no answer within {PATIENCE} s; "
                      "look at the queue before you submit again") from None
    answer = " | ".join(line.strip() for line in f"{done.stderr}\n{done.stdout}".splitlines() if line.strip())
    if done.returncode:
        raise InputError(f"{words[0]} has refused {plan.script}: {answer or f'exit code {done.returncode}'}")
    found = re.match(_COMMANDS[plan.machine.scheduler][2], done.stdout, re.DOTALL)
    if not found:
        raise Failure(f"{words[0]}: exit code 0, but no id of a job in its answer to {plan.script}: "
                      f"{answer or 'it is empty'}; look at the queue before you submit again")
    return found[1]


def _run_here(plan):
    """Run the script to its end. Ctrl-C reaches it too, and it tells its ranks to leave,
    which save what there is."""
    with subprocess.Popen(command(plan), cwd=plan.workdir, stdin=subprocess.DEVNULL) as job:
        try:
            code = job.wait()
        except KeyboardInterrupt:
            job.wait()
            raise Interrupted(f"interrupted: {plan.run_dir}: the same command goes on from what its ranks "
                              "have saved") from None
    if code:
        raise Failure(f"{plan.script}: ended with exit code {code}")

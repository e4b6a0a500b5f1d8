"""srun and scontrol, for a script that runs outside of Slurm: the tasks of a step run one after the other.
The tests of tests/slurm have the real ones; these are for plugins that Debian's Slurm lacks."""

import os
import subprocess
import sys

import containers
from table import Refused, directives

SRUN = {"--nodes": directives.NUMBER, "--ntasks": directives.NUMBER, "--ntasks-per-node": directives.NUMBER,
        "--cpus-per-task": directives.NUMBER, "--kill-on-bad-exit": "[01]", "--unbuffered": None,
        "--cpu-bind": r"\w+", "--environment": directives.FILE}
SHORT = {"-N": "--nodes", "-n": "--ntasks", "-c": "--cpus-per-task"}


def srun(words):
    given, program = directives.options(words, SRUN, SHORT)
    if not program:
        raise Refused("No executable specified")
    for rank in range(int(given["--ntasks"])):
        os.environ |= {"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": given["--ntasks"]}
        inside = ([sys.executable, containers.__file__, given["--environment"]] if "--environment" in given
                  else [])
        if code := subprocess.run([*inside, *program], check=False).returncode:
            return code
    return 0


def scontrol(words):
    if words[:2] == ["show", "hostnames"]:
        print("\n".join(words[2].split(",")))
        return 0
    if words[:1] == ["requeue"] and "FAKE_SLURM_REFUSES" in os.environ:
        raise Refused("Requested operation is presently disabled for job")
    raise Refused(f"unknown: {words}")

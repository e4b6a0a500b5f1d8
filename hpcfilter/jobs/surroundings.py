"""A submission from inside of another job, such as a shell of salloc or a notebook: what the new job must not
inherit."""

import dataclasses
import os

OF_JOBS = "SLURM_", "SLURMD_", "PBS_"  # what a scheduler says of the job that surrounds us
JOBS = "SLURM_JOB_ID", "PBS_JOBID"
# What commands need to find their scheduler. SBATCH_* are the user's own wishes, and stay too.
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT", "PBS_CONF_FILE", "PBS_EXEC",
        "PBS_HOME", "PBS_SERVER", "PBS_DEFAULT")


def handed_on(environ=os.environ):
    """The environment that a job is submitted with: without what belongs to the job that surrounds us.
    Returns dict."""
    dropped = _dropped(environ)
    return {name: value for name, value in environ.items() if name not in dropped}


def settled(plan, environ=os.environ):
    """The plan as it can be submitted from here: the instance of Flux inside of an allocation has no queues.
    Returns JobPlan."""
    if not (_inside_flux(plan, environ) and plan.job.queue):
        return plan
    return dataclasses.replace(plan, job=plan.job.model_copy(update={"queue": None}))


def remarks(plan, environ=os.environ):
    """What is different because of where a plan is submitted from. Returns a list of lines."""
    lines = []
    if plan.machine.scheduler != "local" and (dropped := _dropped(environ)):
        job = next(environ[name] for name in JOBS if name in environ)
        named = ", ".join([*sorted(dropped)[:3], *(["..."] if len(dropped) > 3 else [])])
        lines.append(f"left out of the job's environment: {len(dropped)} variables of job {job}, inside of "
                     f"which this is submitted: {named}")
    if _inside_flux(plan, environ):
        queue = f", without the queue {plan.job.queue}" if plan.job.queue else ""
        lines.append(f"submitted to the Flux allocation that this is{queue}: its jobs end with it")
    return lines


def _dropped(environ):
    if not any(name in environ for name in JOBS):
        return set()
    return {name for name in environ if name.startswith(OF_JOBS) and name not in KEPT}


def _inside_flux(plan, environ):
    """Whether `flux batch` would reach the instance of an allocation, not that of the system."""
    return plan.machine.scheduler == "flux" and "FLUX_URI" in environ and any(
        name in environ for name in ("FLUX_ENCLOSING_ID", "FLUX_JOB_ID"))

"""The image that Python runs in: what stands between the launcher and Python, and whether it can.

Apptainer (or singularity), shifter and podman-hpc are programs with words of their own; edf is a word of
srun's; uenv is a directive, and holds for the script too.
"""

import re
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.jobs.schema import VARIABLE

FILES = "apptainer", "singularity", "edf"  # the image is a file, or a folder
# those that show no folder unasked -> how one asks
BINDS = {"apptainer": "--bind", "singularity": "--bind", "podman-hpc": "--volume"}
GPUS = {("apptainer", "nvidia"): "--nv", ("apptainer", "amd"): "--rocm", ("singularity", "nvidia"): "--nv",
        ("singularity", "amd"): "--rocm", ("podman-hpc", "nvidia"): "--gpu"}
# Begins in the folder that the image names; what it execs has the signals
MOVE = "sh", "-c", 'cd "$0" && exec "$@"'
# What the launchers tell each rank, and what the script exports besides: podman passes what is named
LAUNCHERS = ("SLURM*", "PMI*", "OMPI*", "PRTE*", "PALS*", "FLUX*", "JSM*", "MV2*", "MPI_LOCALRANKID",
             "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
SCRIPTS = "HPCFILTER_DEADLINE", "HPCFILTER_RUN_DIR", "MASTER_ADDR", "MASTER_PORT"
# Words of apptainer that keep the variables of the launcher and the script out, and its short options that
# take what follows them
SHUT = "--cleanenv", "--containall"
SHORT_SHUT, TAKES = "eC", "BHSWo"
HOSTS = "PATH", "LD_LIBRARY_PATH"  # of a profile, they name folders of the machine that no image has


def holds_python(container):
    """Whether Python lies in an image that the script is not in."""
    return container.kind not in ("none", "uenv")


def brings_libraries(job):
    """Whether an edf or a uenv brings the site's own libraries, such as NCCL's network plugin; also one that
    was asked for by job.directives or job.launch."""
    return job.container.kind in ("edf", "uenv") or any(
        option.startswith(("--uenv", "--environment")) for option in (*job.directives, *job.launch))


def image(container):
    """The image as the script names it: absolute where it is a path that is known here. Text in which
    ${NAME} is expanded, None without one."""
    return str(Path(container.image).absolute()) if _is_path(container) else container.image


def check_container(job, machine):
    """Raise InputError for a container that the machine cannot start, or that is not there."""
    box = job.container
    if box.kind == "none":
        for key in ("image", "bind", "args", "view"):
            if getattr(box, key):
                raise InputError(f"job.container.kind: missing beside job.container.{key}; expected "
                                 "apptainer, singularity, shifter, podman-hpc, edf or uenv")
        return
    if not box.image:
        raise InputError(f"job.container.image: missing; {box.kind} needs a path or a name")
    if box.kind in ("edf", "uenv") and machine.scheduler != "slurm":
        raise InputError(f"job.container.kind: got {box.kind}, which is a part of Slurm's, on {machine.name} "
                         f"with {machine.scheduler}; expected apptainer, singularity, shifter or podman-hpc")
    _check_words(box)
    _check_open(box)
    _check_environment(job)
    _check_image(box)


def _check_words(box):
    """Raise InputError for keys that a kind has no place for."""
    if box.kind == "edf" and box.bind:
        raise InputError(f"job.container.bind: got {box.bind[0]!r} with edf; write it into the mounts of "
                         f"{box.image}")
    for key in ("bind", "args") if box.kind == "uenv" else ("view",):
        if getattr(box, key):
            raise InputError(f"job.container.{key}: {box.kind} has none; leave it out")
    if box.kind == "uenv" and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,:+@/=~-]*", box.image):
        raise InputError(f"job.container.image: got {box.image!r}; expected the name of a uenv, "
                         "such as pytorch/v2.9.1:v1")


def _check_open(box):
    """Raise InputError for words of apptainer that leave each rank without its number."""
    if box.kind not in ("apptainer", "singularity"):
        return
    before = ""
    for word in box.args:
        if before not in [f"-{letter}" for letter in TAKES] and _shuts(word):
            raise InputError(f"job.container.args: got {word!r} with {box.kind}, which keeps the launcher's "
                             "variables out: every rank would take itself for the only one; leave it out")
        before = word


def _shuts(word):
    """Whether a word of apptainer's keeps variables out: -C or --containall, alone or among other short
    options, such as -ec."""
    if word.startswith("--"):
        name, _, value = word.partition("=")
        return name in SHUT and value.lower() not in ("0", "f", "false")
    letters = re.match(f"-([^{TAKES}]*)", word)
    return bool(letters) and any(letter in letters[1] for letter in SHORT_SHUT)


def _check_environment(job):
    """Raise InputError for an environment that would not be active inside."""
    if not holds_python(job.container):
        return
    if job.conda_env:
        raise InputError("job.conda_env: got one beside job.container, where the machine's conda is not; "
                         "expected job.python with the path in the image, or job.venv made inside of it")
    if job.venv and job.python:
        raise InputError("job.venv: got one beside job.python and job.container, where nothing activates it; "
                         "expected one of the two")


def _check_image(box):
    """Raise InputError for an image that every rank would fetch, or that is not there."""
    if box.kind in FILES and "://" in box.image and not box.image.startswith("instance://"):
        raise InputError(f"job.container.image: got {box.image}, which every rank would fetch anew; "
                         f"expected a file: {box.kind} pull image.sif {box.image}")
    if _is_path(box) and not Path(box.image).exists():
        raise InputError(f"job.container.image: no file {image(box)}; build one (jobs/containers/README.md), "
                         "or write ${NAME} in its path where only the machine has it")


def directives(job):
    """The directives of a container, without the scheduler's sentinel. Returns a list of text."""
    box = job.container
    if box.kind != "uenv":
        return []
    return [f"--uenv={box.image}", *([f"--view={box.view}"] if box.view else [])]


def wrap(plan, exported):
    """The words between a launcher and Python. exported: names of the variables that the script exports.
    Returns a list of text in which ${NAME} is expanded. Raises InputError for a folder that cannot be
    bound."""
    job, box = plan.job, plan.job.container
    if box.kind == "edf":  # a word of srun's, which takes no more behind a program
        return [f"--environment={image(box)}", *box.args, *MOVE, plan.workdir, *job.wrap]
    if not holds_python(box):
        return list(job.wrap)
    passed = [name for name in (*exported, *SCRIPTS) if name not in HOSTS or name in job.env]
    if box.kind == "shifter":  # it passes what there is, but what the image sets would win
        return [*job.wrap, "shifter", f"--image={box.image}",
                *(f"--volume={_pair(bind)}" for bind in box.bind),
                *(f"--env={name}=${{{name}}}" for name in passed), *box.args]
    gpu = GPUS.get((box.kind, plan.machine.node.gpu)) if plan.layout.gpus_per_rank else None
    folders = [word for bind in [*_folders(plan), *box.bind] for word in (BINDS[box.kind], _pair(bind))]
    begin = [*([gpu] if gpu else []), *folders]
    if box.kind == "podman-hpc":  # the other ranks and their shared memory are outside of it
        names = [word for name in dict.fromkeys((*passed, *LAUNCHERS)) for word in ("--env", name)]
        return [*job.wrap, "podman-hpc", "run", "--rm", "--network=host", "--ipc=host", *begin,
                "--workdir", plan.workdir, *names, *box.args, box.image]
    return [*job.wrap, box.kind, "exec", *begin, *box.args, image(box)]


def _is_path(box):
    """Whether the image is a path that can be looked at from here."""
    text = box.image or ""
    named = box.kind == "edf" and "/" not in text and not text.endswith(".toml")
    return bool(text) and box.kind in FILES and not named and "://" not in text and not VARIABLE.search(text)


def _pair(bind):
    """SOURCE:PLACE of what may be a source alone."""
    return bind if ":" in bind else f"{bind}:{bind}"


def _folders(plan):
    """The folders that the ranks need, as they are named and where their links lead, without those that lie
    in another one. Returns a list of text."""
    work, stage = Path(plan.workdir), plan.job.stage
    files = [work / plan.config_path, Path(stage.source or plan.config.data.path).absolute()]
    starts = [Path(path).absolute() for path in plan.config.starts().values()]
    wanted = [work, work / plan.run_dir, *starts,
              *(path.parent for file in files for path in (file, file.resolve()))]
    wanted = list(dict.fromkeys(str(path) for folder in wanted for path in (folder, folder.resolve())))
    kept = [folder for folder in wanted
            if not any(Path(folder).is_relative_to(other) for other in wanted if other != folder)]
    for folder in kept:
        if re.search("[:,]", folder):
            raise InputError(f"job.container: {folder} cannot be bound; "
                             "expected a folder without colons and commas")
    return [*kept, *filter(None, [plan.job.venv]), *(["${stage}"] if stage.method != "none" else [])]

"""The table [job] of a run config: what is asked of a scheduler, in words that hold for all of them.

What may stand in a directive or a shell is decided here. A `Word` goes into a directive as it is; a `Text` is
one printable line and is quoted wherever a shell sees it; in an `Expanded`, ${NAME} becomes the value of the
variable on the machine, and everything else is quoted. A path that is `Here` means this machine, and is
expanded when the job is planned; one that is `There` is expanded by the script.
"""

import datetime
import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StringConstraints

from hpcfilter.base.alive import notice
from hpcfilter.base.errors import InputError
from hpcfilter.base.paths import expanded
from hpcfilter.base.settings import Table, form

LONGEST = 4096  # characters of a text
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SHORT_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")  # $NAME, which is ${NAME}
MODULE_WORDS = {"use": 1, "purge": 0, "load": 1, "unload": 1, "swap": 2}  # of `module` -> names behind it


def printable(text):
    """`text`, when it is one line that a terminal shows as it is. Raises ValueError for control characters,
    line ends and invisible ones."""
    if not text.isprintable():
        at = next(number for number, letter in enumerate(text) if not letter.isprintable())
        raise ValueError(f"expected one line of printable characters, but character {at + 1} is {text[at]!r}")
    return text


def _seconds(value):
    """Seconds of a walltime: "HH:MM:SS", "D-HH:MM:SS", or a TOML time."""
    if isinstance(value, datetime.time):
        value = value.isoformat()
    match = (re.fullmatch(r"(?:(\d{1,3})-)?(\d{1,4}):([0-5]\d):([0-5]\d)", value)
             if isinstance(value, str) and value.isascii() else None)
    seconds = sum(int(part or 0) * unit
                  for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True)) if match else 0
    if not seconds:
        raise ValueError('expected hours, minutes and seconds, such as "02:00:00", or "1-12:00:00" with days')
    return seconds


def clock(seconds):
    """Seconds as "H:MM:SS"."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def seconds_of(walltime):
    """Seconds (int) of a walltime, "[D-]HH:MM:SS". Raises InputError."""
    try:
        return _seconds(walltime)
    except ValueError as error:
        raise InputError(f"--walltime: got {walltime!r}, {error}") from None


def _signal(name):
    if not notice.can_be_caught(name):
        raise ValueError("expected a signal that can be caught, "
                         f"such as {', '.join(notice.SIGNALS)}{notice.likely(name)}")
    return name


def _not_the_scripts_own(name):
    if name in ("run", "stage", "told", "again", "pid", "status", "began", "count", "launcher", "program",
                "per_node", "next", "wrap", "seed", "HPCFILTER_JOB", "HPCFILTER_DEADLINE",
                "HPCFILTER_RUN_DIR"):
        raise ValueError("the job script has a variable of that name")
    return name


def _on_the_machine(path):
    """A path whose ~ and variables the script expands, on the machine: all of them as ${NAME}."""
    if path == "~" or path.startswith("~/"):
        path = f"${{HOME}}{path[1:]}"
    elif path.startswith("~"):
        raise ValueError("the home folder of somebody else is not known on the machine; write the whole path")
    return SHORT_VARIABLE.sub(r"${\1}", path)


def _module(entry):
    """An entry of job.modules: a module, or a word of `module` itself with as many names as it takes."""
    verb, *names = entry.split()
    if verb in MODULE_WORDS and len(names) != MODULE_WORDS[verb]:
        raise ValueError(f'expected behind {verb} {MODULE_WORDS[verb] or "no"} name'
                         f'{"s" * (MODULE_WORDS[verb] != 1)}, got {len(names)}')
    return " ".join([verb, _on_the_machine(names[0])]) if verb == "use" else entry


def _folder(path):
    if PurePosixPath(path).name in ("", ".."):
        raise ValueError("expected the name of a folder")
    return path


def _one_of(more):
    """The pattern of a word of letters, digits and `more` that begins with a letter or a digit."""
    return f"[A-Za-z0-9_][A-Za-z0-9_{more}]*"


Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST), AfterValidator(printable)]
Expanded = Annotated[str, StringConstraints(max_length=LONGEST), AfterValidator(printable)]
# a path that is expanded when the job is planned
Here = Annotated[Text, AfterValidator(expanded), Field(description="path")]
# a path that is expanded on the machine
There = Annotated[Expanded, AfterValidator(_on_the_machine), Field(description="path on the machine")]
# a word of a command line in which the script expands ${NAME}
Words = Annotated[Expanded, AfterValidator(_on_the_machine), Field(description="text")]
_Short = StringConstraints(max_length=255)
Word = Annotated[str, _Short, form(_one_of(".,:+@/=~-"), "one word of letters, digits and _ . , : "
                                   "+ @ / = ~ - that begins with a letter or a digit")]
Option = Annotated[str, _Short, form(r"--?[A-Za-z][A-Za-z0-9_-]*([ =][A-Za-z0-9_.,:+@/=~^&|*()\[\]{}-]+)?",
                                     "an option as the scheduler or the launcher takes it, "
                                     "such as --gres=gpu:2, without quotes and $")]
Name = Annotated[str, _Short, form(r"[A-Za-z_][A-Za-z0-9_]*",
                                   "the name of a variable: letters, digits and _")]
Feature = Annotated[str, _Short, form(_one_of(r".&|*()\[\]-"), "names of features, joined by & or |")]
Dependency = Annotated[str, _Short, form(_one_of(r".,:+@?()\[\]ƒ-"),
                                         "a dependency as the scheduler writes it, such as afterok:1234")]
JobName = Annotated[str, StringConstraints(max_length=64), form(_one_of(".+-"),
                                                                "one word of letters, digits and _ . + -")]
LogFolder = Annotated[Here, AfterValidator(_folder), form(r"""[^-"'\\$`#;:%^{}][^"'\\$`#;:%^{}]*""",
                                                          "a folder without quotes, semicolons and \\ $ ` # "
                                                          ": % ^ { } (they mean something to schedulers)")]
# seconds
Walltime = Annotated[int, BeforeValidator(_seconds), PlainSerializer(clock, when_used="json"),
                     Field(description='"[D-]HH:MM:SS"')]
Module = Annotated[Text, AfterValidator(_module)]
Bind = Annotated[There, form("[^:,]+(:[^:,]+(:ro)?)?", "SOURCE, SOURCE:PLACE or SOURCE:PLACE:ro, "
                             "without commas")]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]


class Stage(Table):
    """[job.stage]: the data on the nodes' own storage."""

    # copy: once per node, by the machine's launcher (srun, jsrun, mpiexec, flux run)
    method: Literal["none", "copy", "sbcast", "tar"] = "none"
    folder: There | None = None  # on the node; default: the machine's own
    source: Here | None = None  # of method = tar: the archive that holds a file named like data.path
    part: bool = False  # in shard order: each node takes only the rows that its ranks own


class Container(Table):
    """[job.container]: the image that Python runs in: training, doctor and staging alike. The script itself
    stays outside."""

    # what starts it; edf and uenv are parts of Slurm at CSCS
    kind: Literal["none", "apptainer", "singularity", "shifter", "podman-hpc", "edf", "uenv"] = "none"
    image: There | None = None  # its path or name; of edf the TOML file, of uenv the name
    # SOURCE[:PLACE[:ro]], beside the folders of the work, the run and the data
    bind: list[Bind] = Field([])
    args: list[Words] = Field([])  # further words, before the image
    view: Word | None = None  # of uenv, such as default


class Job(Table):
    """[job]: what is asked of the scheduler. What is left out the machine's profile says, or it is
    left out of the script."""

    machine: Text | None = None  # see: hpcfilter explain machines
    name: JobName = "hpcfilter"  # of the job, as the queue shows it
    account: Word | None = None  # what the job is charged to
    nodes: Positive = 1  # how many
    walltime: Walltime = 3600  # of one job
    queue: Word | None = None  # Slurm: the partition
    qos: Word | None = None  # Slurm: the quality of service
    reservation: Word | None = None  # nodes that are set aside
    # Slurm: features that the nodes must have; LSF: flags of the allocation
    constraint: Feature | None = None
    dependency: Dependency | None = None  # other jobs that must end first, in the scheduler's own words
    mail_user: Word | None = None  # who gets mail from the scheduler
    mail_type: Word | None = None  # when, in the scheduler's own words
    directives: list[Option] = Field([])  # anything else, as it stands behind #SBATCH and the like

    launch: list[Option] = Field([])  # further words of the launcher, such as --mpi=pmix

    ranks_per_node: Positive = 1  # processes on each node
    cpus_per_rank: Positive = 1  # as the scheduler counts them
    gpus_per_rank: Annotated[int, Field(ge=0, le=1)] = 0  # one, or none
    ranks_per_set: Positive = 1  # LSF: ranks that share a resource set, and see each other's GPUs
    omp_num_threads: Positive | None = None  # default: the rank's cores, half of them beside a GPU

    signal: Annotated[str, AfterValidator(_signal)] = "USR1"  # the scheduler's notice
    # between the notice and the end of the walltime: what leaving may take
    grace_seconds: Annotated[int, Field(ge=1, le=65535)] = 120
    requeue: bool = True  # go on in another job when the walltime has ended this one
    max_requeues: Annotated[int, Field(ge=0)] = 10  # at most so many times

    workdir: Here | None = None  # default: the folder of the submission
    log_dir: LogFolder = "logs"  # from the working folder, or absolute
    # that the script loads; also "use FOLDER", "purge", "unload NAME", "swap OLD NEW"
    modules: list[Module] = Field([])
    source: There | None = None  # a file of shell commands, read before the environment is made
    venv: There | None = None  # virtual environment that the script activates
    conda_env: Text | None = None  # conda environment that the script activates
    # default: that of the venv, the conda environment or the image, else the one that writes the script
    python: Here | None = None
    mpi4py: bool = True  # start the ranks by `python -m mpi4py`; false: they meet without MPI
    container: Container = Container()
    wrap: list[Words] = Field([])  # words between the launcher and Python, outside of a container
    # variables of the ranks; ${NAME} is expanded in the job
    env: dict[Annotated[Name, AfterValidator(_not_the_scripts_own)], Expanded] = Field({})
    stage: Stage = Stage()
    doctor: bool = False  # check the machine by `hpcfilter doctor` before the training

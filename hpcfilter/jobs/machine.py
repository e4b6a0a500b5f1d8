"""Site profiles: what one node is, what a job may ask for, and what the launcher wants to be told.
One TOML file per machine.

A profile is found by its name in the folders of $HPCFILTER_MACHINES, then in ~/.config/hpcfilter/machines,
then among those that come with hpcfilter. It may be like another, and then says only what differs. Nothing is
believed that was not checked on load.
"""

import datetime
import os
import string
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hpcfilter.base.errors import InputError
from hpcfilter.base.names import unknown
from hpcfilter.base.paths import expanded
from hpcfilter.base.settings import Settings, Table, form
from hpcfilter.jobs.schema import Expanded, Job, Name, Option, Positive, Text, There, Walltime, Word

SCHEDULERS = ("local", "slurm", "lsf", "pbs", "flux", "sge")
ACCOUNT = {"lsf": "-P", "pbs": "-A", "sge": "-P"}  # the option that names the account, where there are two
SILENT = "local", "pbs"  # schedulers that send no signal ahead of the walltime
# what an option may name in braces
NUMBERS = ("nodes", "ranks", "ranks_per_node", "cpus_per_rank", "gpus_per_node", "cpus_per_node")


def _only_numbers(option):
    try:
        fields = [field for field in string.Formatter().parse(option) if field[1] is not None]
    except ValueError:
        fields = [("", "", "", "")]
    if any(name not in NUMBERS or form or conversion for _, name, form, conversion in fields):
        raise ValueError(f"expected in braces only {', '.join(NUMBERS)}")
    return option


Template = Annotated[Option, AfterValidator(_only_numbers)]

Visibility = Annotated[str, form(r"((CUDA|ROCR|HIP)_VISIBLE_DEVICES=[0-9]+(,[0-9]+)*"
                                 r"|ZE_AFFINITY_MASK=[0-9]+(\.[0-9]+)?(,[0-9]+(\.[0-9]+)?)*)",
                                 "the devices by local rank, such as CUDA_VISIBLE_DEVICES=3,2,1,0 or "
                                 "ZE_AFFINITY_MASK=0,1")]
TemplateFile = Annotated[str, form(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "the name of a file beside the profile")]


class Node(Table):
    """[node]: one compute node, as the scheduler counts."""

    # that a job can use; default: those of this machine
    cpus: Positive = Field(default_factory=lambda: len(os.sched_getaffinity(0)))
    threads_per_core: Positive = 1  # how many of these share a core
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    gpu: Literal["", "nvidia", "amd", "intel"] = ""
    memory_gib: Positive | None = None  # that a job can use
    storage: There | None = None  # node-local folder, ${USER} and the like allowed
    storage_is_memory: bool = False  # what is staged there takes from memory_gib


class Options(Table):
    """Words for a command line or directives: always, with GPUs, with staging. {nodes} and
    the like become numbers."""

    always: list[Template] = Field([])
    gpus: list[Template] = Field([])
    stage: list[Template] = Field([])


class Limit(Table):
    """[[limits]]: what a queue takes; several lines for one queue when the walltime depends on the nodes."""

    queue: Word
    qos: Word | None = None  # Slurm: with this quality of service alone
    nodes: tuple[Positive, Positive]  # from, to
    walltime: Walltime
    jobs: Positive | None = None  # that a user may have there at a time, in any state
    chain: bool = True  # false: the site forbids jobs that follow each other
    preempt: Text | None = None  # how a job is ended when others need its nodes; default: it is not


class Links(Table):
    """[links]: what a message costs, for forecasts. Of the makers' papers unless `source` says
    that it was measured."""

    source: Text
    latency: Annotated[float, Field(gt=0, lt=1)]  # seconds
    between: Annotated[float, Field(gt=1e6)]  # bytes per second out of a node, all its network cards
    inside: Annotated[float, Field(gt=1e6)]  # bytes per second between two GPUs (or processes) of a node


class Machine(Table):
    """One site profile."""

    like: Text | None = None  # a profile that says the rest: tables go together, lists are replaced
    about: Text
    source: Text  # where the facts are from
    date: datetime.date  # of the source
    checked: Text  # what was run on the real thing, and what was not
    retired: Text | None = None  # since when the machine is gone
    hint: Text | None = None  # what a job needs there that no profile can know: `jobs check` says it
    container_hint: Text | None = None  # the same of job.container
    scheduler: Literal[SCHEDULERS]
    # beside the profile, or ibrun.sh.j2 (Slurm), openmpi.sh.j2 (PBS); default: SCHEDULER.sh.j2
    template: TemplateFile | None = None
    requires: list[Literal["account", "queue"]] = Field([])
    # default: -P of LSF and SGE, -A of PBS; -g is TSUBAME's, of qsub's command line
    account_option: Literal["-P", "-G", "-A", "-g"] | None = None
    queue_option: Literal["--partition", "--qos"] = "--partition"  # Slurm: what the site calls its queues
    parallel_environment: Word | None = None  # SGE: asked for as many cores as the ranks have
    submit_by: Literal["file", "input"] = "file"  # LSF: `bsub job.sh` or `bsub < job.sh`
    constraints: list[Word] = Field([])  # Slurm: features; LSF: flags of the allocation
    stage_constraints: list[Word] = Field([])  # further ones when the data is staged
    ask_gpus: bool = True  # Slurm, PBS: ask for GPUs where no directive does; false: the site refuses that
    # where the launcher does not bind GPUs: HPCFILTER_GPU of the ranks
    gpu_visibility: Visibility | None = None
    node: Node
    directives: Options = Options()
    launch: Options = Options()
    env: dict[Name, Expanded] = Field({})
    gpu_env: dict[Name, Expanded] = Field({})
    # beside gpu_env where the site's own libraries come with the image: edf, uenv, and the option --uenv
    image_env: dict[Name, Expanded] = Field({})
    job: Job = Job()  # defaults of the run config's [job]
    limits: list[Limit] = Field([])
    links: Links | None = None

    _path: Path | None = None
    _home: Path | None = None  # the profile that names the template, if it is another

    @property
    def name(self):
        """The name it was found by."""
        return self._path.stem

    @property
    def folder(self):
        """The folder of its file; of one that names no template itself, of the profile it is like."""
        return (self._home or self._path).parent

    @property
    def account_word(self):
        """The option in front of an account."""
        return self.account_option or ACCOUNT[self.scheduler]

    @property
    def tells_ranks(self):
        """Whether a notice of the scheduler comes to the ranks; if not, they leave by the deadline."""
        return self.scheduler not in SILENT and self.template != "ibrun.sh.j2"

    @model_validator(mode="after")
    def _gpus_are_of_a_kind(self):
        if bool(self.node.gpus) != bool(self.node.gpu):
            raise ValueError("node.gpus and node.gpu (nvidia, amd, intel) go together")
        return self


def files():
    """The folder jobs/ with what comes with hpcfilter: inside an installed package, or beside it in a
    checkout. Returns Path."""
    inside = Path(__file__).parent / "files"
    return inside if inside.exists() else Path(__file__).parents[2] / "jobs"


def folders():
    """Where profiles are looked for, the user's own first. Returns a list of Path. Raises InputError for a
    variable that is not set."""
    try:
        own = [Path(expanded(folder))
               for folder in os.environ.get("HPCFILTER_MACHINES", "").split(os.pathsep) if folder]
    except ValueError as error:
        raise InputError(f"HPCFILTER_MACHINES: {error}") from None
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [*own, home / "hpcfilter" / "machines", files() / "machines"]


def profiles():
    """All profiles that can be found: name -> path, the first of each name."""
    found = {}
    for folder in folders():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def load_machine(name):
    """The profile `name`. Returns Machine. Raises InputError for an unknown name, with those that are known,
    and for a profile that is wrong, or is like one that is."""
    found = profiles()
    if name not in found:
        raise InputError(f"job.machine: {unknown(name, found)}" if name
                         else f"job.machine: missing (--machine); known: {', '.join(found)}")
    return _loaded(found[name], ())[0]


def _loaded(path, below):
    """A profile with what it has of those it is like. below: paths of the profiles that are like it. Returns
    (Machine, its tables)."""
    settings = Settings(path, what="machine")
    parent, home = settings.tables.get("like"), None
    if isinstance(parent, str):
        machine, tables = _loaded(_parent(settings, parent, (*below, path)), (*below, path))
        home = None if "template" in settings.tables else machine._home or machine._path
        settings.tables = _over(tables, settings.tables)
    machine = settings.validated(Machine)
    machine._path, machine._home = path, home
    return machine, settings.tables


def _parent(settings, name, children):
    """The path of the profile that one is like: the first of that name that is not among its children, so
    that a profile of the user's own may be like ours of the same name."""
    there = [path for path in (folder / f"{name}.toml" for folder in folders()) if path.is_file()]
    if free := [path for path in there if path not in children]:
        return free[0]
    place = settings.place(["like"])
    if there:
        circle = " -> ".join([*(path.stem for path in children), name])
        raise InputError(f"{place}like: got {circle}, a circle; "
                         "expected a profile that is like none of these")
    raise InputError(f"{place}like: {unknown(name, profiles())}")


def _over(below, above):
    """Tables over others: what both have as a table goes together, everything else is the upper one's."""
    return below | {key: _over(below[key], value)
                    if isinstance(value, dict) and isinstance(below.get(key), dict) else value
                    for key, value in above.items()}

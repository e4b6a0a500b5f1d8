"""A plan becomes a job script. Nothing that came from a config or a profile reaches the script but quoted, or
as a word that was checked."""

import functools
import re
import shlex
import signal
from pathlib import Path

import jinja2
import jinja2.sandbox

from hpcfilter.base.errors import BrokenInvariant, InputError
from hpcfilter.jobs import container
from hpcfilter.jobs.local import mpirun
from hpcfilter.jobs.machine import files
from hpcfilter.jobs.plan import environment, python
from hpcfilter.jobs.schema import MODULE_WORDS, VARIABLE, clock
from hpcfilter.record.provenance import versions

_BARE = re.compile(r"[A-Za-z0-9_.,:+@/=~^&|*()\[\]{}?ƒ -]+")  # of directives: no quote, no $, no line end


class _Done(str):
    """Text of the script that needs no more quoting."""


def render(plan):
    """The job script of a plan. Returns text. Raises InputError when the machine is local
    and has no mpirun."""
    job, machine, layout = plan.job, plan.machine, plan.layout
    numbers = {"nodes": layout.nodes, "ranks": layout.ranks, "ranks_per_node": layout.ranks_per_node,
               "cpus_per_rank": layout.cpus_per_rank, "gpus_per_node": layout.gpus_per_node,
               "cpus_per_node": layout.cpus_per_node}
    staged = job.stage.method != "none"

    def options(table):
        chosen = table.always + (table.gpus if layout.gpus_per_rank else []) + (table.stage if staged else [])
        return [option.format_map(numbers) for option in chosen]

    directives = [*options(machine.directives), *job.directives, *container.directives(job)]
    launch = [*options(machine.launch), *job.launch]
    values = dict(
        version=versions()["hpcfilter"], job=job, machine=machine, layout=layout, workdir=plan.workdir,
        run_dir=plan.run_dir, script=plan.script, script_word=shlex.quote(plan.script),
        config=plan.config_path, modules=[_module(entry) for entry in job.modules],
        settings=[word for setting in plan.settings for word in ("--set", setting)], repeats=plan.repeats,
        seed=plan.config.seed, **_inside(plan), staged=_staged(plan) if staged else None,
        directives=[*_resources(plan, [*directives, *launch]), *directives],
        launch=[word for option in launch for word in option.split(" ", 1)],
        constraints=_constraints(plan, staged),
        hours_minutes=f"{-(-job.walltime // 60) // 60}:{-(-job.walltime // 60) % 60:02d}",
        grace_minutes=-(-job.grace_seconds // 60), signal_number=int(signal.Signals[f"SIG{job.signal}"]),
        mpirun=mpirun(layout.ranks) if machine.scheduler == "local" else None)
    try:
        return (_templates(machine.folder if machine.template else None)
                .get_template(machine.template or f"{machine.scheduler}.sh.j2").render(values))
    except jinja2.TemplateError as error:
        raise InputError(f"{machine.folder / (machine.template or '')}: template: {type(error).__name__}: "
                         f"{' '.join(str(error).split())}") from None


def _inside(plan):
    """What the script needs to know of the image, and what starts Python behind a launcher: the interpreter,
    and what stands before it."""
    job, box, text = plan.job, plan.job.container, python(plan)
    exported = environment(plan)
    wrap = container.wrap(plan, exported)
    word = _expand(text) if job.venv and not job.python else _quoted(text)
    return {"environment": exported, "open_ended": _open_ended(exported), "wrap": wrap,
            "python": _Done(f'"${{wrap[@]}}" {word}' if wrap else word), "image": container.image(box),
            "bound": box.kind in container.BINDS, "holds_python": container.holds_python(box)}


def _open_ended(exported):
    """The lists of folders among exported variables that begin or end with a variable, which may be unset.
    Returns a set of names."""
    return {name for name, text in exported.items() if name.endswith("PATH")
            and re.search(rf"^{VARIABLE.pattern}:|:{VARIABLE.pattern}$", text)}


def _module(entry):
    """The words behind `module` of an entry of job.modules."""
    verb, _, names = entry.partition(" ")
    if verb not in MODULE_WORDS:
        return _Done(f"load {_quoted(entry)}")
    return _Done(" ".join([verb, *(_expand(name) for name in names.split())]))


def _resources(plan, said):
    """The directives that ask for nodes and GPUs where the profile says none. said: the options of
    the profile and the job."""
    layout, node = plan.layout, plan.machine.node
    if (plan.machine.scheduler == "slurm" and layout.gpus_per_node and plan.machine.ask_gpus
            and not any("gpu" in option or "gres" in option for option in said)):
        return [f"--gpus-per-node={layout.gpus_per_node}"]
    if plan.machine.scheduler == "pbs" and not any(option.startswith("-l select") for option in said):
        gpus = f":ngpus={layout.gpus_per_node}" if layout.gpus_per_node and plan.machine.ask_gpus else ""
        return [f"-l select={layout.nodes}:ncpus={node.cpus}{gpus}:mpiprocs={layout.ranks_per_node}"]
    return []


def _constraints(plan, staged):
    """What the nodes must be, or the allocation: the user's, else the machine's, and what staging needs. On
    LSF "gpumps&smt1" is two words."""
    own, also = plan.job.constraint, plan.machine.stage_constraints if staged else []
    if own and plan.machine.scheduler == "lsf":
        return [*own.split("&"), *also]
    return [*([f"({own})" if also and "|" in own else own] if own else plan.machine.constraints), *also]


def _staged(plan):
    """What the script needs to know of the staging."""
    stage, data = plan.job.stage, plan.config.data.path
    return {"folder": stage.folder or plan.machine.node.storage,
            "source": str(Path(stage.source or data).absolute()), "name": data.name,
            "method": {"sbcast": "check"}.get(stage.method, stage.method)}


@functools.cache
def _templates(folder):
    """Our templates, then those in a folder, or None. What they put out is quoted, unless a filter has made
    it safe; they can call no Python."""
    places = [files() / "templates", *([folder] if folder else [])]
    environment = jinja2.sandbox.SandboxedEnvironment(loader=jinja2.FileSystemLoader(places),
                                                      undefined=jinja2.StrictUndefined, trim_blocks=True,
                                                      lstrip_blocks=True, keep_trailing_newline=True,
                                                      finalize=_quoted)
    environment.filters.update(bare=_bare, file=_file, expand=_expand, words=_words, clock=clock)
    return environment


def _quoted(value):
    """Any value as one word of the shell."""
    if isinstance(value, (_Done, int)):
        return value
    if not isinstance(value, str) or not value.isprintable():
        raise BrokenInvariant(f"render: {value!r} cannot stand in a script")
    return shlex.quote(value)


def _bare(value):
    """A word of a directive, as it is."""
    if not _BARE.fullmatch(value):
        raise BrokenInvariant(f"render: {value!r} cannot stand in a directive")
    return _Done(value)


def _file(path):
    """The path of a file in a directive, in quotes where a scheduler would take it for several words."""
    if _BARE.fullmatch(path.replace("%", "").replace(" ", "?")) and " " not in path:
        return _Done(path)
    if not path.isprintable() or re.search(r'["\\$`]', path):
        raise BrokenInvariant(f"render: {path!r} cannot stand in a directive")
    return _Done(f'"{path}"')


def _words(values):
    """Each value as one word of the shell, behind a space."""
    return _Done("".join(f" {_quoted(value)}" for value in values))


def _expand(text):
    """One word of the shell in which ${NAME} becomes the value of that variable, or nothing, and
    nothing else means anything."""
    plain = _quoted(text)  # refuses what is not one printable line
    parts = VARIABLE.split(text)  # literal, name, literal, name, ..., literal
    if len(parts) == 1:
        return _Done(plain)
    return _Done('"' + "".join(f"${{{part}-}}" if number % 2 else re.sub(r'([\\"$`])', r"\\\1", part)
                               for number, part in enumerate(parts)) + '"')
